"""Writing a set of synthetic clips: several processes, and a killed run goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from videopainter.data.synthetic.dataset import (
    FIRST_SCENE,
    SyntheticKey,
    SyntheticLook,
    files_of,
    keys_of,
    settings_of,
    write_clip,
)
from videopainter.data.tables import write_table
from videopainter.data.workers import begin_worker
from videopainter.errors import InputError
from videopainter.files import (
    TEMPORARY_NAME,
    is_empty,
    make_folder,
    read_json,
    write_errors,
    write_json,
    write_text,
)
from videopainter.locks import held, sweep

SETTINGS_FILE = "synthetic.json"
# One line per clip that is whole, in the order they were made.
JOURNAL_FILE = "synthetic_clips.jsonl"
ROW_COLUMNS = ("path", "start_frame", "end_frame", "fps", "mask_id", "caption")
BENCHMARK_COLUMNS = (*ROW_COLUMNS, "video_inpainting_prompt", "image_inpainting_prompt")
# {CSV: (the part it lists, its columns)}
TABLES = {
    "pexels_videovo_train_dataset.csv": ("train", ROW_COLUMNS),
    "pexels_videovo_val_dataset.csv": ("val", ROW_COLUMNS),
    "pexels_videovo_test_dataset.csv": ("test", ROW_COLUMNS),
    "our_video_inpaint.csv": ("test", BENCHMARK_COLUMNS),
    "pexels_videovo_train_long_dataset.csv": ("long", ROW_COLUMNS),
    "our_video_inpaint_long.csv": ("long_test", BENCHMARK_COLUMNS),
}

Rows = dict[SyntheticKey, dict[str, Any]]


def write_set(
    folder: Path | str,
    counts: Mapping[str, int],
    look: SyntheticLook,
    *,
    processes: int = 1,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> tuple[Rows, int]:
    """Write a set of `counts[part]` clips for the parts of `FIRST_SCENE`: videos, masks, CSVs.

    A set that is there already is added to. The files do not depend on `processes` or interruptions.
    `progress(clips, total)`: may wrap what is iterated over (`tqdm`).

    Returns (the rows of all clips, how many clips were drawn now).
    Raises InputError: impossible options, a folder that is another's or cannot be written, a set of another look or
    with more clips than asked for.
    """
    folder = Path(folder)
    look.check()
    _check_counts(counts)
    with _claimed(folder, look):
        return _write_missing(folder, counts, look, processes, progress)


def _write_missing(
    folder: Path,
    counts: Mapping[str, int],
    look: SyntheticLook,
    processes: int,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None,
) -> tuple[Rows, int]:
    rows = _read_journal(folder, look)
    _check_not_fewer(folder, rows, counts)
    todo = [key for key in keys_of(dict(counts)) if key not in rows]
    # Rewritten first: a killed run can have left a line without its end.
    _write_journal(folder, rows)
    drawn = _draw(folder, todo, look, processes)
    with write_errors(folder / JOURNAL_FILE), open(folder / JOURNAL_FILE, "a") as journal:
        for key, row in zip(todo, progress(drawn, len(todo)) if progress else drawn, strict=True):
            rows[key] = row
            journal.write(_line(key, row))
            journal.flush()
    _write_journal(folder, rows)
    _write_tables(folder, rows)
    return rows, len(todo)


def _check_counts(counts: Mapping[str, int]) -> None:
    if any(count < 0 for count in counts.values()) or sum(counts.values()) < 1:
        named = ", ".join(f"{part} {count}" for part, count in counts.items())
        raise InputError(f"expected one clip or more, and no number below 0, got {named}")
    for part, count in counts.items():
        later = [first for first in FIRST_SCENE.values() if first > FIRST_SCENE[part]]
        room = min(later, default=10_000_000) - FIRST_SCENE[part]
        if count > room:
            raise InputError(f"expected at most {room} {part} clips, got {count}")


@contextmanager
def _claimed(folder: Path, look: SyntheticLook) -> Iterator[None]:
    """The folder made, or seen to be a set of the same look; nobody else writes it meanwhile."""
    settings = settings_of(look)
    file = folder / SETTINGS_FILE
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder for the set, {folder} is a file")
    if file.exists():
        _compare(file, settings)
    # Real data in this layout has CSVs of the same names.
    elif folder.exists() and not is_empty(folder):
        raise InputError(f"expected a new or empty folder, or a set that this command made: {folder}")
    make_folder(folder)
    with held(folder, folder=True):
        sweep(folder, deep=True)
        new = not file.exists()
        if new:
            write_json(file, settings, indent=2)
        try:
            yield
        except BaseException:
            if new and not _read_journal(folder, look):
                _clear(folder)
            raise


def _clear(folder: Path) -> None:
    """Takes back what a run left that drew no clip: in the way of the next one, which may be of another look.

    The folder was empty, so all that is in it is this run's; locks and the like go by themselves.
    """
    for path in folder.iterdir():
        if TEMPORARY_NAME.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _compare(file: Path, settings: Mapping[str, Any]) -> None:
    try:
        old = dict(read_json(file))
    except (ValueError, TypeError) as error:
        raise InputError(f"settings: expected those of a set, got {error}, in {file}") from None
    other = [name for name in settings if old.get(name) != settings[name]]
    if other:
        named = ", ".join(f"{name} {old.get(name)!r} (now {settings[name]!r})" for name in other)
        raise InputError(
            "output_dir: expected the settings of the set that is there, got others (give them, or "
            f"another folder): {named}, in {file}"
        )


def _check_not_fewer(folder: Path, rows: Rows, counts: Mapping[str, int]) -> None:
    for part in FIRST_SCENE:
        held = 1 + max((key.index for key in rows if key.part == part), default=-1)
        if held > counts.get(part, 0):
            raise InputError(
                f"the set there has {held} {part} clips, {counts.get(part, 0)} were asked for; "
                f"ask for as many or more, or give another folder: {folder}"
            )


def _draw(folder: Path, keys: list[SyntheticKey], look: SyntheticLook, processes: int) -> Iterator[dict[str, Any]]:
    """Write the clips and give their rows, in order."""
    work = partial(_write, folder, look)
    processes = min(processes, len(keys))
    if processes <= 1:
        yield from map(work, keys)
        return
    # Fresh processes: a forked one can inherit a lock that is held.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=begin_worker)
    try:
        yield from pool.map(work, keys)
    except BrokenProcessPool:
        raise InputError("a process that draws was ended from outside; for lack of memory? use fewer") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _write(folder: Path, look: SyntheticLook, key: SyntheticKey) -> dict[str, Any]:
    row = write_clip(folder, key, look)
    return {**row, "bytes": _sizes(folder, key, look)}


def _sizes(folder: Path, key: SyntheticKey, look: SyntheticLook) -> list[int]:
    return [file.stat().st_size if file.exists() else -1 for file in files_of(folder, key, look)]


def _line(key: SyntheticKey, row: Mapping[str, Any]) -> str:
    return json.dumps({"part": key.part, "index": key.index, **row}) + "\n"


def _read_journal(folder: Path, look: SyntheticLook) -> Rows:
    """The clips whose files are there, whole."""
    rows: Rows = {}
    file = folder / JOURNAL_FILE
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
            key = SyntheticKey(row.pop("part"), row.pop("index"))
        except (ValueError, KeyError, AttributeError):
            continue  # cut off when a run was killed: the clip is drawn again
        if row["bytes"] == _sizes(folder, key, look):
            rows[key] = row
    return rows


def _write_journal(folder: Path, rows: Rows) -> None:
    write_text(folder / JOURNAL_FILE, "".join(_line(key, rows[key]) for key in _ordered(rows)))


def _ordered(rows: Rows) -> list[SyntheticKey]:
    return sorted(rows, key=SyntheticKey.number)


def _write_tables(folder: Path, rows: Rows) -> None:
    keys = _ordered(rows)
    for name, (part, columns) in TABLES.items():
        listed = [rows[key] for key in keys if key.part == part]
        if listed:
            write_table(folder / name, columns, listed)
