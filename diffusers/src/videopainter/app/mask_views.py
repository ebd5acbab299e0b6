"""How objects and masks are shown: their shape, their state, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from videopainter.app.limits import as_whole
from videopainter.errors import InputError
from videopainter.flags import MAX_DILATION, check_ranges, flag
from videopainter.segmentation.prompts import (
    Prompt,
)

MaskState = Literal["none", "absent", "unsure", "sure"]


@dataclass(frozen=True, kw_only=True)
class MaskShape:
    """What becomes of masks before they are filled: grown by pixels, wider shapes, everything else; `feather` is how
    wide a result fades into the background, inside the hole."""

    grow: int = flag(16, "Pixels by which the hole is grown.", least=0, most=MAX_DILATION)
    feather: int = flag(0, "Pixels over which the result fades in.", least=0, most=4096)
    shape: Literal["exact", "hull", "box"] = "exact"
    invert: bool = False

    def __post_init__(self) -> None:
        for name in ("grow", "feather"):
            object.__setattr__(self, name, as_whole(name, getattr(self, name)))
        check_ranges(self)
        if type(self.invert) is not bool:
            raise InputError(f"invert: expected true or false, got {self.invert!r:.60}")
        if self.shape not in ("exact", "hull", "box"):
            raise InputError(f"shape: expected exact, hull or box, got {self.shape!r}")


@dataclass(frozen=True, kw_only=True)
class ObjectView:
    """An object as it is shown: how many of the range's frames are tracked, and which of them are to be looked at."""

    id: int
    name: str
    colour: tuple[int, int, int]
    prompts: tuple[Prompt, ...]
    tracked: int
    unsure: list[int]


@dataclass(frozen=True, kw_only=True)
class FrameState:
    """What is known of the masks of a frame, of all objects together: the worst; `confidence` 0 to 1."""

    frame: int
    state: MaskState
    confidence: float


def frame_state(frame: int, records: Sequence[Any], bands: bool) -> FrameState:
    """From how the masks of a frame were made, of each object (None: not yet); `bands`: something is masked always."""
    if any(record is None for record in records) or not (records or bands):
        return FrameState(frame=frame, state="none", confidence=0.0)
    there = [record for record in records if record.state != "absent"]
    if not there:
        state: MaskState = "sure" if bands else "absent"
        return FrameState(frame=frame, state=state, confidence=1.0)
    state = "unsure" if any(record.state == "unsure" for record in there) else "sure"
    return FrameState(frame=frame, state=state, confidence=min(record.confidence for record in there))
