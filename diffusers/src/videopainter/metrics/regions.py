"""Whether what fills the hole stays the same from one window of a long video to the next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from videopainter.metrics.consistency import FEATURES, LEVELS, Appearance, directions, likeness, pixel_features
from videopainter.metrics.pixels import unit_range

SAMPLE = 1 << 16  # pixels of a window that are kept


class IdentityConsistency:
    """Likeness (`consistency.likeness`) of the hole's content in the first window to that in each later one, the mean.

    Frames come chunk by chunk. A window's appearance is that of at most `SAMPLE` pixels of its hole, drawn uniformly
    and the same in every run; of windows that are over only the first one's appearance and a sum are kept.
    """

    def __init__(self, borders: Sequence[int], sample: int = SAMPLE) -> None:
        """`borders`: ascending frame numbers on which a new window begins."""
        self._borders, self._sample = list(borders), sample
        self._at = self._window = 0
        self._pixels = PixelSample(sample)
        self._first: Appearance | None = None
        self._total, self._count = 0.0, 0

    def add(self, frames: np.ndarray, masks: np.ndarray) -> None:
        """The next frames uint8 (N, H, W, 3) and masks bool (N, H, W), True = hole."""
        for frame, mask in zip(frames, masks, strict=True):
            window = bisect_right(self._borders, self._at)
            if window != self._window:
                self._close()
                self._window = window
            self._pixels.add(hole_features(frame, mask))
            self._at += 1

    def value(self) -> float | None:
        """0..1, higher = more alike; None if fewer than two windows have a hole. No frames may follow."""
        self._close()
        return self._total / self._count if self._count else None

    def _close(self) -> None:
        """End a window; without a hole it does not count."""
        features, self._pixels = self._pixels.rows, PixelSample(self._sample)
        if not len(features):
            return
        seen = appearance_of(features)
        if self._first is None:
            self._first = seen
        else:
            self._total += likeness(self._first, seen)
            self._count += 1


def appearance_of(features: np.ndarray) -> Appearance:
    """`consistency.appearance` of pixels whose features (N, 4), N >= 1, are known."""
    # Sorting float32 rows and interpolating is a tenth of np.quantile's time.
    ordered = np.sort(directions().astype(np.float32) @ features.T, axis=1).astype(np.float64)
    at = (np.arange(LEVELS) + 0.5) / LEVELS * (len(features) - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, len(features) - 1)
    return Appearance(ordered[:, low] + (at - low) * (ordered[:, high] - ordered[:, low]))


class PixelSample:
    """A uniform sample of at most `size` rows of a stream of unknown length.

    Every row draws a number of 0..1 from a fixed seed, and rows below a threshold are kept; the threshold is halved
    when there are too many. How the stream is cut into pieces changes nothing.
    """

    def __init__(self, size: int) -> None:
        self._size, self._threshold = size, 1.0
        self._draws = np.random.default_rng(0)
        self._keys, self.rows = np.empty(0), np.empty((0, FEATURES), np.float32)

    def add(self, rows: np.ndarray) -> None:
        """The stream's next rows (N, 4)."""
        keys = self._draws.random(len(rows))
        low = keys < self._threshold
        self._keys = np.concatenate([self._keys, keys[low]])
        self.rows = np.concatenate([self.rows, rows[low]])
        while len(self.rows) > self._size:
            self._threshold /= 2
            low = self._keys < self._threshold
            self._keys, self.rows = self._keys[low], self.rows[low]


def hole_features(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """L, a, b and local contrast of the hole's pixels: float32 (N, 4). Frame uint8 (H, W, 3), mask bool (H, W)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.empty((0, FEATURES), np.float32)
    # Contrast looks one pixel around: the hole's box and a pixel more give what the whole frame would.
    box = tuple(slice(max(ends[0] - 1, 0), ends[-1] + 2) for ends in (rows, columns))
    return pixel_features(unit_range(frame[box]).astype(np.float32))[mask[box]]
