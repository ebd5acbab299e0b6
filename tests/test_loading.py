"""Loading: checks without torch, memory modes, quantization, strictness. On the checkpoint that the project ships."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_mask, noise_video

from videopainter import load_pipeline
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.memory import Workload
from videopainter.pipelines.placement import choose_memory, place
from videopainter.pipelines.quantization import check_quantization

TINY = Path(__file__).parents[1] / "ckpt" / "tiny"
MODEL, BRANCH = TINY / "CogVideoX-5b-I2V", TINY / "VideoPainter" / "checkpoints" / "branch"
ADAPTER = TINY / "VideoPainterID" / "checkpoints"


def inpaint(pipe, **options):
    pipe.set_progress_bar_config(disable=True)
    fast = {"num_inference_steps": 1, "num_frames": 5, "height": 32, "width": 48, "output_type": "np"}
    inputs = {"video": noise_video(5), "masks": moving_mask(5)}
    return pipe(prompt="a red ball", **{**inputs, **fast, **options}).frames[0]


@pytest.fixture(scope="module")
def expected():
    return inpaint(load_pipeline(MODEL, inpainting_branch=BRANCH, memory="full"))


@pytest.mark.parametrize("memory", ["auto", "model_offload", "group_offload", "sequential"])
def test_memory_modes_give_the_same_video(memory, expected):
    pipe = load_pipeline(MODEL, inpainting_branch=BRANCH, memory=memory, device="cpu")
    for _ in range(2):
        assert np.array_equal(inpaint(pipe), expected)


def test_block_by_block_the_text_encoder_is_never_on_the_device_as_a_whole(monkeypatch):
    """It alone would not fit on a small card. What is moved to the meta device cannot come back."""
    monkeypatch.setattr(torch, "meta", torch.cpu, raising=False)  # upstream asks for the device's module
    pipe = load_pipeline(MODEL, inpainting_branch=BRANCH, memory="full", device="cpu")
    place(pipe, torch.device("meta"), "group_offload", tiling=True)
    assert {p.device.type for p in pipe.text_encoder.parameters()} == {"cpu"}
    assert {p.device.type for p in pipe.transformer.transformer_blocks.parameters()} == {"cpu"}
    for part in (pipe.vae, pipe.branch):
        assert {p.device.type for p in part.parameters()} == {"meta"}
    assert pipe._execution_device.type == "meta"


@pytest.mark.slow
def test_tiles_of_offloaded_vaes_are_whole_latents():
    """Larger than a tile, and larger than those that upstream would choose for this VAE, 32×48: 9 rows for 8."""
    pipe = load_pipeline(MODEL, inpainting_branch=BRANCH, memory="model_offload", device="cpu")
    for height, width in ((256, 400), (64, 96)):
        video, masks = noise_video(1, height, width), moving_mask(1, height, width)
        assert inpaint(pipe, video=video, masks=masks, height=height, width=width).shape == video.shape


def test_upstream_loads_the_backbone():
    from diffusers import CogVideoXImageToVideoPipeline

    CogVideoXImageToVideoPipeline.from_pretrained(MODEL)


def test_id_adapter_and_ddim():
    pipe = load_pipeline(MODEL, inpainting_branch=BRANCH, id_adapter=ADAPTER, scheduler="ddim")
    assert pipe.id_adapter is not None
    assert inpaint(pipe).shape == (5, 32, 48, 3)


def test_quantized_weights_stay_close(expected):
    pytest.importorskip("torchao", reason="the extra `quant` is not installed")
    pipe = load_pipeline(MODEL, inpainting_branch=BRANCH, quantization="int8")
    assert np.abs(inpaint(pipe).astype(int) - expected).mean() < 3


def test_a_missing_quantization_library_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="quantization int8: expected torchao"):
        check_quantization("int8")


def copy_of(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def break_backbone(folder):
    shutil.rmtree(folder / "vae")


def break_weights(folder):
    path = next((folder / "transformer").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])


def make_lfs_pointer(folder):
    path = next((folder / "vae").glob("*.safetensors"))
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 430000000\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_backbone, "missing: vae"),
        (break_weights, "download complete"),
        (make_lfs_pointer, "git-lfs pointer"),
        (lambda folder: (folder / "model_index.json").unlink(), "model_index.json is missing"),
        (lambda folder: (folder / "transformer" / "config.json").unlink(), "config.json is missing"),
        (
            lambda folder: edit_config(folder / "transformer", _class_name="FluxPipeline"),
            "transformer of CogVideoX or Wan",
        ),
        (lambda folder: (folder / "transformer" / "config.json").write_text("{"), "expected JSON"),
    ],
)
def test_damaged_backbones(damage, message, tmp_path):
    folder = copy_of(MODEL, tmp_path)
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        check_checkpoints(folder, BRANCH)
    assert "\n" not in str(error.value)


def test_missing_folders():
    for arguments in (("nowhere",), (MODEL, "nowhere"), (MODEL, BRANCH, "nowhere")):
        with pytest.raises(ValueError, match="nowhere"):
            check_checkpoints(*arguments)


def test_parts_of_other_models(tmp_path):
    branch = copy_of(BRANCH, tmp_path)
    edit_config(branch, num_attention_heads=48)
    with pytest.raises(ValueError, match="num_attention_heads"):
        check_checkpoints(MODEL, branch)
    with pytest.raises(ValueError, match="expected CogvideoXBranchModel, got"):
        check_checkpoints(MODEL, MODEL / "transformer")
    with pytest.raises(ValueError, match="expected LoRA weights"):
        check_checkpoints(MODEL, BRANCH, next((MODEL / "vae").glob("*.safetensors")))


def test_weights_must_match_exactly(tmp_path):
    branch = copy_of(BRANCH, tmp_path)
    edit_config(branch, num_layers=3)
    with pytest.raises(ValueError, match=r"3 layers|as its weights|missing"):
        load_pipeline(MODEL, inpainting_branch=branch)


def test_unknown_names():
    for name in ("memory", "quantization", "scheduler"):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            load_pipeline(MODEL, inpainting_branch=BRANCH, **{name: "much"})


def test_importing_and_checking_need_no_torch():
    code = (
        "import sys, videopainter; from videopainter.models.checks import check_checkpoints;"
        "from videopainter.pipelines.settings import InpaintSettings;"
        f"check_checkpoints({str(MODEL)!r}, {str(BRANCH)!r}, {str(ADAPTER)!r});"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_mode_is_chosen_from_file_headers_or_refused_in_one_line():
    work = Workload(height=64, width=96, num_frames=17, form="exact", hole_share=0.5)
    options = {"workloads": [work], "itemsize": 2, "quantization": "none"}
    weights = sum(tensor_file.stat().st_size for tensor_file in [*MODEL.rglob("*.safetensors")])
    choice = choose_memory(MODEL, BRANCH, [ADAPTER], free=8 * 2**30, **options)
    assert choice.mode == "full" and 0.4 * weights < choice.peak < 2**30
    with pytest.raises(ValueError, match="memory: expected at least") as error:
        choose_memory(MODEL, BRANCH, [ADAPTER], free=2**29, **options)
    assert "\n" not in str(error.value)


def test_a_mode_that_is_asked_for_is_kept_and_said_not_to_fit(caplog):
    options = {"workloads": [Workload(height=64, width=96, num_frames=17)], "itemsize": 2, "quantization": "none"}
    for mode in ("full", "sequential"):
        assert choose_memory(MODEL, BRANCH, [], free=8 * 2**30, mode=mode, **options).mode == mode
        assert not caplog.messages
        choice = choose_memory(MODEL, BRANCH, [], free=2**29, mode=mode, **options)
        assert (choice.mode, choice.tiling) == (mode, True)
        (line,) = caplog.messages
        assert line.startswith(f"memory {mode} takes about") and "0.5 are free" in line and "\n" not in line
        caplog.clear()
