"""Where each pixel round the hole, and in it, is found in a source frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.reshape import Box
from videopainter.propagation.footage import CARRIED, Footage
from videopainter.vision.flow import pixel_grid, round_trip_error
from videopainter.vision.homographies import apply
from videopainter.vision.membrane import local_mean, membrane

# Fine pixels, grey levels: what a residual flow may be, to be believed.
_LARGEST, _FROM_MEDIAN, _ROUND_TRIP, _PHOTOMETRIC = 8.0, 4.0, 0.7, 15.0
_PATCH = 9  # what flow looks at; nearer to what is unknown it is not trusted
_SMOOTH = 17
FEWEST = 60  # pixels that both frames show, for anything to be said about a source


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A source brought to the place of a box of frame t; fine pixels.

    `places` float32 (h, w, 2): x and y in the source. `visible` bool (h, w): the source shows background there.
    """

    source: int
    places: np.ndarray
    visible: np.ndarray


def camera_places(motion: np.ndarray, box: Box) -> np.ndarray:
    """Where the camera's motion alone puts the pixels of `box`."""
    return apply(motion, _grid(box))


def carried_places(footage: Footage, t: int, box: Box, sources: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(source, places) by dense motion, carried from frame to frame. Sources are of the same shot as `t`."""
    grid = _grid(box)[CARRIED // 2 :: CARRIED, CARRIED // 2 :: CARRIED]
    height, width = box.bottom - box.top, box.right - box.left
    wanted = set(sources)
    for direction in (-1, 1):
        ahead = [s for s in wanted if (s - t) * direction > 0]
        at, u = grid, t
        while ahead:
            flow = footage.neighbour_flow(u, u + direction)
            where = (at + 0.5) / CARRIED - 0.5
            at = at + cv2.remap(flow, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
            u += direction
            if u in ahead:
                ahead.remove(u)
                shift = _enlarged(at - grid, (height, width))
                yield u, _grid(box) + shift


def _enlarged(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A field that has a value at every CARRIED-th pixel, from CARRIED // 2 on, at all of them."""
    step = 1 / CARRIED
    offset = -(CARRIED // 2) * step
    matrix = np.array([[step, 0, offset], [0, step, offset]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(field, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def refined(footage: Footage, t: int, box: Box, source: int, places: np.ndarray) -> Aligned | None:
    """`places` corrected by the dense motion that is left where both frames show background.

    Inside the hole the correction is a membrane through that around it. None where the source shows nothing to
    compare.
    """
    view, other = footage.view(t), footage.view(source)
    free = view.blocked[box.slices] == 0
    visible = _shows(other.blocked, places)
    both = visible & free
    if int(both.sum()) < FEWEST:
        return None
    seen = cv2.remap(other.grey, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    shift = _residual(footage, view.grey[box.slices], seen, both)
    if shift is not None:
        grid = pixel_grid(*both.shape)
        places = cv2.remap(places, grid + shift, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        visible = _shows(other.blocked, places)
        if int((visible & free).sum()) < FEWEST:
            return None
    return Aligned(source=source, places=places, visible=visible)


def _shows(blocked: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where `places` lie inside the picture, away from what is blocked."""
    return cv2.remap((1 - blocked) * np.uint8(255), places, None, cv2.INTER_LINEAR) > 250  # type: ignore[call-overload]


def _residual(footage: Footage, part: np.ndarray, seen: np.ndarray, both: np.ndarray) -> np.ndarray | None:
    """The motion left between the box and a source brought there, float32 (h, w, 2); None where it is unknown."""
    few = (slice(None, None, 2), slice(None, None, 2))
    shift = np.median(part[few][both[few]].astype(np.int16) - seen[few][both[few]]) if both[few].any() else 0
    seen = np.clip(seen.astype(np.int16) + round(float(shift)), 0, 255).astype(np.uint8)
    # Where one shows something else both get the same: no motion there, and none leaks far.
    part = np.where(both, part, seen)
    dis = footage.dense_flow(footage.settings.flow)
    there, back = dis(part, seen), dis(seen, part)
    height, width = both.shape
    moved = cv2.remap(seen, pixel_grid(height, width) + there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    good = cv2.erode(both.view(np.uint8), np.ones((_PATCH, _PATCH), np.uint8)) > 0
    good &= round_trip_error(there, back) < _ROUND_TRIP
    good &= cv2.absdiff(part, moved) < _PHOTOMETRIC
    good &= cv2.magnitude(there[..., 0], there[..., 1]) < _LARGEST
    if int(good.sum()) < FEWEST // 2:
        return None
    # What moves by itself is not followed.
    away = there - np.median(there[good], axis=0)
    good &= cv2.magnitude(away[..., 0], away[..., 1]) < _FROM_MEDIAN
    # Plain areas say little about motion.
    across, down = cv2.Sobel(part, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(part, cv2.CV_32F, 0, 1, scale=1 / 8)
    texture = cv2.boxFilter(across * across + down * down, -1, (_PATCH, _PATCH))
    smooth, _ = local_mean(there, good * (texture + np.float32(0.5)), _SMOOTH)
    return cv2.GaussianBlur(membrane(smooth, good), (0, 0), 2)


def _grid(box: Box) -> np.ndarray:
    return pixel_grid(box.bottom - box.top, box.right - box.left) + np.array([box.left, box.top], np.float32)
