"""Fitting what was painted to what lies around it: brightness and colour at the hole's edge become the video's own.

A decoded hole is a little lighter, darker or of another tint than the frame it is pasted into, which shows as an
outline. The difference is known in a ring just outside of the hole, where both exist; a smooth membrane through it is
added inside (Pérez, Gangnet, Blake, "Poisson image editing", SIGGRAPH 2003; as an interpolation: Farbman et al.,
"Coordinates for instant image cloning", SIGGRAPH 2009).

What a mask leaves of an object just outside of it would be carried inside: masks should cover objects with a margin.
"""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.vision.membrane import membrane

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
