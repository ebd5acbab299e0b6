"""Where the hub's sets lie: in the data folder itself, or as clones inside it.

`git clone .../VPBench && mv VPBench data` was written for a folder that has no `data` yet. Where it has one, as here,
the clone ends up as `data/VPBench`; then files are taken from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from videopainter.files import sha256_file, write_errors
from videopainter.locks import held

CLONES = ("VPBench", "VPData")
# A clone's own; not part of the set.
_NOT_DATA = (".git", ".gitattributes", ".gitignore", ".cache", "README.md", "LICENSE")
_POINTER, _POINTER_BYTES = b"version https://git-lfs", 1024


def locate(path: Path) -> Path:
    """`path`, or that of the same name in a clone beside it, if only that exists."""
    if not path.exists():
        for clone in CLONES:
            if (path.parent / clone / path.name).exists():
                return path.parent / clone / path.name
    return path


@dataclass
class Adopted:
    """What of a clone moved into the data folder. `left`: (file, why)."""

    moved: int = 0
    equal: int = 0
    left: list[tuple[Path, str]] = field(default_factory=list)


def adopt(clone: Path, data: Path) -> Adopted:
    """Move what a clone holds into the data folder, file by file; nothing that is there is replaced.

    Files equal to those there, and git's own, stay in the clone. Pointers of git-lfs, which stand for files that were
    not fetched, stay, too. Raises WriteError where files cannot be moved.
    """
    result = Adopted()
    with held(data, folder=True), write_errors(data):
        for source in list(_files(clone)):
            target = data / source.relative_to(clone)
            if _is_pointer(source):
                result.left.append((source, "a git-lfs pointer: its file was not fetched"))
            elif not os.path.lexists(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, target)
                result.moved += 1
            elif target.is_file() and _same(source, target):
                result.equal += 1
            else:
                result.left.append((source, f"another file is there: {target}"))
    return result


def _files(clone: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(clone):
        top = Path(place) == clone
        folders[:] = sorted(name for name in folders if not (top and name in _NOT_DATA))
        yield from (Path(place, name) for name in sorted(files) if not (top and name in _NOT_DATA))


def _is_pointer(file: Path) -> bool:
    if file.stat().st_size > _POINTER_BYTES:
        return False
    with file.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and sha256_file(one) == sha256_file(other)
