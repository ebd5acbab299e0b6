"""Both training scripts as they stand, started in every way that runs without a GPU: train, be killed, go on, infer.

Two processes on gloo and bf16 wherever there are several. What a launch has to show stands in `check_fresh` and
`check_resumed`; when it is killed, in trainings.py.
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from pathlib import Path

import pytest
import torch
from launch.processes import Launch
from launch.trainings import (
    FLAGS,
    KILLED,
    LAST,
    SAVED,
    TINY_WEIGHTS,
    Trained,
    Weights,
    planned_rate,
    resume,
    train_until_killed,
    variables,
)
from launch.ways import REFUSED, SCRIPTS, TRAIN, WAYS, Way, cells, has_compiler
from safetensors.torch import load_file

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.data.video.reader import open_video

# Two processes and one sum the same numbers in the same order, before the kill as after it.
SAME = 1e-6


def test_every_config_is_launched():
    ours = {way.config for way in [*WAYS, REFUSED]} - {None}
    assert ours == {path.name for path in TRAIN.glob("accelerate_config_*.yaml")}


@pytest.mark.parametrize(
    ("way", "task"),
    cells(os.environ.get("VIDEOPAINTER_LAUNCHES", "all")),
    ids=lambda value: getattr(value, "name", value),
)
def test_training_is_killed_and_goes_on(way: Way, task: str, data: Path, wan: Weights, tmp_path: Path, cell) -> None:
    weights = wan if way.wan else TINY_WEIGHTS
    if way.compiles and not has_compiler():
        reason = "no g++ and ninja: DeepSpeed's CPU Adam cannot be compiled"
        cell(way.name, task, "fresh", "skipped")
        cell(way.name, task, "resumed", "skipped")
        pytest.skip(reason)
    out, started = tmp_path / "run", time.monotonic()
    try:
        fresh = train_until_killed(way, task, data, out, **weights.variables)
        check_fresh(fresh)
        check_weights(task, fresh.checkpoint)
        check_inference(task, weights, fresh.checkpoint, data, tmp_path / "fresh.mp4")
    except BaseException:
        cell(way.name, task, "fresh", "FAILED")
        raise
    cell(way.name, task, "fresh", f"ok {time.monotonic() - started:.0f} s, loss {fresh.rows[KILLED]['loss']:.4f}")
    started = time.monotonic()
    try:
        resumed = resume(way, task, data, out, **weights.variables)
        apart = check_resumed(fresh, resumed)
        check_weights(task, resumed.checkpoint)
        check_inference(task, weights, resumed.checkpoint, data, tmp_path / "resumed.mp4")
    except BaseException:
        cell(way.name, task, "resumed", "FAILED")
        raise
    cell(way.name, task, "resumed", f"ok {time.monotonic() - started:.0f} s, apart by {apart:.0e}")


# ---- what a launch has to show


def check_fresh(fresh: Trained) -> None:
    """Every step in numbers, the planned learning rate, a checkpoint, a validation with a video."""
    assert list(fresh.rows) == list(range(1, KILLED + 1))
    check_rows(fresh)
    assert fresh.checkpoint.name == f"checkpoint-{SAVED}", "killed too late to find out what resuming does"
    assert fresh.rates and fresh.rates == pytest.approx([planned_rate(SAVED)] * len(fresh.rates))
    assert fresh.validated == [0]
    check_video(fresh.videos[0])


def check_resumed(fresh: Trained, resumed: Trained) -> float:
    """The steps after the checkpoint again, with the same numbers, then the rest; how far they are apart."""
    assert list(resumed.rows) == list(range(1, LAST + 1))
    check_rows(resumed)
    apart = 0.0
    for step in range(1, KILLED + 1):
        for name in ("loss", "loss_full", "loss_masked", "grad_norm", "lr"):
            before, after = fresh.rows[step][name], resumed.rows[step][name]
            apart = max(apart, abs(before - after) / abs(before))
    assert apart <= SAME, f"losses before and after resuming are apart by {apart:.1e}"
    assert resumed.checkpoint.name == f"checkpoint-{LAST}"
    # What the optimizer holds, not what was logged.
    assert resumed.rates and resumed.rates == pytest.approx([planned_rate(LAST)] * len(resumed.rates), abs=1e-9)
    assert resumed.validated == [0, KILLED]
    check_video(resumed.videos[KILLED])
    return apart


def check_rows(trained: Trained) -> None:
    for step, row in trained.rows.items():
        assert row["lr"] == pytest.approx(planned_rate(step), abs=1e-9)
        assert math.isfinite(row["loss"]) and 0 < row["loss"] < 10
        assert math.isfinite(row["grad_norm"]) and row["grad_norm"] > 0


def check_video(files: list[Path]) -> None:
    (path,) = files
    frames = open_video(path).read(0, 5)
    assert len(frames) == 5 and frames.std() > 10


def check_weights(task: str, checkpoint: Path) -> None:
    """They are numbers, and those that start at zero do no more."""
    path, starts = (
        (checkpoint / "branch/diffusion_pytorch_model.safetensors", "branch_blocks.")
        if task == "branch"
        else (checkpoint / "pytorch_lora_weights.safetensors", "lora_B")
    )
    weights = load_file(path)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    started = {name: tensor for name, tensor in weights.items() if starts in name}
    assert started
    assert all(tensor.abs().max() > 0 for tensor in started.values())


def check_inference(task: str, weights: Weights, checkpoint: Path, data: Path, result: Path) -> None:
    """`infer/inpaint.py` takes the weights."""
    branch, adapter = checkpoint / "branch", []
    if task != "branch":
        branch = weights.branch
        adapter = ["--id_adapter_resample_learnable_path", str(checkpoint)]
    words = f"""
        --model_path {weights.backbone} --inpainting_branch {branch} --img_inpainting_model none
        --image_or_video_path {data / "videovo/raw_video"} --inpainting_sample_id 0
        --inpainting_mask_meta {data / "pexels_videovo_test_dataset.csv"} --output_path {result}
        --height 32 --width 48 --inpainting_frames 5 --num_inference_steps 1 --guidance_scale 1
    """.split()
    assert inpaint(read_options([*words, *adapter])) == 0
    made = [result] if result.is_file() else sorted(result.glob("*.mp4"))
    check_video(made)


# ---- beside the matrix


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed (EXTRAS=train)")
def test_wandb_offline_gets_the_videos_of_both_launches(data: Path, tmp_path: Path) -> None:
    way, out = next(way for way in WAYS if way.config is None), tmp_path / "run"
    tracker = {"REPORT_TO": "wandb", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    train_until_killed(way, "branch", data, out, **tracker)
    first = {path.name for path in (out / "logs").rglob("*.mp4")}
    assert len(first) == 1
    resume(way, "branch", data, out, **tracker)
    assert len({path.name for path in (out / "logs").rglob("*.mp4")} - first) == 1


def test_fsdp_without_gpus_is_refused(data: Path, tmp_path: Path) -> None:
    with Launch(REFUSED, SCRIPTS["branch"], FLAGS, variables(data, tmp_path / "run"), tmp_path / "fsdp.log") as launch:
        (code,) = launch.wait()
    assert code != 0
    assert "error: FSDP: expected GPUs" in launch.output()
    assert not (tmp_path / "run").exists()
