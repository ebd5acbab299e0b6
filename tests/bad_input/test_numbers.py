"""Weights and results that are no numbers end in one line, and in no file called a result."""

import json

import numpy as np
import pytest
from bad_input.harness import Case, call_here
from bad_input.wrong_files import TINY
from safetensors.numpy import load_file, save_file

WORDS = (
    "--video {f}/video.mp4 --mask {f}/mask.mp4 --output_path result.mp4 --num_inference_steps 1 --inpainting_frames 5 "
    "--height 32 --width 48 --img_inpainting_model none --quiet --device cpu"
)
BACKBONE, BRANCH = TINY / "CogVideoX-5b-I2V", TINY / "VideoPainter/checkpoints/branch"
ADAPTER = TINY / "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors"


def changed(source, target, change, name=None) -> None:
    """A weights file with one tensor changed."""
    weights = load_file(source)
    name = name or sorted(one for one in weights if one.endswith("weight") and weights[one].ndim > 1)[0]
    weights[name] = change(weights[name].copy())
    header = source.read_bytes()[8 : 8 + int.from_bytes(source.read_bytes()[:8], "little")]
    save_file(weights, target, metadata=json.loads(header).get("__metadata__"))


def with_nan(tensor):
    tensor.flat[0] = np.nan
    return tensor


def linked(source, target) -> None:
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            place.symlink_to(path)


def answer(words, files, folder):
    found = call_here(Case("infer/inpaint.py", f"{WORDS} {words}", ""), files, folder, models=True)
    assert found.code == 2, found.stderr
    assert "Traceback" not in found.stderr
    assert not list(folder.glob("result.mp4"))
    assert not list(folder.glob("result.json"))
    return found.stderr.splitlines()[-1]


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_nan_in_a_backbone(part, files, tmp_path):
    linked(BACKBONE, tmp_path / "model")
    (file,) = (tmp_path / "model" / part).glob("*.safetensors")
    source = file.resolve()
    file.unlink()
    changed(source, file, with_nan)
    line = answer(f"--model_path {tmp_path}/model --inpainting_branch {BRANCH}", files, tmp_path)
    assert "expected finite numbers, got NaN" in line
    assert f"model/{part}" in line


def test_nan_in_a_branch_or_an_adapter(files, tmp_path):
    linked(BRANCH, tmp_path / "branch")
    (file,) = (tmp_path / "branch").glob("*.safetensors")
    file.unlink()
    changed(next(BRANCH.glob("*.safetensors")), file, with_nan)
    assert "branch" in answer(f"--inpainting_branch {tmp_path}/branch", files, tmp_path)
    changed(ADAPTER, tmp_path / "adapter.safetensors", with_nan)
    line = answer(f"--id_adapter_resample_learnable_path {tmp_path}/adapter.safetensors", files, tmp_path)
    assert "adapter.safetensors" in line


def test_what_overflows_while_it_runs(files, tmp_path):
    """Finite weights, infinite results."""
    linked(BACKBONE, tmp_path / "model")
    (file,) = (tmp_path / "model/transformer").glob("*.safetensors")
    source = file.resolve()
    file.unlink()
    changed(source, file, lambda tensor: np.full(tensor.shape, 3e38, np.float32), name="proj_out.weight")
    line = answer(f"--model_path {tmp_path}/model --inpainting_branch {BRANCH}", files, tmp_path)
    assert line.startswith("error: latents of frames 0 to 5: expected finite numbers")
