"""What an object and its surroundings look like: colours, and remembered cells."""

from __future__ import annotations

import cv2
import numpy as np

_BINS = (12, 16, 16)
_LOW, _HIGH = (0, -60, -60), (100, 60, 60)
_FLOOR = 2e-4  # a colour never seen says nothing
FAR = 50.0  # squared distance where there is nothing to compare with
_ROWS = 4096


def colour_cells(lab: np.ndarray) -> np.ndarray:
    """Which of 12 x 16 x 16 colours a pixel has: int32 (H, W)."""
    index = np.zeros(lab.shape[:2], np.int32)
    for channel, (low, high, bins) in enumerate(zip(_LOW, _HIGH, _BINS, strict=True)):
        step = (lab[..., channel] - low) * (bins / (high - low))
        index = index * bins + np.clip(step, 0, bins - 1).astype(np.int32)
    return index


def colour_histogram(cells: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How often each colour occurs, smoothed, of sum 1: (12, 16, 16)."""
    histogram = np.bincount(cells.ravel(), weight.ravel(), int(np.prod(_BINS))).reshape(_BINS)
    for axis in range(3):
        padded = np.pad(histogram, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        bins = _BINS[axis]
        before, after = (np.take(padded, range(k, bins + k), axis) for k in (0, 2))
        histogram = 0.5 * histogram + 0.25 * (before + after)
    return histogram / (histogram.sum() + 1e-9)


class ColourModel:
    """Colours of an object against those around it."""

    def __init__(self) -> None:
        self.inside: np.ndarray | None = None
        self.outside: np.ndarray | None = None

    def learn(self, cells: np.ndarray, prob: np.ndarray, around: np.ndarray, rate: float) -> None:
        """Takes over `rate` of a picture: `prob` (H, W) says where the object is, `around` what of the rest counts."""
        inside = colour_histogram(cells, prob * (prob > 0.6))
        outside = colour_histogram(cells, (1 - prob) * (prob < 0.3) * around)
        if self.inside is None or self.outside is None:
            self.inside, self.outside = inside, outside
        else:
            self.inside = (1 - rate) * self.inside + rate * inside
            self.outside = (1 - rate) * self.outside + rate * outside

    def score(self, cells: np.ndarray) -> np.ndarray:
        """Log ratio of object to surroundings for each pixel, -3 to 3, float32."""
        assert self.inside is not None and self.outside is not None
        ratio = np.log((self.inside + _FLOOR) / (self.outside + _FLOOR))
        return np.clip(ratio, -3, 3).ravel()[cells].astype(np.float32)


def histogram_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """How alike two histograms are, 0 to 1 (Bhattacharyya)."""
    return float(np.sqrt(a * b).sum())


def distances(cells: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Squared distance of each row of `cells` (N, C) to what is nearest in `memory` (M, C), float32 (N,).

    The mean over the nearest of two halves of the memory: one odd cell does not decide.
    """
    if len(memory) < 4:
        return np.full(len(cells), FAR, np.float32)
    halves = [np.ascontiguousarray(memory[k::2]) for k in (0, 1)]
    out = np.empty(len(cells), np.float32)
    squares = [(half * half).sum(1) for half in halves]
    for start in range(0, len(cells), _ROWS):
        part = cells[start : start + _ROWS]
        nearest = []
        for half, square in zip(halves, squares, strict=True):
            apart = (-2 * part) @ half.T
            apart += square  # in place: the table is larger than any cache
            nearest.append(apart.min(1))
        out[start : start + _ROWS] = (nearest[0] + nearest[1]) / 2 + (part * part).sum(1)
    return np.maximum(out, 0)


def blurred(values: np.ndarray, size: int = 3) -> np.ndarray:
    """The mean over `size` x `size` pixels."""
    return cv2.blur(values, (size, size))
