"""The models that metrics need, loaded once for a whole run. What is not there is left out by name, never made up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch

from videopainter.metrics.catalog import CLIP_FRAMES, CLIP_SCORE, I3D_WEIGHTS, LPIPS
from videopainter.metrics.networks.clip_images import ClipImages
from videopainter.metrics.networks.downloads import WEIGHTS, absent, weightings_file
from videopainter.metrics.networks.i3d import I3D
from videopainter.metrics.networks.lpips import Lpips


@dataclass(kw_only=True)
class MetricModels:
    """Models by weight key, None where not asked for or not there; `left_out` says, by key, why the latter."""

    lpips: Lpips | None = None
    clip_score: ClipImages | None = None
    clip_frames: ClipImages | None = None
    i3d: I3D | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def missing_models(ckpt: Path, keys: Collection[str]) -> dict[str, str]:
    """Weight key -> why it cannot be used, and what fetches it, for those of `keys` that are not there."""
    unknown = set(keys) - set(WEIGHTS)
    if unknown:
        raise ValueError(f"weights: expected some of {', '.join(WEIGHTS)}, got {', '.join(sorted(unknown))}")
    reasons = {}
    for key in WEIGHTS:
        if key in keys and (reason := _missing(key, ckpt)) is not None:
            reasons[key] = reason
    return reasons


def load_models(ckpt: Path, keys: Collection[str], device: str | torch.device) -> MetricModels:
    """The models of the weight keys `keys` from the folder `ckpt`, in float32 on `device`.

    What is absent goes to `left_out`; nothing is downloaded. Raises InputError for files that are there but damaged or
    of another model, ValueError for unknown keys.
    """
    left_out = missing_models(ckpt, keys)
    models = MetricModels(left_out=left_out)
    for key in set(keys) - set(left_out):
        paths = [ckpt / path for path in WEIGHTS[key].paths]
        if key == LPIPS:
            weightings = weightings_file()
            assert weightings is not None  # else it is left out
            models.lpips = Lpips.load(paths[0], weightings, device)
        elif key == I3D_WEIGHTS:
            models.i3d = I3D.load(paths[0], device)
        elif key == CLIP_SCORE:
            models.clip_score = ClipImages.load(paths[0].parent, device)
        elif key == CLIP_FRAMES:
            models.clip_frames = ClipImages.load(paths[0].parent, device, with_text=False)
    return models


def _missing(key: str, ckpt: Path) -> str | None:
    reasons = [absent(key, ckpt)]
    if key == LPIPS and weightings_file() is None:
        reasons.append("LPIPS: no torchmetrics, whose channel weights it uses; install: make setup EXTRAS=eval")
    return "; ".join(reason for reason in reasons if reason) or None
