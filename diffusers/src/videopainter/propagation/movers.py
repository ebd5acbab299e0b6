"""Things that move by themselves, where a hole is filled: what of them lies beside it, and what sources show of them.

A post near to a camera that passes is no such thing, though the camera's motion does not explain it either: sources far
away in time, brought into place by dense motion, show it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.reshape import Box
from videopainter.propagation.candidates import Candidate, largest
from videopainter.propagation.footage import Footage
from videopainter.vision.membrane import membrane

_FAR = 8  # frames: what moves by itself is elsewhere by then
_OTHER = 14.0  # grey levels
_FEWEST = 20  # fine pixels that tell the one from the other
_BY_ITSELF = 0.3  # what sources show of a mover says nothing about background


@dataclass(frozen=True, kw_only=True)
class Movers:
    """`entering` float32 (h, w): how near to a mover of this frame; inside the hole one may go on.

    `shown`: for each candidate how likely it shows a mover, float32 (h, w).
    """

    entering: np.ndarray
    shown: list[np.ndarray]


def movers_near(footage: Footage, t: int, box: Box, candidates: Sequence[Candidate]) -> Movers:
    """What moves by itself in and around a part of frame `t`'s hole, as far as its candidates tell."""
    view = footage.view(t)
    free = view.blocked[box.slices] == 0
    moves = (footage.own_motion(t)[box.slices] > 128) & free
    shown = [_shown(footage, candidate) for candidate in candidates]
    if not moves.any():
        return Movers(entering=np.zeros(free.shape, np.float32), shown=shown)
    far = [k for k, c in enumerate(candidates) if c.away >= _FAR] or range(len(candidates))
    part = view.picture[box.slices].astype(np.float32)
    least, seen = np.full(free.shape, 255, np.float32), np.zeros(free.shape, bool)
    for k in far:
        tells = candidates[k].aligned.visible & free & (shown[k] < _BY_ITSELF)
        apart = largest(np.abs(cv2.blur(part - candidates[k].picture, (3, 3))))
        least = np.where(tells, np.minimum(least, apart), least)
        seen |= tells
    new = cv2.morphologyEx((moves & (least > _OTHER)).view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    known = moves & seen
    if known.sum() >= _FEWEST:
        by_itself = np.clip(membrane(new.astype(np.float32)[..., None], known)[..., 0], 0, 1)
        shown = [x * by_itself for x in shown]
    entering = membrane(new.astype(np.float32)[..., None], free)[..., 0] if free.any() else np.zeros_like(least)
    return Movers(entering=np.clip(entering, 0, 1), shown=shown)


def _shown(footage: Footage, candidate: Candidate) -> np.ndarray:
    moves = footage.own_motion(candidate.aligned.source)
    return cv2.remap(moves, candidate.aligned.places, None, cv2.INTER_LINEAR).astype(np.float32) / 255  # type: ignore[call-overload]
