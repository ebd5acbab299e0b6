"""Which frames to copy from: a few, by what they reveal of the hole."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from videopainter.propagation.footage import TINY, Footage
from videopainter.vision.homographies import scaled

# What a place is worth that so many chosen sources show already.
_WORTH = (1.0, 0.4, 0.15)
# A source that adds less than this share of the hole is not worth its time.
_LEAST = 0.004


def candidates_near(t: int, reach: int) -> list[int]:
    """Frames to consider for frame `t`: all near ones, fewer farther away.

    At fixed places, so that neighbouring frames copy from the same ones.
    """
    found = []
    for s in range(t - reach, t + reach + 1):
        away = abs(s - t)
        step = 1 if away <= 2 else 2 if away <= 8 else 4 if away <= 32 else 8
        if away and s % step == 0:
            found.append(s)
    return found


def choose_sources(footage: Footage, t: int, hole: np.ndarray, motions: Mapping[int, np.ndarray]) -> list[int]:
    """Frames that together show most of `hole` (fine pixels, uint8 (h, w)), the most useful first.

    Greedy: each next one is worth what it shows and the chosen ones do not, less the farther away it is.
    """
    settings = footage.settings
    height, width = footage.view(t).open.shape
    share = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    need = (share > (0.25 if share.max() > 0.25 else 0)).astype(np.float32)
    shown = {}
    for s in candidates_near(t, footage.reach):
        if s in motions:
            view = cv2.warpPerspective(
                footage.view(s).open,
                scaled(motions[s], 1 / TINY),
                (width, height),
                flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            )
            view *= need
            if view.any():
                shown[s] = view
    chosen: list[int] = []
    count = np.zeros(need.shape, np.intp)
    worth_of = np.array([*_WORTH, 0], np.float32)
    while shown and len(chosen) < settings.most_sources:
        worth = worth_of[np.minimum(count, len(_WORTH))] * need
        gains = {s: float(np.vdot(worth, view)) / (1 + abs(s - t) / settings.patience) for s, view in shown.items()}
        best = max(gains, key=gains.__getitem__)
        if gains[best] < _LEAST * need.sum():
            break
        chosen.append(best)
        count += shown.pop(best) > 0
    return chosen
