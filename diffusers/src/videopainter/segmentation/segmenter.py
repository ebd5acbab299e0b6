"""What a session asks of whoever makes its masks: the built-in tracker, or a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from videopainter.segmentation.prompts import Prompt

State = Literal["tracked", "unsure", "absent"]
ReadFrame = Callable[[int], np.ndarray]
TextBox = tuple[float, float, float, float]
WeightsKind = Literal["sam2", "sam3", "grounding-dino"]


@dataclass(frozen=True, kw_only=True)
class WeightsPlace:
    """Weights of a model: a file or folder (or a hub id), and what they are of."""

    place: str
    kind: WeightsKind
    original: bool = False  # SAM 2's own checkpoint


@dataclass(frozen=True, kw_only=True)
class FrameMask:
    """An object in one frame: `mask` bool (H, W) at the video's size, `confidence` 0 to 1.

    "unsure": there is a mask that may be wrong (look at it, correct it); "absent": the object is hidden or out of the
    picture, and the mask is empty.
    """

    mask: np.ndarray
    confidence: float
    state: State


@dataclass(frozen=True, kw_only=True)
class FrameView:
    """A frame with prompts, and the video round it: `read(k)` gives frame k of `length`, uint8 RGB (H, W, 3)."""

    read: ReadFrame
    number: int
    length: int

    @property
    def pixels(self) -> np.ndarray:
        return self.read(self.number)


class Follower(Protocol):
    """Follows one object from an anchor's frame through frames that come one by one; memory does not grow.

    Deterministic, also across `state()` and `Segmenter.resumed`.
    """

    def start(self, pixels: np.ndarray, anchor: np.ndarray) -> FrameMask:
        """Takes a solved anchor for the truth of its frame, uint8 RGB (H, W, 3)."""
        ...

    def step(self, pixels: np.ndarray) -> FrameMask:
        """Follows the object into the next frame, uint8 RGB (H, W, 3)."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Everything the next step depends on, as arrays (for `np.savez`)."""
        ...


class Segmenter(Protocol):
    """Makes masks from prompts and follows them. `identity` differs where the same prompts give other masks."""

    @property
    def identity(self) -> str: ...

    def choices(self, view: FrameView, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """Up to three masks bool (H, W) that the clicks of a frame may mean, likeliest first."""
        ...

    def solve(
        self, view: FrameView, prompts: Sequence[Prompt], *, tracked: np.ndarray | None = None, candidate: int = 1
    ) -> np.ndarray:
        """The anchor that prompts give, a float32 array that `Follower.start` takes.

        `tracked` bool (H, W): the mask that is there; clicks and strokes correct it, boxes and masks replace it.
        InputError where nothing is found.
        """
        ...

    def follower(self) -> Follower:
        """A new one."""
        ...

    def resumed(self, state: Mapping[str, np.ndarray]) -> Follower:
        """The one that `state()` was taken from."""
        ...


class TextFinder(Protocol):
    """Finds what words describe."""

    @property
    def identity(self) -> str: ...

    def __call__(self, pixels: np.ndarray, words: str) -> Sequence[TextBox]:
        """Boxes (x0, y0, x1, y1) in pixels of a frame uint8 RGB (H, W, 3), the likeliest first."""
        ...


def nothing_found(prompts: Sequence[Prompt]) -> str:
    """What is told where prompts of one frame point at nothing."""
    frame = next((p.frame for p in prompts if p.frame is not None), 0)
    return f"frame {frame}: expected an object at the prompts, found nothing there"
