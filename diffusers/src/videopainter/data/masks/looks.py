"""Masks that are taken as they are, but are hardly what was meant: one line for each, no error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from videopainter.data.clip import MaskSource
from videopainter.data.masks.views import InvertedMasks

# Of the pixels of a picture or frame: neither dark nor light. What a codec does to the edges of a mask stays below.
_BETWEEN, _PHOTOGRAPH = 0.05, 0.4
_DARK, _LIGHT = 48, 207
_COVERS = 0.8
_FRAMES_LOOKED_AT = 5


def mask_notes(masks: MaskSource) -> list[str]:
    """What is odd about the masks of a clip: not two-valued, like a photograph, or covering most of the frames."""
    layers = list(_layers(masks))
    notes = [note for note in (getattr(layer, "note", "") for layer in layers) if note]
    if any(isinstance(layer, InvertedMasks) for layer in layers):
        return notes  # the background is to be painted
    covered = [
        _share(masks, frame) for frame in np.unique(np.linspace(0, len(masks) - 1, _FRAMES_LOOKED_AT).astype(int))
    ]
    if np.mean(covered) > _COVERS:
        notes.append(f"the mask covers {np.mean(covered):.0%} of the frames: white is what is painted")
    return notes


def look_note(pixels: np.ndarray) -> str:
    """What is odd about a mask's own pixels, uint8 (H, W) or (H, W, 3); empty where they are black and white."""
    between = float(((pixels > _DARK) & (pixels < _LIGHT)).mean())
    if between < _BETWEEN:
        return ""
    what = "looks like a photograph" if between > _PHOTOGRAPH else "is not black and white"
    return f"the mask {what} ({between:.0%} of it is between), what is lighter than mid-grey is painted"


def _layers(masks: object) -> Iterator[object]:
    """A view of masks and what lies below it, down to what was opened."""
    while masks is not None:
        yield masks
        masks = next((getattr(masks, name) for name in ("source", "_masks") if hasattr(masks, name)), None)


def _share(masks: MaskSource, frame: int) -> float:
    return float(masks.read(frame, frame + 1).mean())
