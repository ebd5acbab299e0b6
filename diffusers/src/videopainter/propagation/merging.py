"""Candidates put together: what several show alike is believed, and counts for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.propagation.candidates import Candidate, largest
from videopainter.propagation.movers import Movers
from videopainter.propagation.settings import PropagationSettings

_PER_FRAME = 0.03  # grey levels that a source is worse for each frame it is away
_FAR = np.float32(1e6)
# Logistic and log-linear regressions on what 12 hole sequences in five real clips showed (benchmarks/propagation.py).
_DOUBT = np.array([-6.01, 2.46, -0.95, -1.46, 1.11, 0.16, 0.53, 0.83, 0.54], np.float32)
_ERROR = np.array([0.82, 0.79, -0.17, -0.37, 0.41, 0.06, 0.08, 0.41, 0.42], np.float32)
# Grey levels that a source is worse where it shows what moves by itself; and what that, and such a thing beside the
# hole, add to the logit of doubt.
_MOVER = 12.0
_DOUBT_OF_MOVER, _DOUBT_BESIDE = 2.0, 4.0
_COARSE = 2  # places, not pixels, support each other
_MIDDLE = 3  # fine pixels over which colours are compared
_THREAD = 3  # fine pixels: a part that is narrower is of no use


@dataclass(frozen=True, kw_only=True)
class Merged:
    """`weights` float32 (N, h, w), adding up to 1 where anything is shown. The others are float32 (h, w).

    `doubt`: the chance that a pixel is off by more than 20 grey levels; 1 where nothing is shown. `error`: by how
    much it is expected to be off.
    """

    weights: np.ndarray
    doubt: np.ndarray
    error: np.ndarray


def merge(
    candidates: Sequence[Candidate],
    movers: Movers,
    settings: PropagationSettings,
    where: tuple[slice, slice],
    part: np.ndarray,
) -> Merged:
    """Weights of `candidates` in the part `where` of their box, and how far to believe them.

    `movers` are those of the box; `part` bool (h, w) is the hole there.
    """
    pictures = [c.picture[where] for c in candidates]
    shown = np.stack([c.aligned.visible[where] for c in candidates])
    strange = np.stack([x[where] for x in movers.shown])
    errors = np.stack([c.error[where] for c in candidates]) + _MOVER * strange
    away = np.array([c.away for c in candidates], np.float32)[:, None, None]
    cost = np.where(shown, errors + _PER_FRAME * away, _FAR)
    best = _best(pictures, shown, cost, settings.agree)[None]
    means = [cv2.blur(picture, (_MIDDLE, _MIDDLE)) for picture in pictures]
    mean = np.take_along_axis(np.stack(means), best[..., None], axis=0)[0]
    near = np.stack([largest(np.abs(m - mean)) < settings.agree for m in means]) & shown
    weights = np.where(near, 1 / (2 + cost), 0).astype(np.float32)
    weights /= np.maximum(weights.sum(axis=0), np.float32(1e-9))
    votes, count = near.sum(axis=0), shown.sum(axis=0)
    evidence = _evidence(
        error=np.take_along_axis(errors, best, axis=0)[0],
        mean_error=(errors * weights).sum(axis=0),
        votes=votes,
        against=count - votes,
        depth=cv2.distanceTransform(part.view(np.uint8), cv2.DIST_L2, 3),
        away=(away * weights).sum(axis=0),
        spread=_spread(means, weights),
    )
    logit = (
        evidence @ _DOUBT + _DOUBT_OF_MOVER * (strange * weights).sum(axis=0) + _DOUBT_BESIDE * movers.entering[where]
    )
    doubt = 1 / (1 + np.exp(-logit))
    return Merged(weights=weights, doubt=np.where(count > 0, doubt, np.float32(1)), error=np.expm1(evidence @ _ERROR))


def is_believed(merged: Merged, settings: PropagationSettings) -> np.ndarray:
    """Where the candidates are to be believed, bool (h, w); threads of it are of no use, and are not."""
    sure = (merged.doubt < settings.doubt).view(np.uint8)
    return cv2.morphologyEx(sure, cv2.MORPH_OPEN, np.ones((_THREAD, _THREAD), np.uint8)) > 0


def _evidence(
    *,
    error: np.ndarray,
    mean_error: np.ndarray,
    votes: np.ndarray,
    against: np.ndarray,
    depth: np.ndarray,
    away: np.ndarray,
    spread: np.ndarray,
) -> np.ndarray:
    """What speaks for and against a pixel, float32 (h, w, 9), in the order of `_DOUBT` and `_ERROR`.

    Expected errors of the surest source and of all believed, how many show the same and how many something else,
    fine pixels from the hole's edge, frames to the sources, by how much the believed ones differ.
    """
    one = np.ones_like(error)
    share = against / np.maximum(votes + against, 1)
    logs = [np.log1p(x) for x in (error, mean_error, votes, depth, away, spread)]
    columns = [one, *logs[:3], share, *logs[3:], votes < 2]
    return np.stack([column.astype(np.float32) for column in columns], axis=-1)


def _spread(means: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    middle = np.sum([m * w[..., None] for m, w in zip(means, weights)], axis=0)
    return np.sum([largest(cv2.absdiff(m, middle)) * w for m, w in zip(means, weights)], axis=0)


def _best(pictures: Sequence[np.ndarray], shown: np.ndarray, cost: np.ndarray, agree: float) -> np.ndarray:
    """Index of the surest of those that the others support most, (h, w)."""
    if len(pictures) == 1:
        return np.zeros(shown.shape[1:], np.intp)
    height, width = shown.shape[1:]
    size = (max(1, width // _COARSE), max(1, height // _COARSE))
    trust = np.where(shown, 1 / (4 + cost), 0).astype(np.float32)
    trust = [cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in trust]
    coarse = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    support = [x.copy() for x in trust]
    for i in range(len(pictures)):
        for j in range(i):
            alike = largest(cv2.absdiff(coarse[i], coarse[j])) < agree
            support[i] += alike * trust[j]
            support[j] += alike * trust[i]
    fine = np.stack([cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR) for x in support])
    fine = np.where(shown, fine, 0)
    return np.where(fine > 0.8 * fine.max(axis=0), -cost, -10 * _FAR).argmax(axis=0)
