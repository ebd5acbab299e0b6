"""Fields of option dataclasses: their `--help` text and the values that they take, declared once, beside the default.

`cli.door.DoorParser` refuses what a range does not hold when flags are read; dataclasses that are also made in code
call `check_ranges` when they are made. A number that is not finite is never in range.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from videopainter.errors import InputError

# What is larger was not meant: twice the pixels of an 8K picture (Pillow warns a little above that).
MAX_SIDE, MAX_PIXELS = 16_384, 2**26
MAX_DILATION = 2048
MAX_FPS = 1_000_000
MAX_INT = 2**63 - 1  # what seeds and ids have room in
_RANGE = "range"


@dataclass(frozen=True, kw_only=True)
class Range:
    """Which numbers are taken: from `least` to `most`, or `above` one and `below` another. Without any: all finite."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        lower = _words("more than", self.above) if self.above is not None else _words("at least", self.least)
        upper = _words("less than", self.below) if self.below is not None else _words("at most", self.most)
        if self.least is not None and self.most is not None:
            return f"a number from {_short(self.least)} to {_short(self.most)}"
        return ", ".join(filter(None, (lower, upper))) or "a finite number"


def flag(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    **metadata: Any,
) -> Any:
    """A dataclass field with its `--help` text (`%` is escaped for argparse) and the range of its numbers."""
    allowed = Range(least=least, most=most, above=above, below=below)
    return field(default=default, metadata={"help": help.replace("%", "%%"), _RANGE: allowed, **metadata})


def switch(default: bool | None, help: str) -> Any:
    """A flag that may stand alone (`--x`) or carry a value (`--x false`); `None` lets the program decide."""
    # HfArgumentParser does this itself for True and False.
    return flag(default, help, nargs="?", const=True) if default is None else flag(default, help)


def same_flag(owner: Any, name: str, help: str | None = None) -> Any:
    """A flag that the dataclass `owner` declares already: its default and range, and its help where none is given."""
    known = next(one for one in fields(owner) if one.name == name)
    told = {} if help is None else {"help": help.replace("%", "%%")}
    return field(default=known.default, metadata={**known.metadata, **told})


def range_of(metadata: Mapping[str, Any]) -> Range:
    """What a field's metadata says of its numbers; any finite one where it says nothing."""
    return metadata.get(_RANGE, Range())


def without_range(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A field's metadata as argparse takes it."""
    return {name: value for name, value in metadata.items() if name != _RANGE}


def check_ranges(options: Any) -> None:
    """InputError for the first number of a dataclass, or of a list in it, that its field's range does not hold."""
    for one in fields(options):
        value = getattr(options, one.name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                check_number(one.name, number, range_of(one.metadata))


def check_number(name: str, value: float, allowed: Range) -> None:
    """InputError, naming `name`, where the range does not hold the number."""
    if not allowed.holds(value):
        raise InputError(f"{name}: expected {allowed}, got {shown(value)}")


def check_size(name: str, height: int, width: int, where: object = "") -> None:
    """InputError where a picture of that size cannot have been meant; `where` is the file that says so."""
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        place = f", in {where}" if where else ""
        raise InputError(
            f"{name}: expected sides of 1 to {MAX_SIDE} pixels and {MAX_PIXELS // 10**6} million pixels at most, "
            f"got {shown(width)}x{shown(height)}{place}"
        )


def check_installed(what: str, package: str, *, install: str = "", instead: str = "") -> None:
    """InputError where a package cannot be found; imports nothing.

    what: the flag, with its value, that needs it. install: how pip calls it, where not by its name. instead: what else
    helps, such as `or --report_to none`.
    """
    if importlib.util.find_spec(package) is None:
        hint = ", ".join(filter(None, (f"pip install {install or package}", instead)))
        raise InputError(f"{what}: expected {package} to be installed, got none: {hint}")


def shown(value: object) -> str:
    """A value as it is told in a line: not longer than a line takes."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:30]}...{text[-20:]} ({len(text)} characters)"


def _words(text: str, value: float | None) -> str:
    return "" if value is None else f"{text} {_short(value)}"


def _short(value: float) -> str:
    if value == MAX_INT:
        return "2^63 - 1"
    return f"{value:g}" if isinstance(value, float) else str(value)
