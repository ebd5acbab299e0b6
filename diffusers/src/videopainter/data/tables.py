"""CSV files: read as text, cell by cell, and refused where they are not what they look like; written whole."""

from __future__ import annotations

import csv as csv_files
import mmap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopainter.errors import InputError, one_line
from videopainter.files import replacing

if TYPE_CHECKING:
    import pandas as pd


def read_table(csv: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV's cells as text, rows numbered from 0; an empty cell is "".

    Args:
        columns: Names that it must have.

    Raises:
        InputError: in one line, for what is no CSV, lacks a column, holds NUL characters, or has rows with more cells
            than names (a comma in a caption that is not quoted: pandas would shift all columns by one).
    """
    import pandas as pd  # half a second, and runs on files of one's own need none

    if not csv.is_file():
        got = "something else" if csv.exists() else "no such file"
        raise InputError(f"CSV: expected a file, got {got}, in {csv}")
    try:
        if _holds_nul(csv):
            raise InputError(f"CSV: expected text, got NUL characters, in {csv}")
        names = pd.read_csv(csv, dtype=str, nrows=0, encoding="utf-8-sig").columns
        missing = [name for name in columns if name not in names]
        if missing:
            raise InputError(
                f"CSV: expected the columns {', '.join(columns)}, got none called {', '.join(missing)}, in {csv}"
            )
        # All columns: asked for some of them, pandas no longer sees that a row has more cells than there are names.
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"CSV: expected one that can be read, got {one_line(error)}, in {csv}") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"CSV: expected {len(names)} cells in a row, got more (a comma without quotes?), in {csv}")
    return table


def write_table(csv: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV, whole or not at all; cells of other names than `columns` are left out. WriteError: it cannot be."""
    with replacing(csv) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv_files.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _holds_nul(path: Path) -> bool:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"\0") >= 0
