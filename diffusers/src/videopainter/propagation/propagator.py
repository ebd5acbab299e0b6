"""One frame's hole filled from the frames around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from videopainter.data.reshape import Box
from videopainter.propagation.alignment import camera_places, carried_places, refined
from videopainter.propagation.candidates import Candidate, lit
from videopainter.propagation.footage import Footage
from videopainter.propagation.merging import Merged, is_believed, merge
from videopainter.propagation.movers import movers_near
from videopainter.propagation.sources import choose_sources

_EDGE = 3  # fine pixels round the hole in which candidates are merged, too


@dataclass(frozen=True, kw_only=True)
class Filled:
    """`frame` uint8 (H, W, 3), with what is `known` (bool (H, W), within the hole) copied from other frames.

    `error` float32 (H, W): its expected error in grey levels; 0 elsewhere.
    """

    frame: np.ndarray
    known: np.ndarray
    error: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of frame `t`'s hole that is filled on its own; fine pixels.

    `mask` bool (h, w) of the whole frame; `box` with what is looked at around it, `inner` what is merged.
    """

    t: int
    mask: np.ndarray
    box: Box
    inner: Box

    @property
    def merged(self) -> tuple[slice, slice]:
        """`inner` within `box`."""
        box, inner = self.box, self.inner
        return (
            slice(inner.top - box.top, inner.bottom - box.top),
            slice(inner.left - box.left, inner.right - box.left),
        )


