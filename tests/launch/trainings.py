"""A training that is killed in its second validation and goes on from its checkpoint, and what the two leave behind.

step 0        validation, with a video
step 3        checkpoint
step 5        validation: here the first launch is killed, after steps 4 and 5 that its checkpoint does not know
step 4 ... 6  again, by the second launch; it validates at step 5 and ends with a checkpoint
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from launch.processes import Launch
from launch.ways import SCRIPTS, TINY, Way

from videopainter.training.tracking.trackers import read_metrics

SAVED, KILLED, LAST = 3, 5, 6
RATE, WARMUP = 1e-3, 5
FLAGS = f"""
    --height 32 --width 48 --max_num_frames 5 --dataloader_num_workers 0
    --learning_rate {RATE} --lr_warmup_steps {WARMUP} --max_train_steps {LAST} --checkpointing_steps {SAVED}
    --logging_steps 1 --validation_at_start --validating_steps {KILLED} --validation_samples 2
    --validation_timesteps 100 700 --num_inference_steps 2
""".split()


@dataclass(frozen=True)
class Trained:
    """What one launch left.

    Args:
        rows: Of `metrics.jsonl`, training steps alone, by step.
        validated: Steps whose validation is logged.
        videos: Of validations, by step.
        checkpoint: The latest.
        rates: Learning rates in the optimizer state of that checkpoint.
    """

    rows: dict[int, dict[str, float]]
    validated: list[int]
    videos: dict[int, list[Path]]
    checkpoint: Path
    rates: list[float]


@dataclass(frozen=True)
class Weights:
    """A backbone's folder and a branch for it."""

    backbone: Path
    branch: Path

    @property
    def variables(self) -> dict[str, str]:
        return {"MODEL_PATH": str(self.backbone), "BRANCH_MODEL_PATH": str(self.branch)}


TINY_WEIGHTS = Weights(TINY / "CogVideoX-5b-I2V", TINY / "VideoPainter/checkpoints/branch")


def variables(data: Path, out: Path) -> dict[str, str]:
    """Paths of the tiny checkpoint and of a data set of `make_synthetic.py`."""
    return {
        **TINY_WEIGHTS.variables,
        "DATASET_PATH": str(data / "videovo/raw_video"),
        "META_FILE_PATH": str(data / "pexels_videovo_train_dataset.csv"),
        "VAL_META_FILE_PATH": str(data / "pexels_videovo_val_dataset.csv"),
        "OUTPUT_PATH": str(out),
        "REPORT_TO": "none",
    }


def train_until_killed(way: Way, task: str, data: Path, out: Path, **changes: str) -> Trained:
    """The first launch, killed while it validates after step `KILLED`."""
    metrics = out / "metrics.jsonl"

    def far_enough() -> bool:
        return metrics.is_file() and any(row["step"] == KILLED for row in read_metrics(metrics))

    flags = [*FLAGS, *way.flags(task)]
    with Launch(way, SCRIPTS[task], flags, variables(data, out) | changes, out.with_name("fresh.log")) as launch:
        launch.wait_for(far_enough, f"step {KILLED}")
        launch.kill()
    return read_training(out)


def resume(way: Way, task: str, data: Path, out: Path, **changes: str) -> Trained:
    """The second launch, to its end."""
    flags = [*FLAGS, *way.flags(task), "--resume_from_checkpoint", "latest"]
    with Launch(way, SCRIPTS[task], flags, variables(data, out) | changes, out.with_name("resumed.log")) as launch:
        codes = launch.wait()
        assert codes == [0] * way.machines, launch.output()
    return read_training(out)


def read_training(out: Path) -> Trained:
    """What lies in a training's folder."""
    rows = read_metrics(out / "metrics.jsonl")
    steps = [int(row["step"]) for row in rows if "loss" in row]
    assert steps == list(range(1, len(steps) + 1)), "each step once, in order"
    latest = max(out.glob("checkpoint-*[0-9]"), key=lambda path: int(path.name.rpartition("-")[2]))
    folders = (out / "validation").glob("step-*")
    return Trained(
        rows={int(row["step"]): row for row in rows if "loss" in row},
        validated=[int(row["step"]) for row in rows if "validation/loss" in row],
        videos={int(path.name.rpartition("-")[2]): sorted(path.glob("*.mp4")) for path in folders},
        checkpoint=latest,
        rates=optimizer_rates(latest),
    )


def optimizer_rates(checkpoint: Path) -> list[float]:
    """Learning rates that stand in the optimizer states of a checkpoint, those of every process."""
    files = sorted((checkpoint / "state").rglob("*optim_states.pt")) or [checkpoint / "state/training_state.pt"]
    # Ours alone: DeepSpeed's hold classes.
    return [rate for path in files for rate in _rates(torch.load(path, map_location="cpu", weights_only=False))]


def _rates(state: Any) -> Iterator[float]:
    if isinstance(state, dict):
        if "lr" in state and ("betas" in state or "params" in state):
            yield float(state["lr"])
        for value in state.values():
            yield from _rates(value)
    elif isinstance(state, list):
        for value in state:
            yield from _rates(value)


def planned_rate(step: int) -> float:
    """The learning rate after so many steps: warm-up in a line, then a cosine over what is left."""
    if step < WARMUP:
        return RATE * step / WARMUP
    return RATE if step == WARMUP else 0.0
