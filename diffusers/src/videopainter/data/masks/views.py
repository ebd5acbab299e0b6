"""Masks seen otherwise: at another size, grown, inverted."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.data.clip import MaskSource, check_range
from videopainter.data.reshape import resize_masks


class ResizedMasks:
    """A view of other masks at `height` x `width` pixels; a pixel is in the hole if any part of it is."""

    def __init__(self, source: MaskSource, height: int, width: int) -> None:
        self.source, self.height, self.width = source, height, width

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int) -> np.ndarray:
        return resize_masks(self.source.read(start, stop), self.height, self.width)


class DilatedMasks:
    """Masks grown by a `size` x `size` square (or "cross"), `times` times; size 0 or less leaves them as they are."""

    def __init__(self, masks: MaskSource, size: int, *, shape: str = "square", times: int = 1) -> None:
        self._masks = masks
        self.height, self.width = masks.height, masks.width
        self._times = times
        self._kernel = None
        if size > 0:
            kind = {"square": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS}[shape]
            self._kernel = cv2.getStructuringElement(kind, (size, size))

    def __len__(self) -> int:
        return len(self._masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        if self._kernel is None:
            return self._masks.read(start, stop)
        return _map(self._masks, start, stop, self._dilate, (self.height, self.width))

    def _dilate(self, mask: np.ndarray) -> np.ndarray:
        assert self._kernel is not None
        return cv2.dilate(mask, self._kernel, iterations=self._times)


class UnitedMasks:
    """A pixel is in the hole if it is in that of either."""

    def __init__(self, masks: MaskSource, others: MaskSource) -> None:
        self._masks, self._others = masks, others
        self.height, self.width = masks.height, masks.width

    def __len__(self) -> int:
        return len(self._masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._masks.read(start, stop) | self._others.read(start, stop)


class PlacedMasks:
    """Masks of a part of a video: its first is that of frame `start`, of `length`; elsewhere there is no hole."""

    def __init__(self, masks: MaskSource, start: int, length: int) -> None:
        self._masks, self._start, self._length = masks, start, length
        self.height, self.width = masks.height, masks.width

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, self._length)
        out = np.zeros((stop - start, self.height, self.width), bool)
        low, high = max(start, self._start), min(stop, self._start + len(self._masks))
        if low < high:
            out[low - start : high - start] = self._masks.read(low - self._start, high - self._start)
        return out


class ShapedMasks:
    """Each frame's hole as its convex "hull", or its bounding "box"; where there is none there is none."""

    def __init__(self, masks: MaskSource, shape: str) -> None:
        self._masks, self._shape = masks, _box if shape == "box" else _hull
        self.height, self.width = masks.height, masks.width

    def __len__(self) -> int:
        return len(self._masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        return _map(self._masks, start, stop, self._shape, (self.height, self.width))


def _hull(mask: np.ndarray) -> np.ndarray:
    points = cv2.findNonZero(mask)
    return mask if points is None else cv2.fillConvexPoly(mask.copy(), cv2.convexHull(points), 1)


def _box(mask: np.ndarray) -> np.ndarray:
    out = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
        out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
    return out


class InvertedMasks:
    """Everything else is the hole (`mask_background`)."""

    def __init__(self, masks: MaskSource) -> None:
        self._masks = masks
        self.height, self.width = masks.height, masks.width

    def __len__(self) -> int:
        return len(self._masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        return ~self._masks.read(start, stop)


def _map(masks: MaskSource, start: int, stop: int, change, size: tuple[int, int]) -> np.ndarray:
    out = np.empty((stop - start, *size), bool)
    for k, mask in enumerate(masks.read(start, stop)):
        out[k] = change(mask.astype(np.uint8)).astype(bool)
    return out
