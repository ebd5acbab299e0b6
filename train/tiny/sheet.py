"""Contact sheets of results: rows are moments of clips, columns methods."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from measure import ALONE, BRANCH, GIVEN, MATCHED, Scores

from videopainter.data.panels import contact_sheet
from videopainter.vision.fillers import BASELINES

HEIGHT = 120  # of a picture on the sheet, at least


def removal_sheet(parts: list[Scores], path: Path, *, first_frame: bool, per_part: int) -> None:
    """The middle frame of the first clips of every part (or, if that has no hole, the frame with the largest)."""
    suffix = GIVEN if first_frame else ""
    sources = {"original": "original", "masked": "masked", **{name: name for name in BASELINES}}
    sources |= {ALONE: ALONE + suffix, BRANCH: BRANCH + suffix}
    if not first_frame:
        sources |= {"edges matched": BRANCH + MATCHED}
    sources |= {"truth": "truth"}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in sources}
    for scores in parts:
        for pictures in scores.pictures[:per_part]:
            place = shown_frame(pictures["hole"])
            for name, source in sources.items():
                columns[name].append(enlarged(pictures[source][place]))
    contact_sheet(columns, path, min_height=HEIGHT)


def shown_frame(hole: np.ndarray) -> int:
    areas = hole.sum(axis=(1, 2))
    middle = len(areas) // 2
    return middle if areas[middle] else int(areas.argmax())


def return_sheet(scores: Scores, moments: list[tuple[int, int]], path: Path) -> None:
    """Of each clip a frame before the object leaves and one after its return; columns as they were measured."""
    columns: dict[str, list[np.ndarray]] = {}
    for pictures, places in zip(scores.pictures, moments, strict=False):
        for name, frames in pictures.items():
            columns.setdefault(name, []).extend(enlarged(frames[place]) for place in places)
    contact_sheet(columns, path, min_height=HEIGHT)


def enlarged(frame: np.ndarray) -> np.ndarray:
    """Small frames smoothly enlarged by a whole factor."""
    factor = -(-HEIGHT // frame.shape[0])
    size = (frame.shape[1] * factor, frame.shape[0] * factor)
    return cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
