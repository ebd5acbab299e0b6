"""Optimizers and schedules by flag, speed and memory figures, and trackers: small and real."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from videopainter.cli.door import parse_options
from videopainter.errors import InputError
from videopainter.training.optimizers import (
    OptimizerOptions,
    build_lr_scheduler,
    build_optimizer,
    check_optimizer,
    scaled_learning_rate,
)
from videopainter.training.tracking.progress import StepMeter, format_seconds, peak_memory
from videopainter.training.tracking.trackers import TrackerOptions, Trackers, check_tracker, encode_gif, read_metrics

needs = {
    name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("bitsandbytes", "prodigyopt", "tensorboard", "wandb")
}


def options(**changes) -> OptimizerOptions:
    return OptimizerOptions(**{"learning_rate": 0.05, **changes})


def fit(chosen: OptimizerOptions, steps: int = 60) -> float:
    """Loss of a linear regression after some steps, as a share of the loss at the start."""
    torch.manual_seed(0)
    inputs, target = torch.randn(64, 8), torch.randn(8, 4)
    model = torch.nn.Linear(8, 4)
    optimizer = build_optimizer(model.parameters(), chosen)
    losses = []
    for _ in range(steps):
        loss = (model(inputs) - inputs @ target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


# ---- flags


def test_the_releases_flags_are_understood():
    line = (
        "--optimizer AdamW --adam_beta1 0.9 --adam_beta2 0.95 --max_grad_norm 1.0 --learning_rate 1e-5 "
        "--lr_scheduler cosine_with_restarts --lr_warmup_steps 1000 --lr_num_cycles 1 "
        "--report_to wandb --tracker_name project --runs_name run"
    )
    chosen, tracking = parse_options([OptimizerOptions, TrackerOptions], line.split())
    assert (chosen.kind, chosen.adam_beta2, chosen.learning_rate) == ("adamw", 0.95, 1e-5)
    assert (chosen.lr_scheduler, chosen.lr_warmup_steps) == ("cosine_with_restarts", 1000)
    assert (tracking.report_to, tracking.tracker_name, tracking.runs_name) == ("wandb", "project", "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "--optimizer: expected AdamW, Adam or Prodigy, got 'lion'"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0, at most 1000, got 0"),
        ({"learning_rate": math.nan}, "learning_rate: expected more than 0, at most 1000, got nan"),
        ({"adam_beta2": 1.0}, "adam_beta2: expected at least 0, less than 1, got 1"),
        ({"prodigy_beta3": -0.1}, "prodigy_beta3"),
        ({"lr_num_cycles": 0}, "lr_num_cycles: expected at least 1, got 0"),
        ({"max_grad_norm": -1.0}, "max_grad_norm: expected at least 0"),
        ({"optimizer": "Prodigy", "use_8bit_adam": True}, "expected --optimizer Adam or AdamW with it, got Prodigy"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(InputError, match="^.*" + message.replace("[", r"\[")):
        check_optimizer(options(**changes))


@pytest.mark.parametrize(
    ("changes", "package"), [({"use_8bit_adam": True}, "bitsandbytes"), ({"optimizer": "prodigy"}, "prodigyopt")]
)
def test_a_missing_library_is_one_line_with_the_command(changes, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"pip install {package}$"):
        check_optimizer(options(**changes))


# ---- optimizers


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"optimizer": "AdamW"}, id="AdamW"),
        pytest.param({"optimizer": "adam"}, id="Adam"),
        pytest.param({"optimizer": "ADAMW", "use_8bit_adam": True}, id="AdamW 8 bit", marks=needs["bitsandbytes"]),
        pytest.param({"optimizer": "Adam", "use_8bit_adam": True}, id="Adam 8 bit", marks=needs["bitsandbytes"]),
        pytest.param({"optimizer": "Prodigy", "learning_rate": 1.0}, id="Prodigy", marks=needs["prodigyopt"]),
    ],
)
def test_every_optimizer_learns(changes):
    check_optimizer(options(**changes))
    assert fit(options(**changes)) < 0.5


def test_adamw_is_fused_and_equals_the_plain_form():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(33, 7)), torch.nn.Parameter(torch.randn(5))]
    plain = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    chosen = options(adam_weight_decay=0.1)
    fused = build_optimizer(weights, chosen)
    assert fused.defaults["fused"]
    assert fused.defaults["betas"] == (0.9, 0.95)
    reference = torch.optim.AdamW(plain, lr=0.05, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, foreach=False)
    for step in range(5):
        for ours, theirs in zip(weights, plain, strict=True):
            ours.grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(step))
            theirs.grad = ours.grad.clone()
        fused.step()
        reference.step()
    for ours, theirs in zip(weights, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@needs["bitsandbytes"]
def test_8_bit_adam_keeps_one_byte_per_moment():
    weight = torch.nn.Parameter(torch.randn(128, 128))
    optimizer = build_optimizer([weight], options(use_8bit_adam=True))
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    assert optimizer.state[weight]["state1"].dtype == torch.uint8


@needs["prodigyopt"]
def test_prodigy_takes_its_flags():
    weight = torch.nn.Parameter(torch.zeros(3))
    chosen = options(optimizer="prodigy", prodigy_beta3=0.5, prodigy_decouple=True, prodigy_safeguard_warmup=True)
    group = build_optimizer([weight], chosen).param_groups[0]
    assert (group["beta3"], group["decouple"], group["safeguard_warmup"]) == (0.5, True, True)
    assert not group["use_bias_correction"]


def test_nothing_to_train_and_frozen_parameters_are_refused():
    frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    with pytest.raises(ValueError, match="got 0 of which 0"):
        build_optimizer([], options())
    with pytest.raises(ValueError, match="got 1 of which 1 are frozen"):
        build_optimizer([frozen], options())


# ---- learning rate


def course(steps: int = 100, **changes) -> list[float]:
    """Learning rate of each step."""
    chosen = options(learning_rate=1.0, **changes)
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], chosen)
    scheduler = build_lr_scheduler(optimizer, chosen, num_training_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_warm_up_then_cosine_with_restarts():
    rates = course(lr_scheduler="cosine_with_restarts", lr_warmup_steps=10, lr_num_cycles=2)
    assert rates[:11] == pytest.approx([step / 10 for step in range(11)])
    for step in range(10, 100):
        phase = 2 * (step - 10) / 90 % 1
        assert rates[step] == pytest.approx((1 + math.cos(math.pi * phase)) / 2, abs=1e-9)


def test_polynomial_takes_its_power():
    rates = course(lr_scheduler="polynomial", lr_warmup_steps=0, lr_power=2.0)
    assert rates[50] == pytest.approx((1 - 1e-7) * 0.25 + 1e-7)


def test_constant_has_no_warm_up():
    assert set(course(lr_scheduler="constant", lr_warmup_steps=10)) == {1.0}


def test_scale_lr_counts_the_clips_of_a_step():
    sizes = {"batch_size": 2, "num_processes": 8, "accumulation": 3}
    assert scaled_learning_rate(options(), **sizes) == 0.05
    assert scaled_learning_rate(options(scale_lr=True), **sizes) == pytest.approx(0.05 * 48)


# ---- speed and memory


def test_a_meter_counts_what_ran_and_not_the_pauses():
    now = [100.0]
    meter = StepMeter(total_steps=10, start_step=2, clock=lambda: now[0])
    for _ in range(3):
        now[0] += 2.0
        meter.step(clips=4, frames=4 * 9)
    with meter.pause():
        now[0] += 60.0
    read = meter.read()
    assert read.seconds_per_step == pytest.approx(2.0)
    assert read.clips_per_second == pytest.approx(2.0)
    assert read.frames_per_second == pytest.approx(18.0)
    assert read.eta_seconds == pytest.approx(5 * 66 / 3)  # five to go; pauses come again
    now[0] += 1.0
    meter.step(clips=4)
    assert meter.read().seconds_per_step == pytest.approx(1.0)
    assert meter.read().seconds_per_step == 0.0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to compare with")
def test_peak_memory_is_that_of_the_process():
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert peak_memory("cpu") == pytest.approx(kilobytes * 1024, rel=0.05)
    assert set(StepMeter(total_steps=1).read().metrics()) >= {"seconds_per_step", "peak_memory_bytes", "eta_seconds"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45s"), (725, "12:05"), (11220, "3:07:00"), (183600, "2d 03:00"), (59.7, "1:00")]
)
def test_times_read_well(seconds, text):
    assert format_seconds(seconds) == text


# ---- trackers


def clip(frames: int = 5, height: int = 32, width: int = 48) -> np.ndarray:
    """A grey ramp that brightens, uint8 (T, H, W, 3)."""
    ramp = np.linspace(0, 200, width, dtype=np.uint8)
    return np.stack([np.broadcast_to((ramp + 10 * t)[None, :, None], (height, width, 3)) for t in range(frames)])


def test_metrics_of_a_resumed_run_have_each_step_once(tmp_path):
    with Trackers(TrackerOptions(), output_dir=tmp_path) as run:
        for step in range(1, 6):
            run.log({"loss": torch.tensor(1.0 / step)}, step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    with Trackers(TrackerOptions(), output_dir=tmp_path, start_step=3) as run:
        run.log({"loss": 0.25}, 4)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[1]["loss"] == pytest.approx(0.5)
    Trackers(TrackerOptions(), output_dir=tmp_path).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_only_the_main_process_writes(tmp_path):
    with Trackers(TrackerOptions(), output_dir=tmp_path, is_main=False) as run:
        run.log({"loss": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_metrics_file_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnot json\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)


def test_missing_tracker_libraries_are_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("wandb", "tensorboard"):
        with pytest.raises(InputError, match=f"pip install {name}, or --report_to none"):
            check_tracker(TrackerOptions(report_to=name))
    check_tracker(TrackerOptions())
    with pytest.raises(InputError, match="logging_steps: expected at least 1, got 0"):
        check_tracker(TrackerOptions(logging_steps=0))


def gif_frames(data: bytes) -> list[np.ndarray]:
    import io

    from PIL import Image, ImageSequence

    return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]


def test_gifs_hold_every_frame():
    frames = clip()
    data, size = encode_gif(frames, fps=8)
    shown = gif_frames(data)
    assert size == (32, 48)
    assert len(shown) == 5
    assert np.abs(shown[3].astype(int) - frames[3]).max() <= 8  # 256 colours
    _, size = encode_gif(clip(2, 20, 1920), fps=8)
    assert size == (10, 960)


@needs["tensorboard"]
def test_tensorboard_gets_numbers_and_videos(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    chosen = TrackerOptions(report_to="tensorboard", runs_name="a")
    check_tracker(chosen)
    with Trackers(chosen, output_dir=tmp_path, config={"seed": 42}) as run:
        for step in (1, 2, 3):
            run.log({"train/loss": 3.0 / step}, step)
        run.log_videos("validation", [clip()], fps=8, step=3)
    with Trackers(chosen, output_dir=tmp_path, start_step=2) as run:
        run.log({"train/loss": 7.0}, 3)
    events = EventAccumulator(str(tmp_path / "logs" / "a")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 3.0), (2, 1.5), (3, 7.0)]
    with Trackers(chosen, output_dir=tmp_path / "b") as run:
        run.log_videos("validation", [clip()], fps=8, step=1)
    events = EventAccumulator(str(tmp_path / "b" / "logs" / "a")).Reload()
    assert len(gif_frames(events.Images("validation/0")[0].encoded_image_string)) == 5


@needs["wandb"]
def test_wandb_without_a_key_is_one_line(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    import wandb

    wandb.teardown()  # what it read of the environment before
    with pytest.raises(InputError, match=r"wandb login.*WANDB_MODE=offline.*--report_to none"):
        check_tracker(TrackerOptions(report_to="wandb"))


@needs["wandb"]
def test_wandb_runs_offline_and_goes_on_with_its_run(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    wandb.teardown()
    chosen = TrackerOptions(report_to="wandb", runs_name="a")
    check_tracker(chosen)
    with Trackers(chosen, output_dir=tmp_path, config={"seed": 42, "path": tmp_path}) as run:
        run.log({"loss": 1.0}, 1)
        run.log_videos("validation", [clip()], fps=8, step=1)
    first = (tmp_path / "wandb_run_id").read_text()
    assert len(list((tmp_path / "logs").rglob("*.mp4"))) == 1
    time.sleep(1.1)  # wandb names a run's folder by the second
    with Trackers(chosen, output_dir=tmp_path, start_step=1) as run:
        run.log({"loss": 0.5}, 2)
    assert (tmp_path / "wandb_run_id").read_text() == first
    assert len(list((tmp_path / "logs" / "wandb").glob(f"offline-run-*-{first}"))) == 2
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
