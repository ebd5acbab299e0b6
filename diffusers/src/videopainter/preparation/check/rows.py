"""The rows of the CSVs, by video; and what the tables alone tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from videopainter.data.rates import parse_fps
from videopainter.data.records import RecordTable, record_paths
from videopainter.data.training.training_set import TrainingSetOptions
from videopainter.errors import InputError
from videopainter.preparation.check.problems import BAD_ROW, DUPLICATE, SHARED, SHORT_CAPTION, Finding

# Rows of these are trained on; a video of theirs is not to be in the others.
_TRAIN, _HELD_OUT = ("train",), ("val", "test")
# Nobody trains on rows of these.
_BENCHMARKS = ("test", "inpaint", "edit")
_CAPTIONS = ("caption", "video_inpainting_prompt", "Edited_video_caption")


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row's place and numbers; `end` None: the file's end."""

    csv: str
    row: int
    start: int
    end: int | None
    mask_id: int
    fps: Fraction | None


@dataclass(slots=True)
class VideoRows:
    """A video's name, as in the column `path`, and its rows in all CSVs."""

    path: str
    rows: list[CheckedRow] = field(default_factory=list)


def to_train(csv: str) -> bool:
    """Whether a CSV's rows may be trained on: it is none of the benchmark's."""
    return not _is(csv, _BENCHMARKS)


@dataclass
class CheckedTables:
    """All CSVs: the videos in the order in which they come, what the tables alone tell, rows per CSV, CSVs left out.

    davis: Tables of DAVIS, whose rows are sequences of images.
    """

    videos: list[VideoRows]
    findings: list[Finding]
    counts: dict[str, int]
    left_out: dict[str, str]
    davis: list[RecordTable]


def find_tables(data: Path) -> list[Path]:
    """The CSVs of a data folder, and of `davis` in it; InputError where there is none."""
    tables = sorted([*data.glob("*.csv"), *data.glob("davis/*.csv")])
    if not tables:
        raise InputError(f"--data_root: expected a folder with CSVs, found none in {data}")
    return tables


def read_tables(files: Sequence[Path], *, strict: bool) -> CheckedTables:
    """Read CSVs. One that has other columns (links, results) is left out, or an InputError where `strict`."""
    tables = CheckedTables([], [], {}, {}, [])
    videos: dict[str, VideoRows] = {}
    for file in files:
        try:
            table = RecordTable(file)
        except InputError as error:
            if strict:
                raise
            tables.left_out[file.name] = str(error)
            continue
        tables.counts[file.name] = len(table)
        if table.is_davis:
            tables.davis.append(table)
            continue
        _read_rows(table, videos, tables.findings)
    if not tables.counts:
        raise InputError(f"expected CSVs with rows of clips, found none among {', '.join(map(str, files))}")
    tables.videos = list(videos.values())
    tables.findings += _shared(tables.videos)
    return tables


def _read_rows(table: RecordTable, videos: dict[str, VideoRows], findings: list[Finding]) -> None:
    name, columns = table.csv.name, {column: table.rows[column].tolist() for column in table.rows.columns}
    captions = next((columns[column] for column in _CAPTIONS if column in columns), [""] * len(table))
    shortest = TrainingSetOptions.min_caption_length
    seen: dict[tuple[str, str, str, str], int] = {}
    cells = (columns[column] for column in ("path", "start_frame", "end_frame", "fps", "mask_id"))
    for number, (path, start, end, fps, mask_id) in enumerate(zip(*cells, strict=True)):
        try:
            record_paths(path)
            row = CheckedRow(
                name, number, _whole("start_frame", start), _whole("end_frame", end) if end else None,
                _whole("mask_id", mask_id), _rate(fps),
            )  # fmt: skip
        except InputError as error:
            findings.append(Finding(name, number, path, BAD_ROW, str(error)))
            continue
        first = seen.setdefault((path, start, end, mask_id), number)
        if first != number:
            findings.append(Finding(name, number, path, DUPLICATE, f"the same as row {first}"))
        if len(captions[number]) <= shortest and to_train(name):
            length = len(captions[number])
            findings.append(
                Finding(name, number, path, SHORT_CAPTION, f"{length} characters, more than {shortest} are used")
            )
        videos.setdefault(path, VideoRows(path)).rows.append(row)


def _whole(column: str, text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 0 and value == int(value) if math.isfinite(value) else False):
        raise InputError(f"{column}: expected a whole number, got {text!r}")
    return int(value)


def _rate(text: str) -> Fraction | None:
    return parse_fps(text) if text else None


def _shared(videos: Sequence[VideoRows]) -> list[Finding]:
    """Rows to validate or test on whose video is trained on."""
    found = []
    for video in videos:
        trained = {row.csv for row in video.rows if _is(row.csv, _TRAIN)}
        if trained:
            found += [
                Finding(row.csv, row.row, video.path, SHARED, f"also in {', '.join(sorted(trained))}")
                for row in video.rows
                if _is(row.csv, _HELD_OUT)
            ]
    return found


def _is(csv: str, words: tuple[str, ...]) -> bool:
    return any(word in Path(csv).stem.split("_") for word in words)
