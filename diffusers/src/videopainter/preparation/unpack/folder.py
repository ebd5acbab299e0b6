"""All archives of a folder, one after the other, and a list of what could not be unpacked."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import replacing
from videopainter.locks import held
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.progress import WorkProgress
from videopainter.preparation.unpack.extract import Unpacked, unpack
from videopainter.preparation.unpack.survey import UnpackLimits, open_archive

PROBLEMS_FILE = "unzip_problems.csv"


def find_archives(folder: Path) -> list[Path]:
    """The *.zip of a folder, by name; InputError where there is no such folder, or none in it."""
    if not folder.is_dir():
        raise InputError(f"--source_dir: expected a folder of .zip files, found no folder {folder}")
    archives = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".zip" and path.is_file())
    if not archives:
        raise InputError(f"--source_dir: expected .zip files, found none in {folder}")
    return archives


def unpack_all(
    archives: Sequence[Path],
    target: Path,
    limits: UnpackLimits,
    disk: DiskOptions,
    *,
    threads: int,
    overwrite: bool = False,
) -> Unpacked:
    """Unpack archives into `target`.

    Raises:
        InputError: `target` is no folder, cannot be written, or another process unpacks into it.
    """
    limits.check()
    disk.check()
    if target.exists() and not target.is_dir():
        raise InputError(f"--target_dir: expected a folder, got the file {target}")
    total = Unpacked()
    with held(target, folder=True), WorkProgress("unpack", _entries(archives), "entry") as progress:

        def told(what: str, size: int) -> None:
            progress.add(what, skipped=what != "written")
            progress.add_size(size)

        for path in archives:
            total.add(unpack(path, target, limits, disk, threads=threads, overwrite=overwrite, told=told))
    return total


def _entries(archives: Sequence[Path]) -> int:
    count = 0
    for path in archives:
        try:
            with open_archive(path) as archive:
                count += len(archive.infolist())
        except InputError:
            continue  # told when its turn comes
    return count


def list_problems(target: Path, result: Unpacked) -> None:
    """Write `unzip_problems.csv` in `target`, or remove it where there are none."""
    file = target / PROBLEMS_FILE
    if not result.problems:
        file.unlink(missing_ok=True)
        return
    with replacing(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("archive", "entry", "reason"))
        writer.writerows([[text.encode("utf-8", "replace").decode() for text in row] for row in result.problems])
