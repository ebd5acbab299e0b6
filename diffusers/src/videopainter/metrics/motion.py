"""Flicker: how neighbouring frames differ once what moved is moved back.

Lai, Huang, Wang, Shechtman, Yumer, Yang, "Learning blind video temporal consistency", ECCV 2018: the warping error of
a pair is the mean squared difference of frame t and of frame t+1 moved onto it by optical flow, over the pixels that
are not occluded. Flow is estimated on the result itself (DIS: Kroeger, Timofte, Dai, Van Gool, ECCV 2016), and a pixel
is occluded where the flow there and the flow back do not cancel (Sundaram, Brox, Keutzer, ECCV 2010).

A video against its reverse has about the same error; a video that does not move and does not change, none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np

MIN_FLOW_SIZE = 12  # pixels of the longer side that DIS needs
# Sundaram et al.: |flow + flow back|² may be this share of |flow|² + |flow back|², and this many pixels² more.
_SHARE, _SLACK = 0.01, 0.5


class Change(NamedTuple):
    """Differences of a pair after motion, 0..1 images; NaN where no pixel counts."""

    squared: float
    hole_squared: float
    hole_absolute: float


class Motion:
    """Differences of all pairs of neighbouring frames of one video, given chunk by chunk; keeps one frame."""

    def __init__(self, borders: Collection[int] = ()) -> None:
        """`borders`: frame numbers on which a new window begins."""
        self._borders = frozenset(borders)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._previous: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._at = 0
        self._hole = {True: _Mean(), False: _Mean()}  # of pairs across a border, of all others

    def add(self, frames: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next frames of the video.

        Args:
            frames: uint8 (N, H, W, 3), the longer side at least `MIN_FLOW_SIZE`.
            masks: bool (N, H, W), True = hole.

        Returns:
            Warping errors of the pairs that end in these frames, whole and in the hole of the pair's first frame: (N,)
            each, (N - 1,) for the video's first chunk. NaN where every pixel that would count is occluded or there is
            no hole.
        """
        changes = []
        for frame, mask in zip(np.ascontiguousarray(frames), np.ascontiguousarray(masks), strict=True):
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            if self._previous is not None:
                change = self._change(frame, grey)
                self._hole[self._at in self._borders].add(change.hole_absolute)
                changes.append(change)
            self._previous = frame, grey, mask
            self._at += 1
        pairs = np.array(changes, np.float64).reshape(-1, len(Change._fields))
        return pairs[:, 0], pairs[:, 1]

    def seam_error(self) -> float | None:
        """By how much the hole changes more across window borders than elsewhere, after motion; about 0: no seam.

        Mean absolute difference of the pairs (b - 1, b) less that of all other pairs, 0..1 images. None if there are
        no such pairs, or none of the others, with a hole.
        """
        seam, inside = self._hole[True].value, self._hole[False].value
        return None if seam is None or inside is None else float(seam - inside)

    def _change(self, frame: np.ndarray, grey: np.ndarray) -> Change:
        assert self._previous is not None
        first, first_grey, mask = self._previous
        there = self._flow.calc(first_grey, grey, None)  # type: ignore[call-overload]
        back = self._flow.calc(grey, first_grey, None)  # type: ignore[call-overload]
        places = there + _grid(*grey.shape)
        visible = _visible(there, back, places)
        # In float: rounded to integers the moved frame would have an error of its own.
        difference = cv2.remap(frame.astype(np.float32), places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        difference -= first
        squared, _ = _means(difference, visible)
        return Change(squared, *_means(difference, visible & mask))


class _Mean:
    """Running mean of what is not NaN."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> None:
        if not np.isnan(value):
            self.total, self.count = self.total + value, self.count + 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


def _grid(height: int, width: int) -> np.ndarray:
    """(x, y) of every pixel: float32 (height, width, 2)."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), axis=-1)


def _visible(there: np.ndarray, back: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pixels of the first frame that the second shows, too: bool (H, W)."""
    height, width = there.shape[:2]
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    returned = cv2.remap(back, places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    lengths = _squared_length(there) + _squared_length(returned)
    return inside & (_squared_length(there + returned) <= _SHARE * lengths + _SLACK)


def _squared_length(vectors: np.ndarray) -> np.ndarray:
    return np.square(vectors[..., 0]) + np.square(vectors[..., 1])


def _means(difference: np.ndarray, pixels: np.ndarray) -> tuple[float, float]:
    """Mean of squares and of sizes of (H, W, 3) in 0..255 over pixels and channels, of images in 0..1."""
    count = 3 * np.count_nonzero(pixels)
    if not count:
        return np.nan, np.nan
    chosen = pixels.view(np.uint8)
    squares = cv2.norm(difference, normType=cv2.NORM_L2SQR, mask=chosen)
    return squares / count / 255**2, cv2.norm(difference, normType=cv2.NORM_L1, mask=chosen) / count / 255
