"""Shapes that stand in for an object's mask: around its box, or free strokes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

# Strokes: how many, of how many bends each, how wide, in shares of the frame's shorter side.
_STROKES, _BENDS = (1, 5), (3, 9)
_STROKE_WIDTH, _STROKE_STEP = (0.04, 0.14), (0.08, 0.35)
_TURN = np.pi / 3
# Coordinates are handed to OpenCV in 1/16 pixels, so that small frames keep their shapes.
_SHIFT = 4


class ObjectBox(NamedTuple):
    """Edges of an object in pixels; `right` and `bottom` are exclusive."""

    left: float
    top: float
    right: float
    bottom: float


def first_box(masks: np.ndarray) -> ObjectBox:
    """The box around the hole of the first mask that has one; masks: bool (F, H, W), not all empty."""
    mask = masks[int(np.argmax(masks.any(axis=(1, 2))))]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return ObjectBox(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def jittered(box: ObjectBox, rng: np.random.Generator, margin_ratio: float) -> ObjectBox:
    """The box with each edge moved, inwards or outwards, by up to `margin_ratio` of the object's size."""
    width, height = box.right - box.left, box.bottom - box.top
    shift = rng.uniform(-margin_ratio, margin_ratio, 4) * (width, height, width, height)
    return ObjectBox(*(float(edge + by) for edge, by in zip(box, shift)))


def draw_shape(kind: str, box: ObjectBox, scale: float, height: int, width: int) -> np.ndarray:
    """A "rect", "ellipse" or "circle" that fills the box scaled about its centre; bool (height, width).

    The circle's diameter is the box's longer side.
    """
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    half_width, half_height = (box.right - box.left) / 2 * scale, (box.bottom - box.top) / 2 * scale
    if kind == "circle":
        half_width = half_height = max(half_width, half_height)
    # Of the pixels' middles.
    across, down = np.arange(width) + 0.5 - x, np.arange(height)[:, None] + 0.5 - y
    if kind == "rect":
        return (np.abs(across) <= half_width) & (np.abs(down) <= half_height)
    return (across / half_width) ** 2 + (down / half_height) ** 2 <= 1


def draw_strokes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A few wide, bending strokes anywhere in the frame; bool (height, width)."""
    canvas = np.zeros((height, width), np.uint8)
    side = min(height, width)
    for _ in range(rng.integers(*_STROKES, endpoint=True)):
        thickness = max(1, round(rng.uniform(*_STROKE_WIDTH) * side))
        points = np.rint(_walk(height, width, rng) * 2**_SHIFT).astype(np.int32)
        cv2.polylines(canvas, [points[:, None]], False, 1, thickness, cv2.LINE_8, _SHIFT)
        for point in points:
            cv2.circle(canvas, point.tolist(), thickness << _SHIFT >> 1, 1, -1, cv2.LINE_8, _SHIFT)
    return canvas.astype(bool)


def _walk(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 2), x before y, of a stroke that wanders through the frame."""
    bends = int(rng.integers(*_BENDS, endpoint=True))
    start = rng.uniform((0, 0), (width, height))
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(-_TURN, _TURN, bends))
    steps = rng.uniform(*_STROKE_STEP, bends) * min(height, width)
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1) * steps[:, None]
    points = np.vstack([start, start + np.cumsum(moves, axis=0)])
    return np.clip(points, 0, (width - 1, height - 1))
