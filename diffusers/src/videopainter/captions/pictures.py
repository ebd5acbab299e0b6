"""What a language model is shown: a few frames of a clip, small, with the region outlined."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from videopainter.data.clip import Clip, FrameSource

_LONGEST_SIDE = 768
_RED = (255, 0, 0)
_MARGIN = 0.4  # of the region's size, around a crop


def shown_frames(clip: Clip, count: int = 4, *, outlined: bool = True) -> list[np.ndarray]:
    """`count` frames or fewer, uint8 RGB, evenly from those in which the region is seen; the first of them first."""
    return [_small(outlined_frame(frame, mask) if outlined else frame) for frame, mask in _frames(clip, count)]


def shown_regions(clip: Clip, count: int = 4) -> list[np.ndarray]:
    """The same frames, cut around the region, which is outlined."""
    return [_small(_cropped(outlined_frame(frame, mask), mask)) for frame, mask in _frames(clip, count)]


def evenly_shown(frames: FrameSource, count: int = 4) -> list[np.ndarray]:
    """`count` frames or fewer of a video without masks, uint8 RGB, evenly from inside it."""
    places = np.unique((np.arange(count) + 0.5) * len(frames) // count).astype(int).tolist()
    return [_small(frames.read(k, k + 1)[0]) for k in places]


def _frames(clip: Clip, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames and masks, evenly from those with a hole; of a clip without any, from all."""
    evenly = np.unique(np.linspace(0, len(clip) - 1, 4 * count).astype(int)).tolist()
    # A hole may come and go between those.
    seen = _with_hole(clip, evenly) or _with_hole(clip, range(len(clip))) or evenly
    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, count).astype(int))]
    return [(clip.frames.read(k, k + 1)[0], clip.masks.read(k, k + 1)[0]) for k in chosen]


def _with_hole(clip: Clip, indices: Iterable[int]) -> list[int]:
    return [index for index in indices if clip.masks.read(index, index + 1).any()]


def outlined_frame(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of a frame, uint8 (H, W, 3), with a red line around the mask, bool (H, W)."""
    width = max(1, round(max(frame.shape[:2]) / 240))
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    outline = (cv2.dilate(mask.astype(np.uint8), square) > 0) & ~mask
    if not outline.any():  # a hole as large as the picture: along its inside
        inner = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        outline = mask & (inner == 0)
    picture = frame.copy()
    picture[outline] = _RED
    return picture


def _cropped(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return picture
    dy, dx = (round(_MARGIN * (line[-1] - line[0] + 1)) + 8 for line in (rows, columns))
    top, left = max(0, rows[0] - dy), max(0, columns[0] - dx)
    return picture[top : rows[-1] + dy + 1, left : columns[-1] + dx + 1]


def _small(picture: np.ndarray) -> np.ndarray:
    scale = _LONGEST_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
