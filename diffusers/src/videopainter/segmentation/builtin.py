"""The built-in tracker as a session's segmenter: no weights, its own working size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from videopainter.segmentation.prompts import Prompt
from videopainter.segmentation.recent import Recent
from videopainter.segmentation.segmenter import FrameMask, FrameView
from videopainter.segmentation.tracker.labelling import guided
from videopainter.segmentation.tracker.picture import Picture
from videopainter.segmentation.tracker.solving import candidates, solve, surroundings_of
from videopainter.segmentation.tracker.surroundings import Surroundings
from videopainter.segmentation.tracker.tracker import Estimate, Tracker

# Raised when the same prompts would give other masks than before.
BUILTIN_VERSION = 4
_LOOKED_AROUND = 8  # frames whose surroundings are kept, some 5 MB each


class BuiltinSegmenter:
    """Flow, remembered cells, colours and the background seen before (`tracker/`)."""

    identity = f"builtin {BUILTIN_VERSION}"

    def __init__(self) -> None:
        self._recent: Recent[Surroundings] = Recent(_LOOKED_AROUND)

    def choices(self, view: FrameView, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        around = surroundings_of(view.read, view.number, view.length, self._recent)
        size = around.frame_size[::-1]
        return [
            cv2.resize(found.mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
            for found in candidates(around, prompts)
        ]

    def solve(
        self, view: FrameView, prompts: Sequence[Prompt], *, tracked: np.ndarray | None = None, candidate: int = 1
    ) -> np.ndarray:
        around = surroundings_of(view.read, view.number, view.length, self._recent)
        prob = None
        if tracked is not None:
            size = around.picture.width, around.picture.height
            prob = np.clip(cv2.resize(tracked.astype(np.float32), size, interpolation=cv2.INTER_AREA), 0.05, 0.95)
        return solve(around, prompts, tracked=prob, candidate=candidate)

    def follower(self) -> BuiltinFollower:
        return BuiltinFollower(Tracker())

    def resumed(self, state: Mapping[str, np.ndarray]) -> BuiltinFollower:
        return BuiltinFollower(Tracker.from_state(state))


class BuiltinFollower:
    """A tracker that takes frames and gives masks at their size."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def start(self, pixels: np.ndarray, anchor: np.ndarray) -> FrameMask:
        return _frame_mask(self._tracker.start(Picture(pixels), anchor), pixels)

    def step(self, pixels: np.ndarray) -> FrameMask:
        return _frame_mask(self._tracker.step(Picture(pixels)), pixels)

    def state(self) -> dict[str, np.ndarray]:
        return self._tracker.state()


def _frame_mask(estimate: Estimate, pixels: np.ndarray) -> FrameMask:
    return FrameMask(mask=full_size(estimate, pixels), confidence=estimate.confidence, state=estimate.state)


def full_size(estimate: Estimate, pixels: np.ndarray) -> np.ndarray:
    """An estimate's mask bool (H, W) at the size of its frame uint8 RGB (H, W, 3), along that one's edges."""
    height, width = pixels.shape[:2]
    if estimate.prob.shape == (height, width):
        return estimate.prob > 0.5
    if not (estimate.prob > 0.5).any():
        return np.zeros((height, width), bool)
    large = cv2.resize(estimate.prob, (width, height), interpolation=cv2.INTER_LINEAR)
    return guided(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), large) > 0.5
