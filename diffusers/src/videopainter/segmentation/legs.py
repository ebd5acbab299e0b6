"""What is solved and what is tracked, and in which order, from an object's prompts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from videopainter.segmentation.prompts import FrameRange, Prompt, TrackedObject


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A frame whose mask is solved from its prompts. `digest` names all that it depends on; `near` is the anchor on
    whose tracked masks it is solved, None for the first."""

    frame: int
    digest: str
    near: int | None


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Frames `frames` (in the order they are tracked), from an anchor whose digest is in `key`."""

    anchor: int
    frames: range
    key: str


def anchor_order(thing: TrackedObject) -> list[int]:
    """The frames with prompts in the order in which they are solved: the first that says where the object is leads."""
    if not thing.frames:
        return []
    first = next((frame for frame in thing.frames if _locates(thing.at(frame))), thing.frames[0])
    return [first, *(frame for frame in thing.frames if frame != first)]


def leg_between(anchor: Anchor, frame: int) -> Leg:
    """The leg from an anchor to a frame beside it."""
    step = 1 if frame > anchor.frame else -1
    first = anchor.frame if step > 0 else anchor.frame - 1
    return Leg(anchor=anchor.frame, frames=range(first, frame + step, step), key=anchor.digest + "+-"[step < 0])


def plan_legs(anchors: Mapping[int, Anchor], span: FrameRange) -> Iterator[Leg]:
    """All legs over `span`: each frame is tracked from the anchor that is nearest to it."""
    order = sorted(anchors)
    for k, anchor in enumerate(order):
        low = span.start if k == 0 else (order[k - 1] + anchor) // 2 + 1
        high = span.stop - 1 if k == len(order) - 1 else (anchor + order[k + 1]) // 2
        yield Leg(anchor=anchor, frames=range(anchor, high + 1), key=f"{anchors[anchor].digest}+")
        if low < anchor:
            yield Leg(anchor=anchor, frames=range(anchor - 1, low - 1, -1), key=f"{anchors[anchor].digest}-")


def _locates(prompts: Sequence[Prompt]) -> bool:
    return any(not hasattr(prompt, "positive") or prompt.positive for prompt in prompts)  # type: ignore[union-attr]
