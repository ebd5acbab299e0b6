"""From evidence per pixel to a mask: smoothing along edges, and tidy parts."""

from __future__ import annotations

import cv2
import numpy as np

_PAD = 3
_SHIFTS = [(y * s, x * s) for s in (1, 3) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) > (0, 0)]
_CONTRAST = 120.0  # squared Lab distance over which neighbours stop pulling
_SUM = np.full((1, 3), -1, np.float32)
SMOOTHNESS = 2.5


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def logit(prob: np.ndarray) -> np.ndarray:
    """Of a probability kept within 0.06 to 0.94: one cue alone is never certain."""
    prob = np.clip(prob, 0.06, 0.94)
    return np.log(prob / (1 - prob))


def mean_field(
    evidence: np.ndarray, lab: np.ndarray, *, rounds: int = 6, smoothness: float = SMOOTHNESS, bound: float = 5.0
) -> np.ndarray:
    """Probabilities (H, W) of a contrast-sensitive Potts model on 16 neighbours, by mean field (Krähenbühl 2011).

    `evidence`: log odds (H, W); `lab` (H, W, 3) says which neighbours look alike.
    """
    height, width = evidence.shape
    around = cv2.copyMakeBorder(lab, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REFLECT)

    def shifted(padded: np.ndarray, y: int, x: int) -> np.ndarray:
        return padded[_PAD + y : _PAD + y + height, _PAD + x : _PAD + x + width]

    # A pair is weighted once, for both of its pixels.
    weights, total = [], 0.0
    for y, x in _SHIFTS:
        near = 1 / (1 + 0.3 * np.hypot(y, x))
        total += 2 * near
        apart = lab - shifted(around, y, x)
        pull = near * np.exp(cv2.transform(apart * apart, _SUM) / _CONTRAST)
        padded = cv2.copyMakeBorder(pull, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
        weights.append((pull, shifted(padded, -y, -x)))
    evidence = np.clip(evidence, -bound, bound).astype(np.float32)
    state = np.tanh(evidence / 2)
    for _ in range(rounds):
        padded = cv2.copyMakeBorder(state, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
        message = np.zeros_like(evidence)
        for (y, x), (ahead, behind) in zip(_SHIFTS, weights, strict=True):
            message += ahead * shifted(padded, y, x)
            message += behind * shifted(padded, -y, -x)
        state = np.tanh((evidence + (2 * smoothness / total) * message) / 2)
    return (state + 1) / 2


def guided(guide: np.ndarray, values: np.ndarray, *, radius: int = 4, epsilon: float = 60.0) -> np.ndarray:
    """`values` (H, W) made to follow the edges of `guide` uint8 (H, W): the guided filter (He et al. 2010)."""
    size = (2 * radius + 1, 2 * radius + 1)
    guide, values = guide.astype(np.float32), values.astype(np.float32)
    mean_guide, mean_values = cv2.blur(guide, size), cv2.blur(values, size)
    covariance = cv2.blur(guide * values, size) - mean_guide * mean_values
    slope = covariance / (cv2.blur(guide * guide, size) - mean_guide * mean_guide + epsilon)
    return cv2.blur(slope, size) * guide + cv2.blur(mean_values - slope * mean_guide, size)


def part_at(mask: np.ndarray, x: int, y: int) -> np.ndarray:
    """The connected part of `mask` bool (H, W) that pixel (x, y) is in; nothing where it is in none."""
    if not mask[y, x]:
        return np.zeros_like(mask)
    labels = cv2.connectedComponents(mask.astype(np.uint8))[1]
    return labels == labels[y, x]


def filled(mask: np.ndarray, share: float = 0.03) -> np.ndarray:
    """`mask` with its small holes closed: those under `share` of its area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < share * mask.sum())
    small = small[small > 0]
    return mask | np.isin(labels, small) if len(small) else mask


def opened(mask: np.ndarray) -> np.ndarray:
    """`mask` without threads of a pixel or two."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)
