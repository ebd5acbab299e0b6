"""Smooth fields through what is known: a pyramid that averages down and interpolates up.

Push-pull (Gortler et al., "The Lumigraph", SIGGRAPH 1996), linear in the number of pixels. As the membrane of Poisson
image editing (Pérez, Gangnet, Blake, SIGGRAPH 2003) it carries differences at a hole's edge inside.
"""

from __future__ import annotations

import cv2
import numpy as np


def membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A smooth field that has `values` where `known` is 1.

    Args:
        values: float32 (H, W, C).
        known: bool, or float32 weights 0 to 1, (H, W); one at least must not be 0.
    """
    return _spread(values, known.astype(np.float32))


def _spread(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pixels of weight 1 keep their values, others take them from half the resolution."""
    height, width = weights.shape
    if max(height, width) == 1 or weights.min() >= 1:
        return values
    half = ((width + 1) // 2, (height + 1) // 2)
    total = cv2.resize(weights, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(values * weights[..., None], half, interpolation=cv2.INTER_AREA)
    means = sums.reshape(*total.shape, -1) / np.maximum(total, np.float32(1e-9))[..., None]
    # A quarter of known pixels makes a known one: else thin rings would fade away on the way down.
    coarse = _spread(means, np.minimum(4 * total, 1))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    return fine + weights[..., None] * (values - fine)


def local_mean(values: np.ndarray, known: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of what is known in a square of `size` pixels round each pixel.

    Args:
        values: float32 (H, W) or (H, W, C).
        known: bool or weights, (H, W).

    Returns:
        The means, and where there was anything known, bool (H, W); elsewhere the mean is 0.
    """
    weights = known.astype(np.float32)
    box = (size, size)
    total = cv2.boxFilter(weights, -1, box, normalize=False)
    per_pixel = (lambda x: x) if values.ndim == 2 else (lambda x: x[..., None])
    sums = cv2.boxFilter(values * per_pixel(weights), -1, box, normalize=False)
    return sums / per_pixel(np.maximum(total, np.float32(1e-6))), total > 1e-6
