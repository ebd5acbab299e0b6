"""What classical methods put into a hole: the least that a trained model has to beat.

All take frames uint8 (T, H, W, 3) RGB and masks bool (T, H, W), True = hole; they look at one frame at a time, leave
everything outside the hole untouched, and leave frames without a hole alone. A frame that is all hole has nothing to
start from: ValueError.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

RADIUS = 3  # pixels around each one that OpenCV's methods look at
# Passes of a 3x3 mean at every size: enough that no trace of the coarser grid is left.
_SMOOTHING = 24
_CHUNK = 2**22  # distances in memory at once


def telea(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Fast marching (Telea 2004), as OpenCV has it."""
    return _each_frame(frames, masks, lambda frame, hole: _opencv(frame, hole, cv2.INPAINT_TELEA))


def navier_stokes(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Navier-Stokes (Bertalmio, Bertozzi, Sapiro 2001), as OpenCV has it."""
    return _each_frame(frames, masks, lambda frame, hole: _opencv(frame, hole, cv2.INPAINT_NS))


def nearest_colour(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Every pixel of the hole repeats the nearest pixel outside it (Euclidean; of several, the leftmost)."""
    return _each_frame(frames, masks, _nearest)


BASELINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Telea": telea,
    "Navier-Stokes": navier_stokes,
    "nearest colour": nearest_colour,
}


def _each_frame(
    frames: np.ndarray, masks: np.ndarray, fill: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    if frames.dtype != np.uint8 or masks.dtype != np.bool_ or frames.shape != (*masks.shape, 3):
        raise ValueError(
            f"expected frames uint8 (T, H, W, 3) and masks bool (T, H, W), "
            f"got {frames.dtype} {frames.shape} and {masks.dtype} {masks.shape}"
        )
    result = frames.copy()
    for t, hole in enumerate(masks):
        if hole.all():
            raise ValueError(f"masks: expected something outside the hole in every frame, got none in frame {t}")
        if hole.any():
            result[t][hole] = fill(frames[t], hole)[hole]
    return result


def _opencv(frame: np.ndarray, hole: np.ndarray, method: int) -> np.ndarray:
    return cv2.inpaint(frame, hole.astype(np.uint8), RADIUS, method)


def _nearest(frame: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The exact distance transform in two passes, as OpenCV's own gives labels for an approximate one only."""
    height, width = hole.shape
    sources = _nearest_row(hole)
    rows, columns = (places.astype(np.int32) for places in np.nonzero(hole))
    result = frame.copy()
    for start in range(0, len(rows), max(1, _CHUNK // width)):
        part = slice(start, start + max(1, _CHUNK // width))
        source = sources[rows[part]]
        distance = (source - rows[part, None]) ** 2 + (np.arange(width, dtype=np.int32) - columns[part, None]) ** 2
        nearest = distance.argmin(axis=1)
        result[rows[part], columns[part]] = frame[source[np.arange(len(nearest)), nearest], nearest]
    return result


def _nearest_row(hole: np.ndarray) -> np.ndarray:
    """For every pixel the row of the nearest pixel of its column outside the hole (H, W); far away if there is none."""
    height, width = hole.shape
    far = 4 * (height + width)
    own = np.arange(height, dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(hole, -far, own), axis=0)
    below = np.minimum.accumulate(np.where(hole, far, own)[::-1], axis=0)[::-1]
    return np.where(own - above <= below - own, above, below)


def continue_colours(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fills the hole of a float image: averages of what is known, from coarse to fine, smoothed inside the hole."""
    if not mask.any():
        return image
    height, width = mask.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = (~mask).astype(np.float32)
    known = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    total = cv2.resize(image * weight[..., None], half, interpolation=cv2.INTER_AREA)
    coarse = continue_colours(total / np.maximum(known, 1e-6)[..., None], known <= 0)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    filled = np.where(mask[..., None], fine, image)
    rows, columns = _box_of(mask)
    part, hole = filled[rows, columns], mask[rows, columns, None]
    for _ in range(_SMOOTHING):
        part = np.where(hole, cv2.blur(part, (3, 3)), part)
    filled[rows, columns] = part
    return filled


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the hole and two pixels around it."""
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return slice(max(0, ys[0] - 2), ys[-1] + 3), slice(max(0, xs[0] - 2), xs[-1] + 3)
