"""Bytes, seconds and counts as people write them."""

from __future__ import annotations

import math
import re

from videopainter.errors import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?(?:/S)?")


def parse_bytes(text: str, name: str) -> int:
    """Bytes of "20MB", "1.5 GiB", "500k" or "1000" (a trailing "/s" is allowed). InputError, with the flag's name."""
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None or (match[3] and not match[2]):
        raise InputError(f"{name}: expected a size such as 500MB, 20GB or 1.5TiB, got {text!r}")
    exponent = "KMGT".find(match[2]) + 1 if match[2] else 0
    return int(float(match[1]) * (1024**exponent if match[3] else _UNITS[match[2]]))


def size_text(size: float) -> str:
    """ "812 B", "4.2 MB", "1.3 TB": powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def time_text(seconds: float) -> str:
    """ "9 s", "4 min", "2 h 05 min", "3 d 4 h"."""
    if not math.isfinite(seconds):
        return "unknown"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"


def counted(number: int, noun: str) -> str:
    """ "1 video", "2 000 videos", "3 entries"."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}".replace(",", " ")
