"""A frame as the tracker sees it: at its working size, in Lab, with a description of every cell."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

# Long side of the working picture: larger ones cost in proportion to their area and gain little.
WORK_SIDE = 432
_DIRECTIONS = np.arange(6) * np.pi / 3
# Weights of the parts of a description: fine colour, coarse colour, texture, edge directions.
_FINE, _COARSE, _TEXTURE, _EDGES = 1.0, 0.7, 0.7, 0.5
_REACH = 20  # pixels round a window that its description looks at

PictureWindow = tuple[slice, slice]


class Picture:
    """One frame, uint8 RGB (H, W, 3), at the tracker's working size."""

    def __init__(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        self.scale = min(1.0, WORK_SIDE / max(height, width))
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        self.rgb = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if self.scale < 1 else frame
        self.height, self.width = self.rgb.shape[:2]

    @cached_property
    def gray(self) -> np.ndarray:
        """uint8 (H, W)."""
        return cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY)

    @cached_property
    def lab(self) -> np.ndarray:
        """float32 (H, W, 3): L 0..100, a and b about -100..100."""
        return cv2.cvtColor(self.rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)

    @cached_property
    def smooth(self) -> np.ndarray:
        """`lab` without its noise."""
        return cv2.GaussianBlur(self.lab, (0, 0), 0.7)

    @property
    def whole(self) -> PictureWindow:
        return slice(0, self.height), slice(0, self.width)

    def window(self, mask: np.ndarray, margin: int) -> PictureWindow:
        """The smallest window with `mask` bool (H, W) and `margin` pixels round it; everything where that is empty."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return self.whole
        return (
            slice(max(0, int(rows[0]) - margin), min(self.height, int(rows[-1]) + 1 + margin)),
            slice(max(0, int(columns[0]) - margin), min(self.width, int(columns[-1]) + 1 + margin)),
        )

    def describe(self, window: PictureWindow, stride: int) -> np.ndarray:
        """What is seen around every cell of `stride` x `stride` pixels of a window: float32 (rows, columns, 13)."""
        rows, columns = window
        top, left = max(0, rows.start - _REACH), max(0, columns.start - _REACH)
        around = self.lab[top : rows.stop + _REACH, left : columns.stop + _REACH]
        inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        size = -(-(columns.stop - columns.start) // stride), -(-(rows.stop - rows.start) // stride)
        parts = [part[inner] for part in _parts(around)]
        return np.dstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts]) / 10


def _parts(lab: np.ndarray) -> list[np.ndarray]:
    light = np.ascontiguousarray(lab[..., 0])
    fine = cv2.GaussianBlur(lab, (0, 0), 1.5) * _FINE
    coarse = cv2.GaussianBlur(lab, (0, 0), 6) * _COARSE
    mean = cv2.GaussianBlur(light, (0, 0), 3)
    texture = cv2.sqrt(np.maximum(cv2.GaussianBlur(light * light, (0, 0), 3) - mean * mean, 0)) * _TEXTURE
    across = cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.25)
    down = cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.25)
    strength = cv2.magnitude(across, down) + 1e-6
    edges = []
    for angle in _DIRECTIONS:
        along = np.maximum(0, across * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle)))
        edges.append(cv2.GaussianBlur(along * along / strength, (0, 0), 3) * _EDGES)
    return [fine, coarse, texture, np.dstack(edges[:3]), np.dstack(edges[3:])]


def ellipse(radius: int) -> np.ndarray:
    """A round kernel for dilating or eroding by `radius` pixels."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """`mask` bool (H, W) grown by `radius` pixels."""
    return cv2.dilate(mask.astype(np.uint8), ellipse(radius)).astype(bool)


def grown_within(picture: Picture, mask: np.ndarray, radius: int) -> np.ndarray:
    """As `grown`, where the mask is small in its picture: a large kernel costs its area for every pixel."""
    window, out = picture.window(mask, radius), np.zeros_like(mask)
    out[window] = grown(mask[window], radius)
    return out


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Of vectors (..., 2), float32 (...); as `np.linalg.norm`, which takes longer over two of them."""
    return np.sqrt(vectors[..., 0] * vectors[..., 0] + vectors[..., 1] * vectors[..., 1])


def shrunk(mask: np.ndarray, radius: int) -> np.ndarray:
    """`mask` bool (H, W) shrunk by `radius` pixels; the picture's border is no edge."""
    return cv2.erode(mask.astype(np.uint8), ellipse(radius)).astype(bool)
