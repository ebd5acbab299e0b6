"""Bringing frames and masks to the working size.

Masks alike in training and inference; frames by the same filter, in training as `conversion.RgbConverter` does it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Box(NamedTuple):
    """A part of frames, in pixels: rows `top` to `bottom`, columns `left` to `right`, both exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, pixels: int, height: int, width: int) -> Box:
        """As many pixels larger on every side, inside of frames of this size."""
        top, left = max(self.top - pixels, 0), max(self.left - pixels, 0)
        return Box(top, min(self.bottom + pixels, height), left, min(self.right + pixels, width))

    def crop(self, frames: Any) -> Any:
        """The box's part of (N, H, W, ...)."""
        return frames[:, self.top : self.bottom, self.left : self.right]

    def within(self, outer: Box) -> Box:
        """The box in the coordinates of a crop by `outer`."""
        return Box(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)


def box_around(mask: np.ndarray) -> Box:
    """A square around what is True of a mask (H, W), and twice as large; at most the frame. Something must be True."""
    lines = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = 2 * max(int(line[-1] - line[0]) + 1 for line in lines)
    spans = [_span(int(line[0] + line[-1] + 1) // 2, side, length) for line, length in zip(lines, mask.shape)]
    return Box(*spans[0], *spans[1])


def _span(centre: int, side: int, length: int) -> tuple[int, int]:
    side = min(side, length)
    start = min(max(centre - side // 2, 0), length - side)
    return start, start + side


def is_same_shape(height: int, width: int, other_height: int, other_width: int) -> bool:
    """Whether two sizes differ by scale and rounding only: in aspect, by 2 % at most."""
    return abs(width * other_height / (height * other_width) - 1) <= 0.02


def covering_box(
    height: int, width: int, to_height: int, to_width: int, place: tuple[float, float] = (0.5, 0.5)
) -> Box:
    """The largest part of a frame that has the aspect of `to_height` x `to_width`, to the pixel.

    Resizing that part is the same as scaling the frame until it covers the target, then cropping. `place` is where
    it lies, down and across: 0 is the top or left, 1 the bottom or right.
    """
    rows = max(1, min(height, round(width * to_height / to_width)))
    columns = max(1, min(width, round(height * to_width / to_height)))
    top = min(int(place[0] * (height - rows + 1)), height - rows)
    left = min(int(place[1] * (width - columns + 1)), width - columns)
    return Box(top, top + rows, left, left + columns)


def resize_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lanczos resize of uint8 frames (T, H, W, 3); frames of that size come back as they are."""
    if frames.shape[1:3] == (height, width):
        return frames
    size = (width, height)
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    return np.stack([np.asarray(image.resize(size, Image.Resampling.LANCZOS)) for image in images])


def resize_masks(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize boolean masks (T, H, W): a pixel is in the hole if any part of it is.

    So that shrinking never shows a pixel of what is to be replaced. Masks of that size come back as they are.
    """
    if masks.shape[1:3] == (height, width):
        return masks
    out = np.empty((len(masks), height, width), bool)
    for start in range(0, len(masks), 8):
        # Eight masks are the bits of one picture; gathering columns is what costs.
        group = masks[start : start + 8]
        bits = group[-1].astype(np.uint8)
        for mask in group[-2::-1]:
            bits += bits
            bits |= mask
        bits = _any_of(_any_of(bits, 0, height), 1, width)
        for k in range(len(group)):
            np.not_equal(bits & np.uint8(1 << k), 0, out=out[start + k])
    return out


def _any_of(bits: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Along `axis`, output k has the bits that any input has that it overlaps."""
    length = bits.shape[axis]
    at = np.arange(size)
    first, last = at * length // size, -(-(at + 1) * length // size) - 1
    out = np.take(bits, first, axis=axis)
    for step in range(1, int((last - first).max()) + 1):
        out |= np.take(bits, np.minimum(first + step, last), axis=axis)
    return out