def fill_frame(footage: Footage, t: int) -> Filled:
    """Copy into frame `t` what other frames in reach confidently show of its hole."""
    view = footage.view(t)
    filled = Filled(
        frame=view.frame.copy(), known=np.zeros_like(view.hole), error=np.zeros(view.hole.shape, np.float32)
    )
    if not view.hole.any():
        return filled
    height, width = footage.size
    fine = cv2.resize(view.hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    motions, around = footage.motions(t), footage.settings.surroundings
    for mask in _parts(fine, around):
        part = _Part(t=t, mask=mask, box=_box(mask, around), inner=_box(mask, _EDGE))
        candidates, merged = _shown(footage, part, motions)
        if merged is not None:
            _paste(footage, part, candidates, merged, filled)
    return filled


def _shown(footage: Footage, part: _Part, motions: Mapping[int, np.ndarray]) -> tuple[list[Candidate], Merged | None]:
    """What the chosen sources show by the camera's motion; where that leaves doubts, by motion carried along, too."""
    settings = footage.settings
    sources = choose_sources(footage, part.t, part.mask.view(np.uint8), motions)
    found = [_candidate(footage, part, s, camera_places(motions[s], part.box)) for s in sources]
    useful, merged = [c for c in found if c is not None], None
    inside = part.mask[part.inner.slices]
    if useful:
        merged = _merged(footage, part, useful)
        if is_believed(merged, settings)[inside].mean() > settings.carry_below:
            return useful, merged
    carried = _carried(footage, part, sources)
    if not carried:
        return useful, merged
    return [*useful, *carried], _merged(footage, part, [*useful, *carried])


def _merged(footage: Footage, part: _Part, candidates: Sequence[Candidate]) -> Merged:
    movers = movers_near(footage, part.t, part.box, candidates)
    return merge(candidates, movers, footage.settings, part.merged, part.mask[part.inner.slices])


def _carried(footage: Footage, part: _Part, sources: Sequence[int]) -> list[Candidate]:
    """The nearest sources to either side, by dense motion carried from frame to frame."""
    settings, t = footage.settings, part.t
    nearest = sorted(sources, key=lambda s: abs(s - t))
    wanted = [s for direction in (-1, 1) for s in [s for s in nearest if (s - t) * direction > 0][: settings.carried]]
    found = []
    for s, places in carried_places(footage, t, part.box, wanted):
        candidate = _candidate(footage, part, s, places)
        if candidate is not None:
            doubt = np.float32(settings.carried_doubt + settings.carried_drift * candidate.away)
            found.append(replace(candidate, error=candidate.error + doubt))
    return found


def _candidate(footage: Footage, part: _Part, source: int, places: np.ndarray) -> Candidate | None:
    """None where the source shows nothing of the hole, or nothing around it."""
    aligned = refined(footage, part.t, part.box, source, places)
    if aligned is None or not (aligned.visible & part.mask[part.box.slices]).any():
        return None
    return lit(footage, part.t, part.box, aligned)


def _paste(footage: Footage, part: _Part, candidates: Sequence[Candidate], merged: Merged, filled: Filled) -> None:
    """What was merged at working size is taken, once, from the sources' own pixels at the video's size."""
    target = _full_box(footage, part.inner)
    lift = _Lift(footage, part.inner, target)
    hole = footage.view(part.t).hole[target.slices] & (lift(part.mask[part.inner.slices].astype(np.float32)) > 0)
    sure = (lift(is_believed(merged, footage.settings).astype(np.float32)) > 0.5) & hole
    if not sure.any():
        return
    colour = _colours(footage, part, candidates, merged, lift)
    filled.frame[target.slices][sure] = np.rint(np.clip(colour[sure], 0, 255)).astype(np.uint8)
    filled.known[target.slices] |= sure
    filled.error[target.slices][sure] = lift(merged.error)[sure]


def _colours(footage: Footage, part: _Part, candidates: Sequence[Candidate], merged: Merged, lift: _Lift) -> np.ndarray:
    """The weighted mean of the sources' pixels in the frame's light, float32 (H, W, 3) of the part."""
    total = np.zeros((*lift.shape, 3), np.float32)
    sum_of_weights = np.zeros(lift.shape, np.float32)
    for candidate, weight in zip(candidates, merged.weights):
        if not weight.any():
            continue
        places = (lift(candidate.aligned.places[part.merged]) + 0.5) / np.float32(footage.scale) - 0.5
        source = footage.view(candidate.aligned.source).frame
        got = cv2.remap(source, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        share = lift(weight)
        total += (got * candidate.gain + lift(candidate.offset[part.merged])) * share[..., None]
        sum_of_weights += share
    return total / np.maximum(sum_of_weights, np.float32(1e-6))[..., None]


class _Lift:
    """From fine pixels of one box to the video's pixels of another, bilinear."""

    def __init__(self, footage: Footage, fine: Box, target: Box) -> None:
        self.shape = (target.bottom - target.top, target.right - target.left)
        s = footage.scale
        self.matrix = np.array(
            [
                [s, 0, (target.left + 0.5) * s - 0.5 - fine.left],
                [0, s, (target.top + 0.5) * s - 0.5 - fine.top],
            ]
        )

    def __call__(self, field: np.ndarray) -> np.ndarray:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(field, self.matrix, self.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _full_box(footage: Footage, fine: Box) -> Box:
    height, width = footage.frames.height, footage.frames.width
    s = footage.scale
    return Box(
        max(0, int(fine.top / s)),
        min(height, int(np.ceil(fine.bottom / s))),
        max(0, int(fine.left / s)),
        min(width, int(np.ceil(fine.right / s))),
    )


def _parts(hole: np.ndarray, apart: int) -> list[np.ndarray]:
    """Parts of the hole that lie more than `apart` from each other: each has its own box and sources."""
    size = 2 * (apart // 2) + 1
    grown = cv2.dilate(hole.view(np.uint8), np.ones((size, size), np.uint8))
    count, labels = cv2.connectedComponents(grown)
    if count <= 2:
        return [hole]
    return [part for label in range(1, count) if (part := hole & (labels == label)).any()]


def _box(mask: np.ndarray, around: int) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    return Box(
        max(0, int(rows[0]) - around),
        min(height, int(rows[-1]) + 1 + around),
        max(0, int(columns[0]) - around),
        min(width, int(columns[-1]) + 1 + around),
    )
