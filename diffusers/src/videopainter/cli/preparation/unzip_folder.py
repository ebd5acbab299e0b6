"""The flags of `data_utils/unzip_folder.py`, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.data.workers import processors
from videopainter.errors import complain
from videopainter.flags import flag, switch
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.download.clones import locate
from videopainter.preparation.units import counted, size_text
from videopainter.preparation.unpack.extract import Unpacked
from videopainter.preparation.unpack.folder import PROBLEMS_FILE, find_archives, list_problems, unpack_all
from videopainter.preparation.unpack.survey import UnpackLimits

_DESCRIPTION = (
    "Unpack all .zip files of a folder into another. What is there and equal is skipped, so a run that ended goes on. "
    "Nothing is written outside the target, and links, bombs and broken entries are listed and left out."
)
_TOLD = 20


@dataclass(kw_only=True)
class UnzipOptions:
    """From where to where."""

    _argument_group_name: ClassVar[str] = "from where to where"

    source_dir: str = flag("./data/videovo_masks", "The folder of .zip files; also found in a clone below data/.")
    target_dir: str = flag("./data/video_inpainting/videovo", "Where to unpack them.")
    overwrite: bool = switch(False, "Replace files that are there with other content.")
    threads: int = flag(0, "How many entries are unpacked at once; 0: one for each processor.", least=0)


UNZIP_OPTIONS = (UnzipOptions, UnpackLimits, DiskOptions)


def unzip_folder(argv: Sequence[str] | None = None) -> int:
    """Unpack what the flags say; the exit code: 1 where something could not be."""
    options, limits, disk = parse_options(UNZIP_OPTIONS, argv, description=_DESCRIPTION)
    source, target = locate(Path(options.source_dir)), Path(options.target_dir)
    archives = find_archives(source)
    if source != Path(options.source_dir):
        complain(f"no {options.source_dir}: taking {source}")
    result = unpack_all(
        archives, target, limits, disk, threads=options.threads or processors(), overwrite=options.overwrite
    )
    print(f"{target}: {unpacked_text(result)} from {counted(len(archives), 'archive')}")
    list_problems(target, result)
    tell_problems(result, target)
    return 1 if result.problems else 0


def unpacked_text(result: Unpacked) -> str:
    """ "3 files (12 MB) unpacked, 2 were there, 1 left out"."""
    text = f"{counted(result.written, 'file')} ({size_text(result.size)}) unpacked, {result.there} were there"
    return text + (f", {len(result.problems)} left out" if result.problems else "")


def tell_problems(result: Unpacked, target: Path) -> None:
    """The first problems, a line each, and where all of them are."""
    for archive, entry, why in result.problems[:_TOLD]:
        complain(f"{archive}: {entry!r}: {why}" if entry else f"{archive}: {why}")
    if len(result.problems) > _TOLD:
        complain(f"and {len(result.problems) - _TOLD} more")
    if result.problems:
        complain(f"all of them: {target / PROBLEMS_FILE}")
