"""What was seen behind the object: a plate of the background that moves along with it."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.segmentation.tracker.picture import Picture, grown
from videopainter.vision.flow import camera_flow, warp

_MARGIN = 4  # pixels round an object that are not taken for background
_REPLACED = 0.5  # how much of the plate a new frame replaces where it shows background
_NOISE, _RANGE = 1.5, 40.0  # Lab distances
_DARKER = 0.4  # what a difference in lightness alone counts: shadows and exposure


def background_flow(flow: np.ndarray, thing: np.ndarray) -> np.ndarray:
    """The background's motion (H, W, 2), also behind `thing` bool (H, W): `flow` outside, continued inside.

    The camera's motion goes everywhere; what the flow has besides (parallax) is spread inwards from around.
    """
    camera = camera_flow(flow, exclude=thing)
    known = (~thing).astype(np.float32)
    rest = (flow - camera) * known[..., None]
    weight = cv2.GaussianBlur(known, (0, 0), 8)
    spread = cv2.GaussianBlur(rest, (0, 0), 8) / (weight[..., None] + 0.05)
    return camera + np.where(thing[..., None], spread, rest)


class Backdrop:
    """The background as seen so far, in the place of the latest frame."""

    def __init__(self, plate: np.ndarray, known: np.ndarray) -> None:
        """`plate`: Lab float32 (H, W, 3); `known` float32 (H, W): 1 where background was seen, else 0."""
        self.plate, self.known = plate, known

    @classmethod
    def of(cls, picture: Picture, thing: np.ndarray) -> Backdrop:
        """What `picture` shows outside of `thing` bool (H, W)."""
        free = ~grown(thing, _MARGIN)
        return cls(picture.smooth * free[..., None], free.astype(np.float32))

    def move(self, flow: np.ndarray) -> None:
        """Brings the plate into the next frame's place; `flow` from that frame back to this one (`background_flow`)."""
        self.plate = warp(self.plate, flow)
        self.known = warp(self.known, flow)
        height, width = self.known.shape
        x = np.arange(width, dtype=np.float32) + flow[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
        self.known *= (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)

    def evidence(self, picture: Picture, thing: np.ndarray) -> np.ndarray:
        """Log odds (H, W) that a pixel is not background: above 0 where it differs from what is known.

        `thing` bool (H, W): about where the object is; what differs elsewhere tells how far the plate can be trusted.
        """
        known = self.known > 0.9
        apart = _difference(picture.smooth, self.plate)
        outside = known & ~thing
        if outside.sum() < 200:
            return np.zeros_like(apart)
        # What moves by itself, or was aligned badly, differs around here, too.
        count = cv2.blur(outside.astype(np.float32), (41, 41)) + 0.02
        usual = cv2.blur(apart * outside, (41, 41)) / count
        noise = np.maximum(usual, 0.7 * float(apart[outside].mean())) + _NOISE
        # Background differs by exponential noise, an object by anything up to _RANGE.
        odds = np.log(noise / _RANGE) + apart / noise
        return np.where(known, np.clip(odds, -3, 3), 0).astype(np.float32)

    def renew(self, picture: Picture, thing: np.ndarray) -> None:
        """Takes over what this frame shows outside of `thing` bool (H, W)."""
        free = (~grown(thing, _MARGIN)).astype(np.float32)
        rate = free * np.where(self.known > 0.5, _REPLACED, 1.0)
        self.plate += rate[..., None] * (picture.smooth - self.plate)
        self.known = np.maximum(self.known, free)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance in Lab, lightness less, to the nearest of what lies within a pixel."""
    best = np.full(a.shape[:2], np.inf, np.float32)
    padded = cv2.copyMakeBorder(b, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    height, width = a.shape[:2]
    weights = np.array([[_DARKER**2, 1, 1]], np.float32)
    for y, x in ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)):
        apart = a - padded[y : y + height, x : x + width]
        np.minimum(best, cv2.transform(apart * apart, weights), out=best)
    return np.sqrt(best)
