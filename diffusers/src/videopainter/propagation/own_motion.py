"""What moves by itself: pixels of a frame of which neither earlier nor later ones show a trace at their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# Frames before and after that are looked at: quick things are gone in the nearest, slow ones in the farthest.
AWAY = (3, 8, 16)
_OTHER = 14  # grey levels beyond what is around the place: more than noise, or another light
_ACROSS = 3  # fine pixels that the camera's motion may be wrong by
_SPECK, _GAP = 3, 9  # fine pixels: smaller ones are nothing, and smaller gaps are of the same thing
_MOVES, _UNSEEN = 255, 48


@dataclass(frozen=True, kw_only=True)
class OtherView:
    """Another frame: `grey` and `blocked` (uint8 (h, w)), and the homography that leads there."""

    grey: np.ndarray
    blocked: np.ndarray
    motion: np.ndarray


def own_motion(grey: np.ndarray, pairs: Sequence[Sequence[OtherView]]) -> np.ndarray:
    """How likely each pixel belongs to something that moves by itself, uint8 (h, w).

    255 where every frame of a pair shows something else, a fifth of it where none shows the place at all: it may well
    be background, and nothing says so.

    Args:
        grey: uint8 (h, w).
        pairs: frames before and after, or two of one side; what only one of them does not show was uncovered.
    """
    moves, seen = np.zeros(grey.shape, np.uint8), np.zeros(grey.shape, bool)
    for pair in pairs:
        apart, free = _apart_from_all(grey, pair)
        moves |= _solid((apart > _OTHER).view(np.uint8))
        seen |= free
    return np.where(moves > 0, np.uint8(_MOVES), np.where(seen, np.uint8(0), np.uint8(_UNSEEN)))


def _apart_from_all(grey: np.ndarray, others: Sequence[OtherView]) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels to the likest of `others`, uint8 (h, w), 0 where none shows the place; and where one does."""
    least, seen = np.full(grey.shape, 255, np.uint8), np.zeros(grey.shape, bool)
    around, size = np.ones((_ACROSS, _ACROSS), np.uint8), grey.shape[::-1]
    for other in others:
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        there = cv2.warpPerspective(other.grey, other.motion, size, flags=flags)
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
        free = cv2.warpPerspective(1 - other.blocked, other.motion, size, flags=flags) > 0
        above = cv2.subtract(grey, cv2.dilate(there, around))
        apart = cv2.max(above, cv2.subtract(cv2.erode(there, around), grey))
        least = np.where(free, cv2.min(least, apart), least)
        seen |= free
    return np.where(seen, least, np.uint8(0)), seen


def _solid(found: np.ndarray) -> np.ndarray:
    """Without specks, gaps closed, and a little larger: edges are soft."""
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((_SPECK, _SPECK), np.uint8))
    return cv2.dilate(
        cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8)), np.ones((3, 3), np.uint8)
    )
