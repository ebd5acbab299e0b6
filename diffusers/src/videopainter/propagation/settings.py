"""What decides which pixels are copied, and how surely."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Quality = Literal["fast", "default", "high"]


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """Lengths called "fine" are pixels of the working pictures, which are about 240 lines high.

    Errors are grey levels (of 255) of the worst of the three colours.
    """

    reach: int = 96  # frames to either side that may be sources
    buffer_bytes: int = 2**30  # frames in reach that are held: a shorter reach where they would not fit
    most_sources: int = 8
    patience: float = 8.0  # frames away at which a source counts half
    margin: float = 4 / 480  # of the shorter side: pixels round a mask that are not taken for background
    surroundings: int = 32  # fine: what is looked at round the hole
    flow: Literal["ultrafast", "fast", "medium"] = "medium"
    carry_below: float = 0.95  # share of the hole that the camera's motion must explain; else motion is carried, too
    carried: int = 2  # sources to either side for that
    carried_doubt: float = 2.0  # grey levels that they are trusted less, ...
    carried_drift: float = 0.05  # ... and for every frame of their way
    agree: float = 14.0  # sources show the same where they differ by less
    doubt: float = 0.2  # chance of an error of more than 20 levels from which on a pixel stays a hole
    speck: int = 64  # pixels: a smaller rest is closed from around it


QUALITIES: dict[str, PropagationSettings] = {
    "fast": PropagationSettings(most_sources=5, flow="fast"),
    "default": PropagationSettings(),
    "high": replace(PropagationSettings(), most_sources=14, carry_below=1.1, carried=3),
}
