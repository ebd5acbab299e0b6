"""What is measured of a pair, and which pairs are good enough: background kept, edit seen, in the words' direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.data.clip import Clip, FrameSource
from videopainter.data.reshape import box_around
from videopainter.editing.options import PairOptions

_CHUNK = 8
_LOOKED_AT = 8  # frames that CLIP sees
BACKGROUND, CHANGE, DIRECTION = "background_psnr", "change", "clip_direction"


def measure_pixels(before: FrameSource, after: FrameSource, clip: Clip) -> dict[str, float | None]:
    """PSNR outside the clip's holes in dB (infinity: nothing differs; None: no such pixel), and the mean absolute
    difference inside in levels of 255. Frames of one number and size, pooled over the video."""
    squares = changes = 0.0
    outside = inside = 0
    for start in range(0, len(clip), _CHUNK):
        stop = min(start + _CHUNK, len(clip))
        hole = clip.masks.read(start, stop)
        difference = np.abs(before.read(start, stop).astype(np.int16) - after.read(start, stop))
        kept, painted = difference[~hole], difference[hole]
        squares += float(np.square(kept, dtype=np.int64).sum())
        changes += float(painted.sum(dtype=np.int64))
        outside, inside = outside + kept.size, inside + painted.size
    error = squares / outside / 255**2 if outside else None
    psnr = None if error is None else float("inf") if error == 0 else float(-10 * np.log10(error))
    return {BACKGROUND: psnr, CHANGE: changes / inside if inside else None}


class ClipDirection:
    """CLIP's view of pairs: the cosine of how the picture changes and of how its caption does, around the hole.

    Gal et al., "StyleGAN-NADA", 2022, eq. 2, as data sets of instructions are filtered by it (Brooks et al., 2023).

    Args:
        folder: Of a CLIP model.
        device: Where it runs.
    """

    def __init__(self, folder: Path, device: str) -> None:
        from videopainter.metrics.networks.clip_images import ClipImages

        self._model, self._device = ClipImages.load(folder, device), device

    def __call__(self, before: FrameSource, after: FrameSource, clip: Clip, captions: tuple[str, str]) -> float | None:
        """-1..1; None where pictures or captions do not differ."""
        import torch

        pictures = list(_crops(before, after, clip))
        if not pictures:
            return None
        changes = [
            self._model.images(torch.from_numpy(np.stack(pair)).permute(0, 3, 1, 2).to(self._device)).diff(dim=0)[0]
            for pair in pictures
        ]
        picture = torch.stack(changes).mean(dim=0)
        words = self._model.text(captions[1]) - self._model.text(captions[0])
        if not (picture.norm() > 0 and words.norm() > 0):
            return None
        return float(torch.nn.functional.cosine_similarity(picture, words, dim=0))


def _crops(before: FrameSource, after: FrameSource, clip: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames with a hole, evenly, cut to what is around it."""
    for index in np.unique(np.linspace(0, len(clip) - 1, _LOOKED_AT).astype(int)).tolist():
        hole = clip.masks.read(index, index + 1)[0]
        if hole.any():
            part = box_around(hole).slices
            yield before.read(index, index + 1)[0][part], after.read(index, index + 1)[0][part]


def faults(measures: Mapping[str, Any], options: PairOptions) -> list[str]:
    """Why a pair is not kept, by its measures; nothing where it is. What was not measured is no fault."""
    limits = {
        BACKGROUND: (options.min_background_psnr, "the background differs", "dB"),
        CHANGE: (options.min_change, "the edit hardly shows", "levels"),
        DIRECTION: (options.min_clip_direction, "the change is not the words'", ""),
    }
    found = []
    for key, (least, told, unit) in limits.items():
        value = measures.get(key)
        if value is not None and float(value) < least:
            found.append(f"{told}: {key} {float(value):.3g} below {least:g} {unit}".strip())
    return found
