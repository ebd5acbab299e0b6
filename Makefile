# `make demo` and `make test` work on a fresh machine: both set up what they need in .venv first.
PYTHON ?= python3
VENV ?= .venv
# Extras to install: quant edit train app eval data decord.
EXTRAS ?=
# For a CPU-only PyTorch on Linux: make setup TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_ARGS ?=

BIN := $(VENV)/bin
comma := ,
empty :=
space := $(empty) $(empty)
WITH_EXTRAS = $(if $(EXTRAS),[$(subst $(space),$(comma),$(EXTRAS))],)
# Other extras, another stamp: what is asked for later is installed, too.
INSTALLED = $(BIN)/.installed$(subst $(space),,$(patsubst %,-%,$(EXTRAS)))

.PHONY: setup dev demo demo-edit app weights test test-slow test-sizes test-kills test-docs test-app test-launch check format

setup: $(INSTALLED)

$(INSTALLED): diffusers/pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, got %d.%d: make PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet "torch==2.13.0" $(TORCH_ARGS)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet -e "diffusers$(WITH_EXTRAS)"
	touch $@

dev: $(BIN)/.dev

$(BIN)/.dev: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e "diffusers[dev]"
	touch $@

# A ball goes from a clip of our own, on a CPU: other frames show nearly all that it hides, the tiny checkpoint paints the
# rest. The video, a comparison and a contact sheet in outputs/demo.
demo: setup
	$(BIN)/python infer/inpaint.py --remove --propagate all \
		--video data/demo/video.mp4 --mask data/demo/mask.mp4 \
		--output_path outputs/demo/result.mp4 --save_comparison --contact_sheet --overwrite
	@echo "Look at outputs/demo/: result.mp4, its comparison and its contact sheet."

# An edit by instruction, its captions from a file instead of a language model: outputs/demo-edit. It shows how editing runs;
# the tiny checkpoint paints the new object's colour, hardly its shape (ckpt/tiny/README.md).
demo-edit: setup
	$(BIN)/python infer/edit.py --video data/demo/video.mp4 --mask data/demo/mask.mp4 --mask_shape hull --dilate_size 5 --feather 8 \
		--video_editing_instruction "change the red ball to a blue star" --llm_model replay:data/demo/edit.json \
		--output_path outputs/demo-edit/result.mp4 --save_comparison --contact_sheet --overwrite

# The app in the browser, on the tiny checkpoint and a CPU; flags of one's own: make app APP="--port 8000".
APP ?= --open
app: setup
	$(BIN)/python -c 'import gradio' 2>/dev/null || $(BIN)/python -m pip install --quiet -e "diffusers[app,edit]"
	$(BIN)/python app/app.py $(APP)

# Published weights into ckpt/: make weights WEIGHTS="edit evaluate"; names: data_utils/download_weights.py --help.
WEIGHTS ?= inpaint
weights: setup
	$(BIN)/python data_utils/download_weights.py $(WEIGHTS)

test: dev
	$(BIN)/python -m pytest -q -n 2

# Those of the tests that take long: whole doors killed and gone on with, several processes, tables of colours.
test-slow: dev
	$(BIN)/python -m pytest -q -n 2 -m slow

# The published 5B models, all blocks, on an accelerator of shapes alone; `test` has a few blocks of each.
test-sizes: dev
	VIDEOPAINTER_WHOLE_SIZES=1 $(BIN)/python -m pytest -q -n 2 tests/test_fake_accelerator.py

# Every command that the documents show and that needs no weights, in a copy of this folder.
test-docs: dev
	$(BIN)/python -m pytest -q -n 2 tests/docs

# The app in a headless Chromium, the system's own (without one they are skipped, and say so).
test-app: dev
	$(BIN)/python -m pytest -q -n 0 tests/app

# Forty kills at any moment over all doors, or KILLS: started again they end as if nothing had been.
KILLS ?= 40
test-kills: dev
	$(BIN)/python tests/kills.py --kills $(KILLS)
	VIDEOPAINTER_ALL_KILLS=1 $(BIN)/python -m pytest -q -n 0 -m slow tests/test_build_vpdata.py -k killed

# Both training scripts in every way that runs without a GPU, killed and resumed: minutes. Needs EXTRAS=train.
# LAUNCHES=few: six of the eighteen.
LAUNCHES ?= all
test-launch: dev
	VIDEOPAINTER_ALL_ENGINES=1 VIDEOPAINTER_LAUNCHES=$(LAUNCHES) $(BIN)/python -m pytest -q -n 0 -m "" tests/launch tests/test_sharded_training.py

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tests/house.py
	$(BIN)/pyright

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
