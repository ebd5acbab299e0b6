"""Fitting what was painted to what lies around it: brightness and colour at the hole's edge become the video's own.

A decoded hole is a little lighter, darker or of another tint than the frame it is pasted into, which shows as an
outline. The difference is known in a ring just outside of the hole, where both exist; a smooth membrane through it is
added inside (Pérez, Gangnet, Blake, "Poisson image editing", SIGGRAPH 2003; as an interpolation: Farbman et al.,
"Coordinates for instant image cloning", SIGGRAPH 2009). The membrane is made by averaging down and interpolating up a
pyramid (Gortler et al., "The Lumigraph", SIGGRAPH 1996): linear in the number of pixels.

What a mask leaves of an object just outside of it would be carried inside: masks should cover objects with a margin.
"""

from __future__ import annotations

import cv2
import numpy as np

_RING_SHARE = 64  # the ring is a 64th of the frame's shorter side wide


def match_edges(painted: np.ndarray, original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`painted` shifted inside of the hole so that it goes over into `original` at the edge; outside it stays.

    Args:
        painted: The decoded frame, uint8 (H, W, 3).
        original: The input's frame, uint8 (H, W, 3).
        mask: bool (H, W), True = hole. Without a hole, or without anything around it, nothing changes.
    """
    radius = max(1, min(mask.shape) // _RING_SHARE)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    ring = (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
    if not mask.any() or not ring.any():
        return painted
    difference = original.astype(np.float32) - painted
    shifted = np.rint(np.clip(painted + membrane(difference, ring), 0, 255)).astype(np.uint8)
    return np.where(mask[..., None], shifted, painted)


def membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A smooth field that has `values` (H, W, C), float32, where `known` (H, W), bool with one True at least."""
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
