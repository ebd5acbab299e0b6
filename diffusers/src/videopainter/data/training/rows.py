"""Which rows of a training set's CSV can be used; told from the CSV alone, no video is opened."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from videopainter.data.rates import frame_offsets, parse_fps
from videopainter.data.tables import read_table
from videopainter.errors import InputError

_COLUMNS = ("path", "start_frame", "end_frame", "fps", "mask_id", "caption")
# `end_frame` may be empty: the file's end.
TO_THE_END = np.iinfo(np.int64).max


class TrainingRow(NamedTuple):
    """One row: frames `start` to `end` (exclusive; TO_THE_END: the file's end), object `mask_id`."""

    path: str
    start: int
    end: int
    mask_id: int
    caption: str


class TrainingRows:
    """The rows of a training CSV that pass the rules: `numbers` (from 0), and `dropped`, how many failed which rule.

    A row is dropped for a caption of at most `min_caption_length` characters, numbers that are none, a path that is
    no video's name, or fewer frames, without the skipped ones, than `num_frames` at `fps` take. Where the CSV's rate
    may be a rounded NTSC rate (30 for 29.97), the slower one counts: only the file knows.

    Raises InputError for what is no CSV, lacks a column, or has no row that passes.
    """

    def __init__(
        self, csv: Path, *, num_frames: int, fps: Fraction, skip: tuple[int, int], min_caption_length: int
    ) -> None:
        table = _read(csv)
        columns = {name: _whole(table[name]) for name in ("start_frame", "end_frame", "mask_id")}
        to_the_end = (table["end_frame"] == "").to_numpy()
        columns["end_frame"][to_the_end] = TO_THE_END
        needed = _needed_frames(table["fps"], num_frames, fps)
        start, end = columns["start_frame"], columns["end_frame"]
        lengths = np.where(end == TO_THE_END, TO_THE_END, end - start - sum(skip))
        rules = {
            f"caption of {min_caption_length} characters or fewer": _short(table["caption"], min_caption_length),
            "path is no name of an .mp4": _bad_path(table["path"]),
            "numbers that cannot be read": _bad_numbers(columns) | (needed < 0),
            f"too short for {num_frames} frames at {fps} fps": lengths < needed,
        }
        kept = self._count(rules, len(table["path"]))
        self.numbers = np.flatnonzero(kept)
        if not len(self.numbers):
            counts = ", ".join(f"{count} x {reason}" for reason, count in self.dropped.items()) or "it has no rows"
            raise InputError(f"CSV: expected rows that can be trained with, got {counts}, in {csv}")
        self._start, self._end = start[kept], end[kept]
        self._mask_id = columns["mask_id"][kept]
        self._path, self._caption = (table[name].to_numpy()[kept].tolist() for name in ("path", "caption"))

    def _count(self, rules: dict[str, np.ndarray], total: int) -> np.ndarray:
        """Which rows fail no rule, bool (total,); each dropped one counts under the first rule that it fails."""
        kept = np.ones(total, bool)
        self.dropped: dict[str, int] = {}
        for reason, fails in rules.items():
            count = int((kept & fails).sum())
            if count:
                self.dropped[reason] = count
            kept &= ~fails
        return kept

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> TrainingRow:
        """The row of that number in the CSV; KeyError where it was dropped (a caller's bug)."""
        at = int(np.searchsorted(self.numbers, number))
        if at == len(self.numbers) or self.numbers[at] != number:
            raise KeyError(f"row {number} is not among those to train with")
        return TrainingRow(
            self._path[at], int(self._start[at]), int(self._end[at]), int(self._mask_id[at]), self._caption[at]
        )


def _read(csv: Path) -> dict[str, pd.Series]:
    """The columns, as text."""
    table = read_table(csv, _COLUMNS)
    return {name: pd.Series(table[name]) for name in _COLUMNS}


def _whole(column: pd.Series) -> np.ndarray:
    """Whole numbers from text, int64; -1 for what is none (or is negative)."""
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    good = np.isfinite(values) & (values >= 0) & (values < 2**53)
    values = np.where(good, values, -1)
    return np.where(values == np.floor(values), values, -1).astype(np.int64)


def _needed_frames(rates: pd.Series, num_frames: int, target: Fraction) -> np.ndarray:
    """How many source frames a clip takes at each row's rate, int64; -1 for what is no rate."""
    needed = {rate: _needed_at(rate, num_frames, target) for rate in rates.unique()}
    return rates.map(needed).to_numpy(dtype=np.int64)


def _needed_at(rate: str, num_frames: int, target: Fraction) -> int:
    try:
        fps = parse_fps(rate)
    except InputError:
        return -1
    if not fps:
        return -1
    slowest = fps * Fraction(1000, 1001) if fps.denominator == 1 else fps
    return int(frame_offsets(num_frames, slowest, target)[-1]) + 1


def _short(captions: pd.Series, min_length: int) -> np.ndarray:
    return (captions.str.len() <= min_length).to_numpy(dtype=bool)


def _bad_path(paths: pd.Series) -> np.ndarray:
    good = paths.str.endswith(".mp4") & ~paths.str.contains("/", regex=False) & (paths.str.len() > len(".mp4"))
    return ~good.to_numpy(dtype=bool)


def _bad_numbers(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.logical_or.reduce([values < 0 for values in columns.values()])
