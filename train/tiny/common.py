"""What the tiny trainers share: clips, averaged weights, the learning rate, checkpoints that resume."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from videopainter.files import replacing


class Clips:
    """Rendered clips of one set, memory-mapped; see render.py."""

    def __init__(self, work: Path, name: str):
        self.frames, self.without, self.footprint = (
            np.load(work / f"{name}_{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in ("frames", "without", "footprint")
        )
        self.captions = json.loads((work / f"{name}_captions.json").read_text())

    def __len__(self) -> int:
        return len(self.frames)


def to_video(frames: np.ndarray) -> torch.Tensor:
    """uint8 (B, T, H, W, 3) to float (B, 3, T, H, W) in -1..1."""
    return torch.from_numpy(np.array(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def psnr(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """PSNR in dB of videos in -1..1; with a mask (broadcastable, 1 = count), inside it only."""
    error = (a.clamp(-1, 1) - b) ** 2 / 4
    if mask is None:
        mean = error.mean()
    else:
        weight = mask.expand_as(error).float()
        mean = (error * weight).sum() / weight.sum()
    return float(-10 * torch.log10(mean.clamp_min(1e-10)))


class Trainer:
    """Warm-up, constant rate, linear decay; averaged weights (EMA); a state file to go on from. AdamW unless given."""

    def __init__(
        self,
        model: nn.Module,
        *,
        state: Path,
        steps: int,
        lr: float,
        decay: float = 0.995,
        optimizers: list[torch.optim.Optimizer] | None = None,
    ):
        self.model, self.state, self.steps, self.lr, self.decay = model, state, steps, lr, decay
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizers = optimizers or [
            torch.optim.AdamW(self.parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
        ]
        self.average: Any = copy.deepcopy(model).eval().requires_grad_(False)
        self.step = 0
        torch.set_flush_denormal(True)  # vanishing gradients would slow the CPU down
        if state.exists():
            saved = torch.load(state, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.average.load_state_dict(saved["average"])
            if "optimizers" in saved:  # not with weights from git (start.py)
                for optimizer, stored in zip(self.optimizers, saved["optimizers"], strict=True):
                    optimizer.load_state_dict(stored)
            self.step = saved["step"]

    def run(self, loss_of: Callable[[int], torch.Tensor], *, report: Callable[[int], None], every: int = 200) -> None:
        """Call `loss_of(step)`, which returns the loss to minimise, until `steps` are done."""
        started, shown = time.time(), []
        while self.step < self.steps:
            rate = self.lr * min(1.0, (self.step + 1) / 100, (self.steps - self.step) / (0.35 * self.steps))
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            torch.manual_seed(self.step)  # a resumed run draws what the unbroken one would have drawn
            self.model.zero_grad()
            loss = loss_of(self.step)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
            self.step += 1
            self._average()
            shown.append(loss.item())
            if self.step % 50 == 0:
                print(f"step {self.step} loss {np.mean(shown):.4f} {time.time() - started:.0f} s", flush=True)
                shown = []
            if self.step % every == 0 or self.step == self.steps:
                self.save()
                report(self.step)

    def _average(self) -> None:
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(current, 1 - decay)

    def save(self) -> None:
        saved: dict[str, Any] = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        saved |= {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "step": self.step}
        with replacing(self.state) as partial:
            torch.save(saved, partial)
