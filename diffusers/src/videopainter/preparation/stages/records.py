"""What a stage made of a row: one small file, written whole, per row and stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videopainter.errors import InputError
from videopainter.files import fingerprint, read_json, write_errors, write_json
from videopainter.preparation.stages.stage import Row, Stage

_ID = re.compile(r"[\w-]+(?:\.[\w-]+)*")


@dataclass(frozen=True)
class StageRecord:
    """`rows`: what came of the row; `kind` and `detail`: why nothing did, "" where it did.

    key: of everything that the result depends on. seconds: that it took.
    """

    key: str
    rows: list[Row]
    kind: str
    detail: str
    seconds: float


class StageRecords:
    """The records of one stage, in a folder of their own."""

    def __init__(self, work: Path, stage: Stage) -> None:
        self.work, self.folder = work, work / stage.name
        self.stage = stage
        self._settings = {"stage": stage.name, "models": stage.models, **stage.settings()}

    def key(self, row: Row) -> str:
        """Of the stage's settings and the columns that it reads."""
        return fingerprint([self._settings, row["id"], {name: row[name] for name in self.stage.inputs}])

    def read(self, row: Row) -> StageRecord | None:
        """What was made of that very row with those very settings; None where nothing was, or its files are gone."""
        try:
            record = StageRecord(**read_json(self._file(row), "a stage's record"))
        except (InputError, TypeError):  # not there, or of another version
            return None
        whole = all((self.work / made[name]).is_file() for made in record.rows for name in self.stage.files)
        return record if record.key == self.key(row) and whole else None

    def write(self, row: Row, record: StageRecord) -> None:
        """Note it. WriteError where it cannot be written."""
        write_json(self._file(row), asdict(record))

    def forget(self, row: Row) -> None:
        """Take a record away: the files that it stands for are about to be replaced."""
        with write_errors(self._file(row)):
            self._file(row).unlink(missing_ok=True)

    def _file(self, row: Row) -> Path:
        # A folder of 390 000 files is slow to list and to copy.
        return self.folder / fingerprint(row["id"])[:2] / f"{row['id']}.json"


def check_row(row: Mapping[str, Any]) -> None:
    """InputError where a row's id cannot be the name of a file."""
    if not isinstance(row.get("id"), str) or not _ID.fullmatch(row["id"]) or len(row["id"]) > 150:
        raise InputError(f"id: expected letters, digits, dots and dashes, got {row.get('id')!r}")
