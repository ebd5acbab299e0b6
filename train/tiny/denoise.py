"""The loss and the optimizers of the backbone, for single frames (images.py) and for clips (videos.py).

A part of the latents, mostly around an object, is as noisy as the timestep says, amid clean ones; in some clips all
are. What is noisy is all that has seen the object, so that no clean latent shows its edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from backbone import Backbone, add_noise, predict_clean
from holes import draw_batch
from latents import SHORT_TOKENS, LatentClips
from muon import Muon

WINDOW_SHARE = 0.8  # of the batches show a part of each frame, and captions of one object


class Batches(NamedTuple):
    """How many clips there are in a batch of whole frames and in one of parts; how often the first frame is given."""

    whole: int
    parts: int
    first_frame: float


def draw_timesteps(rng: np.random.Generator, count: int) -> torch.Tensor:
    """A fifth is the first step's, pure noise; most of the others are those that few steps ask for."""
    t = np.where(rng.random(count) < 0.25, rng.integers(1000, size=count), rng.integers(200, 1000, size=count))
    return torch.from_numpy(np.where(rng.random(count) < 0.2, 999, t))


def denoising_loss(
    model: Backbone, scheduler, data: LatentClips, rng: np.random.Generator, batches: Batches
) -> torch.Tensor:
    """One batch of the denoising loss: the error of the velocity where it is noisy."""
    rotary = None
    if rng.random() < WINDOW_SHARE:
        window = data.draw_window(rng)
        clean, tokens, mask = draw_batch(data, rng, rng.choice(data.windows[window], batches.parts))
        rotary = window.positions(model, clean)
        clean, mask, tokens = window.cut(clean), window.cut(mask), tokens[:, :SHORT_TOKENS]
    else:
        clean, tokens, mask = draw_batch(data, rng, rng.integers(len(data), size=batches.whole))
    t = draw_timesteps(rng, len(clean))
    keep = torch.from_numpy(rng.random(len(clean)) < batches.first_frame).float()
    noisy, weight = add_noise(scheduler, clean, torch.randn_like(clean), t)
    noisy = torch.where(mask > 0, noisy, clean)
    predicted = predict_clean(model, scheduler, tokens, noisy, clean[:, :1], keep, t, rotary)
    error = weight * (predicted - clean) ** 2
    # Each clip counts the same, whatever the size of its hole; what is clean is kept from drifting.
    inside = (error * mask).sum((1, 2, 3, 4)) / (mask.sum((1, 2, 3, 4)) * error.shape[2]).clamp_min(1)
    return inside.mean() + 0.05 * error.mean()


def heldout_loss(model: Backbone, scheduler, data: LatentClips, batches: Batches, count: int = 3) -> float:
    """The mean of `count` batches, the same ones at every call."""
    torch.manual_seed(1)
    with torch.no_grad():
        losses = [denoising_loss(model, scheduler, data, np.random.default_rng(k), batches) for k in range(count)]
    return torch.stack(losses).mean().item()


def build_optimizers(model: Backbone, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if "transformer_blocks" in name and p.ndim == 2]
    rest = [p for p in named.values() if not any(p is matrix for matrix in matrices)]
    return [Muon(matrices, lr, 0.01), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)]
