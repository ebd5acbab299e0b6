"""Dense motion between two frames: DIS flow, warping by it, and what of it is the camera's.

A flow from `a` to `b` is float32 (H, W, 2): pixel (x, y) of `a` is found at (x, y) + flow in `b`. To bring something of
`b` into `a`'s place, warp it by the flow from `a` to `b` (one looks *back* from the target into the source).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
# The camera is fitted to every eighth pixel of every eighth row; fewer votes than this are no fit.
_CAMERA_STEP, _CAMERA_VOTES = 8, 50


class DenseFlow:
    """DIS optical flow (Kroeger et al. 2016), as OpenCV has it. Stateless: equal frames give equal flow."""

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        self._dis = cv2.DISOpticalFlow.create(_PRESETS[preset])

    def __call__(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Where each pixel of `source` is in `target`; both uint8 (H, W), the result float32 (H, W, 2)."""
        return self._dis.calc(source, target, None)  # type: ignore[call-overload]


@lru_cache(maxsize=4)
def pixel_grid(height: int, width: int) -> np.ndarray:
    """The place (x, y) of every pixel, float32 (H, W, 2); not to be written to."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    places = np.stack([x, y], axis=-1)
    places.flags.writeable = False
    return places


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`image` (H, W[, C]) brought into the place of the frame that `flow` starts from; edges are repeated outwards."""
    places = pixel_grid(*flow.shape[:2]) + flow
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def round_trip_error(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """By how many pixels one misses the start when going `there` and `back` again, float32 (H, W)."""
    missed = there + warp(back, there)
    return cv2.magnitude(missed[..., 0], missed[..., 1])


def camera_flow(flow: np.ndarray, exclude: np.ndarray | None = None) -> np.ndarray:
    """What of `flow` a moving camera explains: the homography most of it agrees with, as a flow (H, W, 2).

    `exclude` bool (H, W): pixels without a vote (moving objects), as long as enough others are left. A field of
    zeros where no homography fits.
    """
    height, width = flow.shape[:2]
    places = pixel_grid(height, width)
    step = _CAMERA_STEP
    votes = (slice(step // 2, None, step), slice(step // 2, None, step))
    source = places[votes].reshape(-1, 2)
    target = (places + flow)[votes].reshape(-1, 2)
    if exclude is not None:
        kept = ~exclude[votes].reshape(-1)
        if kept.sum() > _CAMERA_VOTES:
            source, target = source[kept], target[kept]
    cv2.setRNGSeed(0)
    homography, _ = cv2.findHomography(source, target, cv2.RANSAC, 1.5)
    if homography is None:
        return np.zeros_like(flow)
    return cv2.perspectiveTransform(places.reshape(-1, 1, 2), homography).reshape(height, width, 2) - places
