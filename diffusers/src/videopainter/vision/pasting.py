"""Painted pixels into a video: what lies outside of the hole stays the input's own, to the bit."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.vision.edge_matching import match_edges


def pasted(
    painted: np.ndarray, original: np.ndarray, masks: np.ndarray, *, matched: bool = False, feather: int = 0
) -> np.ndarray:
    """`original` with the painted pixels in its holes.

    Args:
        painted, original: uint8 (T, H, W, 3).
        masks: bool (T, H, W), True = hole.
        matched: Shift colours so that no outline shows, see `match_edges`.
        feather: Pixels inside the hole, from its edge on, over which the two fade into each other.
    """
    if matched:
        painted = np.stack([match_edges(*frame) for frame in zip(painted, original, masks)])
    if feather == 0:
        return np.where(masks[..., None], painted, original)
    return np.stack([_feathered(*frame, feather) for frame in zip(painted, original, masks)])


def _feathered(painted: np.ndarray, original: np.ndarray, mask: np.ndarray, feather: int) -> np.ndarray:
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)  # pixels from the hole's edge
    alpha = np.clip(depth / (feather + 1), 0.0, 1.0)[..., None]
    return np.rint(alpha * painted + (1 - alpha) * original).astype(np.uint8)
