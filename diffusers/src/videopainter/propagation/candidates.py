"""What a source would put into the hole: its colours in the frame's own light, and how far off they may be."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.reshape import Box
from videopainter.propagation.alignment import FEWEST, Aligned
from videopainter.propagation.footage import Footage
from videopainter.vision.membrane import local_mean, membrane

# Fine pixels: the light's grain, that of errors, and of what counts as one structure.
_LIGHT, _ERROR, _STRUCTURE = 13, 9, 3
# Grey levels: what differs by more is something else, not another light; errors beyond the last are all alike.
_OTHER_LIGHT, _WORST = 24.0, 60.0
_GAINS = (0.6, 1.6)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A source's colours for a box; fine pixels.

    `picture` float32 (h, w, 3): `gain` (3,) times the source's, plus `offset` (h, w, 3). `error` float32 (h, w):
    the expected error in grey levels. `away`: frames between.
    """

    aligned: Aligned
    picture: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    error: np.ndarray
    away: int


def lit(footage: Footage, t: int, box: Box, aligned: Aligned) -> Candidate | None:
    """The source in frame `t`'s light: a gain per colour, then a smooth offset known around the hole.

    The expected error is what is left around the hole. None where too little of that is seen.
    """
    view, other = footage.view(t), footage.view(aligned.source)
    part = view.picture[box.slices].astype(np.float32)
    both = aligned.visible & (view.blocked[box.slices] == 0)
    if int(both.sum()) < FEWEST:
        return None
    got = cv2.remap(other.picture, aligned.places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    got = got.astype(np.float32)
    few = (slice(None, None, 2), slice(None, None, 2))
    chosen = both[few] if both[few].any() else both
    step = few if chosen is not both else (slice(None), slice(None))
    gain = fitted_gain(got[step][chosen], part[step][chosen])
    got *= gain
    rest = part - got
    level = np.median(rest[step][chosen], axis=0)
    rest -= level
    same = both & (largest(np.abs(rest)) < _OTHER_LIGHT)
    smooth, known = local_mean(rest, same, _LIGHT)
    known &= both
    offset = membrane(smooth, known) if known.any() else np.zeros_like(rest)
    rest -= offset
    offset = offset + level
    return Candidate(
        aligned=aligned,
        picture=np.clip(got + offset, 0, 255),
        gain=gain,
        offset=offset,
        error=_expected_error(rest, both),
        away=abs(aligned.source - t),
    )


def fitted_gain(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Per colour the factor from `source` to `target` (N, 3), float32; what does not follow it is left out.

    Overexposed pixels say nothing; a factor that the pixels do not tell (plain, few) is 1.
    """
    gain = np.ones(3, np.float32)
    unclipped = (largest(source) < 250) & (largest(target) < 250)
    for limit in (60, 25, 15):
        rest = target - gain * source
        near = unclipped & (largest(np.abs(rest - np.median(rest, axis=0))) < limit)
        if near.sum() < 20:
            break
        x, y = source[near], target[near]
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        spread = ((x - x_mean) ** 2).mean(axis=0)
        together = ((x - x_mean) * (y - y_mean)).mean(axis=0)
        gain = np.where(spread > 16, together / np.maximum(spread, 1e-6), gain)
        gain = np.clip(gain, *_GAINS).astype(np.float32)
    return gain


def _expected_error(rest: np.ndarray, both: np.ndarray) -> np.ndarray:
    size = largest(np.abs(local_mean(rest, both, _STRUCTURE)[0]))
    error, known = local_mean(np.minimum(size, _WORST), both, _ERROR)
    known &= both
    return membrane(error[..., None], known)[..., 0]


def largest(colours: np.ndarray) -> np.ndarray:
    """Of three colours; numpy's own reduction over a short axis is slow."""
    return np.maximum(np.maximum(colours[..., 0], colours[..., 1]), colours[..., 2])
