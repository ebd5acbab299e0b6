"""Is a video file whole? Its outermost structure says how long it must be; no frame is decoded for that."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from videopainter.errors import InputError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check_whole(path: Path) -> None:
    """InputError where an mp4/mov, mkv/webm or avi file is shorter than it says. Others have no such sign."""
    actual = path.stat().st_size
    if not actual:
        raise InputError(f"video: expected frames, got an empty file, in {path}")
    with open(path, "rb") as file:
        head = file.read(16)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            declared = _iso_end(file, actual, path)
        elif head[:4] == _EBML:
            declared = _matroska_end(file)
        elif head[:4] == b"RIFF":
            declared = 8 + int.from_bytes(head[4:8], "little")
        else:
            return
    if declared > actual:
        raise InputError(f"video: expected at least {declared} bytes, got a file cut off at {actual}, in {path}")


def _iso_end(file: BinaryIO, actual: int, path: Path) -> int:
    """End of the last top-level box; a file without `moov` has no index and cannot be played."""
    at, has_index = 0, False
    while at + 8 <= actual:
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # "to the end of the file"
            size = actual - at
        if size < 8:
            break
        has_index |= kind == b"moov"
        at += size
    if not has_index and at <= actual:
        raise InputError(f"video: expected a finished file, got none of its index (moov box), in {path}")
    return at


def _matroska_end(file: BinaryIO) -> int:
    """End of the segment, 0 where it is of unknown size (live recordings)."""
    file.seek(4)
    header = _vint(file)
    file.seek((header or 0) + file.tell())
    if file.read(4) != _SEGMENT:
        return 0
    size = _vint(file)
    return 0 if size is None else file.tell() + size


def _vint(file: BinaryIO) -> int | None:
    """One EBML length; None where it is missing or says "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + file.read(length - 1), "big")
    return None if value == (1 << 7 * length) - 1 else value
