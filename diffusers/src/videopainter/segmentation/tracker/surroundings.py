"""What the frames around one tell of it: how its pixels move against the camera, and what was behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from videopainter.segmentation.recent import Recent
from videopainter.segmentation.tracker.backdrop import Backdrop
from videopainter.segmentation.tracker.picture import Picture, lengths
from videopainter.vision.flow import DenseFlow, camera_flow

# How many frames away others are looked at.
NEIGHBOURS = (1, 3, 6, 10)
_MOTION = (1, 3, 6)
_REVEALS = (6, 10)
_STILL = 25  # larger motions against the camera are mistakes of the flow


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """`picture` and, of each of its pixels: `motion` (H, W, 2) against the camera over some frames, with `noise` its
    level in pixels; `revealed` (H, W), log odds that it is in front of what other frames show there (0: not known)."""

    picture: Picture
    frame_size: tuple[int, int]  # height and width of the frame itself
    motion: np.ndarray
    noise: float
    revealed: np.ndarray
    # What clicks may mean here, of those that were asked for last.
    meant: Recent[Any] = field(default_factory=lambda: Recent(2), repr=False, compare=False)

    @property
    def speed(self) -> np.ndarray:
        return lengths(self.motion)


def look_around(pictures: Mapping[int, Picture], number: int, frame_size: tuple[int, int]) -> Surroundings:
    """From the pictures of frame `number` itself and of some of its `NEIGHBOURS`; `frame_size` is (height, width)."""
    picture, flow = pictures[number], DenseFlow("medium")
    best, best_spread, reveals = np.zeros((picture.height, picture.width, 2), np.float32), -1.0, []
    for distance in NEIGHBOURS:
        other = pictures.get(number + distance) or pictures.get(number - distance)
        if other is None:
            continue
        moved = flow(picture.gray, other.gray)
        camera = camera_flow(moved)
        own = moved - camera
        spread = float(np.percentile(lengths(own), 97))
        if distance in _MOTION and best_spread < spread < _STILL:
            best, best_spread = own, spread
        if distance in _REVEALS:
            nothing = np.zeros(picture.gray.shape, bool)
            plate = Backdrop.of(other, nothing)
            plate.move(camera)
            reveals.append(plate.evidence(picture, nothing))
    noise = float(np.median(lengths(best)) + 0.3) if best_spread >= 0 else 1.0
    # An object that hardly moved lies over itself in other frames: agreement says little, difference much.
    odds = np.mean(reveals, axis=0) if reveals else np.zeros(picture.gray.shape, np.float32)
    odds = cv2.GaussianBlur(odds.astype(np.float32), (0, 0), 1.0)
    revealed = np.where(odds < 0, 0.3 * odds, odds)
    return Surroundings(picture=picture, frame_size=frame_size, motion=best, noise=noise, revealed=revealed)
