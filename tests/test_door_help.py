"""What a door shows of its flags, and what a checkpoint says suits it."""

import json
from functools import partial

import pytest

from videopainter.cli import app, cache_latents, evaluate, inpaint, train
from videopainter.cli.door import DoorParser
from videopainter.editing import options as editing
from videopainter.errors import InputError
from videopainter.evaluation import options as evaluation
from videopainter.runs import options as runs
from videopainter.runs.weights import DEFAULTS_FILE


@pytest.mark.parametrize(
    ("groups", "common"),
    [
        (runs.INPAINT_OPTIONS, runs.INPAINT_COMMON),
        (editing.EDIT_BENCH_OPTIONS, editing.EDIT_BENCH_COMMON),
        (evaluation.EVALUATE_OPTIONS, evaluation.EVALUATE_COMMON),
        (cache_latents.CACHE_OPTIONS, cache_latents.CACHE_COMMON),
        *((tuple(groups.values()), common) for groups, common in map(train.groups_of, ("branch", "id_adapter"))),
    ],
)
def test_common_flags_exist_and_are_few(groups, common):
    known = {action.dest for action in DoorParser(groups)._actions}
    assert set(common) <= known and len(common) <= 24


def test_help_is_short_and_help_all_whole():
    parser = DoorParser(runs.INPAINT_OPTIONS, common=runs.INPAINT_COMMON)
    short, whole = parser.format_help(), parser.format_help_all()
    assert "--video" in short and "--kept_latents" not in short and "more flags: --help-all" in short
    hidden = int(short.splitlines()[-1].split()[0])
    assert hidden == len({action.dest for action in parser._actions} - set(runs.INPAINT_COMMON) - {"help", "help_all"})
    assert all(f"--{action.dest}" in whole for action in parser._actions if action.dest not in ("help", "help_all"))
    assert parser.format_help() == short and len(short.splitlines()) < 100


DOORS = {
    "inpaint": (inpaint.read_options, "--output_path", "--kept_latents"),
    "branch": (partial(train.read_options, "branch"), "--output_dir", "--adam_beta1"),
    "adapter": (partial(train.read_options, "id_adapter"), "--rank", "--lora_alpha"),
    "cache": (cache_latents.read_options, "--variants", "--p_circle"),
}


@pytest.mark.parametrize("door", DOORS)
def test_help_shows_what_people_use_and_help_all_the_rest(door, capsys):
    read, common, rare = DOORS[door]
    for flag, shown in (("--help", False), ("--help-all", True)):
        with pytest.raises(SystemExit) as ended:
            read([flag])
        text = capsys.readouterr().out
        assert ended.value.code == 0 and common in text and (rare in text) == shown, flag
        assert ("more flags: --help-all" in text) == (not shown)


@pytest.fixture
def model(tmp_path):
    def write(content):
        (tmp_path / DEFAULTS_FILE).write_text(content if isinstance(content, str) else json.dumps(content))
        return str(tmp_path)

    return write


@pytest.mark.parametrize("door", [inpaint, evaluate])
def test_a_checkpoint_names_what_suits_it(model, door):
    folder = model({"num_inference_steps": 7, "guidance_scale": 1.5, "mask_add": False})
    sampling = door.read_options(["--model_path", folder]).sampling
    assert (sampling.num_inference_steps, sampling.guidance_scale, sampling.mask_add) == (7, 1.5, False)


def test_flags_that_are_given_win_and_other_checkpoints_keep_the_releases(model, tmp_path):
    folder = model({"num_inference_steps": 7})
    # Also where what is given is the flag's own default.
    sampling = inpaint.read_options(["--model_path", folder, "--num_inference_steps", "50"]).sampling
    assert sampling.num_inference_steps == 50
    (tmp_path / DEFAULTS_FILE).unlink()
    assert inpaint.read_options(["--model_path", folder]).sampling.num_inference_steps == 50


def test_the_tiny_checkpoint_is_quick():
    options = inpaint.read_options([])
    assert (options.sampling.num_inference_steps, options.sampling.guidance_scale) == (4, 2.0)
    # Without a first frame that others fill, in the app, too, which has no flags for steps and guidance.
    assert options.prompts.img_inpainting_model == app.read_options([]).img_inpainting_model == "none"
    assert app.read_options(["--img_inpainting_model", "opencv"]).img_inpainting_model == "opencv"


@pytest.mark.parametrize(
    "content",
    ["[1]", "{", {"steps": 4}, {"output_path": "x"}, {"seed": [1]}, {"seed": None}, {"num_inference_steps": 0}],
)
def test_damaged_defaults_are_one_line(model, content):
    with pytest.raises(InputError) as told:
        inpaint.read_options(["--model_path", model(content)])
    assert "\n" not in str(told.value)
