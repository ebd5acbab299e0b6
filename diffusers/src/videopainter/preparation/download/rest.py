"""The links that did not become files: a CSV that is added to as they come, so that a killed run's are known, too."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from videopainter.files import replacing, write_errors
from videopainter.preparation.download.fetching import DEAD, Fetched
from videopainter.preparation.download.links import VideoLink


@dataclass(frozen=True)
class RestRow:
    """A link without a file."""

    row: str
    name: str
    link: str
    path: str
    status: str
    reason: str
    attempts: str
    time: str


COLUMNS = tuple(field.name for field in fields(RestRow))


class RestList:
    """The rest of a download, by row. Lines of one row follow each other; the last one counts."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self.rows: dict[str, RestRow] = {}
        if file.exists():
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if None not in row and None not in row.values():  # else cut off when a run was killed
                        found = RestRow(**{name: row.get(name, "") for name in COLUMNS})
                        self.rows[found.row] = found
        self.write()

    def is_dead(self, link: VideoLink) -> bool:
        """Whether a run before this one found this very link dead."""
        known = self.rows.get(str(link.row))
        return known is not None and known.status == DEAD and known.link == link.url

    def add(self, link: VideoLink, result: Fetched) -> None:
        """Note one, at once."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        row = RestRow(
            str(link.row), link.name, link.url, link.path, result.status, result.reason, str(result.attempts), when
        )
        with self._lock, write_errors(self.file):
            self.rows[row.row] = row
            with self.file.open("a", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                if not stream.tell():
                    writer.writerow(COLUMNS)
                writer.writerow(astuple(row))

    def remove(self, link: VideoLink) -> None:
        """It became a file after all."""
        with self._lock:
            self.rows.pop(str(link.row), None)

    def keep(self, links: Iterable[VideoLink]) -> None:
        """Forget rows that are none of these: the table had them once."""
        rows = {str(link.row) for link in links}
        self.rows = {row: known for row, known in self.rows.items() if row in rows}

    def write(self) -> None:
        """The list anew: each row once, in order, without what became files; no file where nothing is left."""
        if not self.rows:
            self.file.unlink(missing_ok=True)
            return
        with self._lock, replacing(self.file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(astuple(self.rows[key]) for key in sorted(self.rows, key=lambda key: key.zfill(12)))
