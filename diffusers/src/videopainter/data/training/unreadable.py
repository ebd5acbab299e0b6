"""Clips that could not be read: a list on disk, and an end to the run where they become too many."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import write_errors


@dataclass(frozen=True)
class Unreadable:
    """A row of the CSV that could not be read: its video's name, and why."""

    row: int
    path: str
    reason: str


class UnreadableLog:
    """The rows that could not be read, in a CSV file (row, path, reason): each once, also over several runs.

    One process writes it. `add` ends a run whose share of unreadable rows is above `max_share`: of the rows tried in
    this run, as soon as there are `min_tried`.
    """

    def __init__(self, path: Path | str, max_share: float = 0.05, *, min_tried: int = 20) -> None:
        if not 0 <= max_share <= 1:
            raise InputError(f"max_unreadable_share: expected a number from 0 to 1, got {max_share}")
        self.path, self.max_share, self.min_tried = Path(path), max_share, min_tried
        self.tried = self.failed = 0
        self._rows = self._read()

    def add(self, replaced: Iterable[Unreadable], tried: int) -> None:
        """Notes the rows that were replaced while `tried` rows, stand-ins included, were tried.

        Raises InputError where their share has become too large.
        """
        replaced = list(replaced)
        new = {clip.row: clip for clip in replaced if clip.row not in self._rows}
        if new:
            self._append(new.values())
            self._rows.update(new)
        self.tried, self.failed = self.tried + tried, self.failed + len(replaced)
        judged = self.tried >= self.min_tried or self.failed >= self.tried > 0
        if judged and self.failed > self.max_share * self.tried:
            raise InputError(
                f"clips: expected at most {self.max_share:.0%} that cannot be read, got {self.failed} "
                f"of {self.tried}, in {self.path}"
            )

    def _read(self) -> set[int]:
        if not self.path.exists():
            return set()
        with open(self.path, newline="", encoding="utf-8") as file:
            return {int(line["row"]) for line in csv.DictReader(file) if (line["row"] or "").isdecimal()}

    def _append(self, clips: Iterable[Unreadable]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with write_errors(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["row", "path", "reason"])
            writer.writerows([clip.row, clip.path, clip.reason] for clip in clips)
