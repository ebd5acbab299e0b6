"""What an archive says it holds, judged before a byte is unpacked: names that lead out, links, bombs, duplicates."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from videopainter.errors import InputError, one_line
from videopainter.flags import flag
from videopainter.preparation.units import parse_bytes, size_text

_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Extra field "UNIX": times and owner in 12 bytes, and behind them the name that a link points at.
_UNIX_FIELD, _UNIX_FIELD_BYTES = 0x000D, 12
# File systems end at 255 and 4096; temporary names are longer than the file's.
_NAME_BYTES, _PATH_BYTES = 200, 2048
_LOCAL_HEADER_BYTES = 30
# Small ones cannot fill a disk, and black masks do shrink to a thousandth.
_HARMLESS_BYTES = 256 * 10**6
_LFS_POINTER = b"version https://git-lfs"


@dataclass(kw_only=True)
class UnpackLimits:
    """What an archive may not exceed."""

    _argument_group_name: ClassVar[str] = "limits of an archive"

    max_ratio: float = flag(
        200.0,
        "How many times larger than packed an entry above 256 MB may be; masks of mostly empty frames may need more.",
        least=1,
    )
    max_unpacked: str = flag("", "How much one archive may unpack to, such as 500GB; empty: what fits on the disk.")
    max_entries: int = flag(1_000_000, "How many entries an archive may have.", least=1)

    def check(self) -> None:
        """InputError for what is no size."""
        if self.max_unpacked:
            parse_bytes(self.max_unpacked, "--max_unpacked")


@dataclass(frozen=True)
class ZipEntry:
    """A file or folder of an archive that may be unpacked: `path` is relative, clean, with slashes."""

    info: zipfile.ZipInfo
    path: str


@dataclass
class Survey:
    """What of an archive is unpacked, and what is not: (name, why)."""

    entries: list[ZipEntry] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the entries when unpacked."""
        return sum(entry.info.file_size for entry in self.entries)


def open_archive(path: Path) -> zipfile.ZipFile:
    """An archive to read; InputError, which says what it is instead, where it is none or broken."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, UnicodeError) as error:
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
        if head == _LFS_POINTER:
            raise InputError(f"a git-lfs pointer, not the file it stands for (run `git lfs pull`): {path}") from None
        if not head:
            raise InputError(f"archive is an empty file: {path}") from None
        raise InputError(f"archive is broken, or none: {path} ({one_line(error)})") from None


def survey(archive: zipfile.ZipFile, limits: UnpackLimits) -> Survey:
    """Judge the entries of an archive.

    Raises:
        InputError: there are too many, or they claim more than `max_unpacked` together.
    """
    infos = archive.infolist()
    if len(infos) > limits.max_entries:
        raise InputError(f"expected at most {limits.max_entries} entries (--max_entries), got {len(infos)}")
    found = Survey()
    files: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    overlapping = _overlapping(infos)
    for number, info in enumerate(infos):
        path, why = _clean(info.filename)
        why = why or _why_refused(info, limits)
        if number in overlapping:
            why = "its bytes are those of another entry, too (a bomb)"
        elif not why and path in files and not info.is_dir():
            if (files[path].CRC, files[path].file_size) == (info.CRC, info.file_size):
                continue
            why = "an entry of this name came before, with other content"
        elif not why and (path in (files if info.is_dir() else folders) or any(p in files for p in _parents(path))):
            why = "a file and a folder have this name"
        if why:
            found.refused.append((info.filename, why))
            continue
        found.entries.append(ZipEntry(info, path))
        folders.update(_parents(path))
        if info.is_dir():
            folders.add(path)
        else:
            files[path] = info
    if limits.max_unpacked and found.size > parse_bytes(limits.max_unpacked, "--max_unpacked"):
        raise InputError(f"would unpack to {size_text(found.size)}, more than --max_unpacked {limits.max_unpacked}")
    return found


def _parents(path: str) -> Iterator[str]:
    """`a/b/c` -> `a/b`, `a`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _clean(name: str) -> tuple[str, str]:
    """The path inside the target, and why there is none ("": there is)."""
    # Some programs write the separators of their own system.
    plain = name.replace("\\", "/")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in plain):
        return "", "its name has control characters"
    if plain.startswith("/") or plain[1:2] == ":":
        return "", "its name is absolute"
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "", "its name leads out of the target"
    if not parts:
        return "", "it has no name"
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeError:
        return "", "its name is not text"
    if max(lengths) > _NAME_BYTES or sum(lengths) + len(lengths) > _PATH_BYTES:
        return "", "its name is too long"
    return "/".join(parts), ""


def _why_refused(info: zipfile.ZipInfo, limits: UnpackLimits) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "it is a symbolic link"
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return "it is neither a file nor a folder"
    if _is_hard_link(info):
        return "it is a hard link"
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if info.compress_type not in _METHODS:
        return f"it is packed by a method that is not known ({info.compress_type})"
    if info.file_size > _HARMLESS_BYTES and info.file_size > limits.max_ratio * max(info.compress_size, 1):
        ratio = info.file_size / max(info.compress_size, 1)
        return (
            f"it would grow {ratio:.0f} times, to {size_text(info.file_size)} (a bomb; if not, raise --max_ratio "
            f"{limits.max_ratio:g})"
        )
    return ""


def _is_hard_link(info: zipfile.ZipInfo) -> bool:
    """Whether the extra field names a file to link to."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == _UNIX_FIELD and length > _UNIX_FIELD_BYTES:
            return True
        extra = extra[4 + length :]
    return False


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Numbers of the entries whose packed bytes begin before those of the one ahead of them end."""
    found, end = set(), 0
    for number in sorted(range(len(infos)), key=lambda k: infos[k].header_offset):
        info = infos[number]
        if info.header_offset < end:
            found.add(number)
        # A name has a byte per letter at least.
        end = max(end, info.header_offset + _LOCAL_HEADER_BYTES + len(info.filename) + info.compress_size)
    return found
