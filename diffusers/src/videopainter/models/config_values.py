"""What a config's values may be, and what they are told to be by the weights beside it; a family's own rules are in its
folder (`backbones/cogvideox/configs.py`). No torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from videopainter.errors import InputError
from videopainter.flags import Range, shown

Rule = Callable[[Any], str | None]  # what was expected, None where the value is good
Rules = Mapping[str, Rule]  # by a config's keys
Header = dict[str, tuple[int, ...]]  # shapes of weights by name


class FamilyConfigs(NamedTuple):
    """What a family knows of its configs: of each part of a checkpoint, and of a `branch`.

    `rules` are of a part's config, of a `branch` and of the pipeline's `index`. `compare` raises InputError where a
    part's config contradicts the shapes of its weights. `joints` are what a part has to have as the transformer does:
    (part, its key, the transformer's), compared where both configs have theirs.
    """

    rules: Mapping[str, Rules]
    compare: Callable[[str, Mapping[str, Any], Header, Path], None]
    joints: Sequence[tuple[str, str, str]] = ()


def whole_number(least: int, most: int, *, none: bool = False) -> Rule:
    """From `least` to `most`; `none`: or null."""

    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if good or (none and value is None) else f"a whole number from {least} to {most}"

    return check


def finite_number(none: bool = False, **limits: float) -> Rule:
    """In the range that `Range` makes of the limits; `none`: or null."""
    allowed = Range(**limits)

    def check(value: Any) -> str | None:
        good = isinstance(value, int | float) and not isinstance(value, bool) and allowed.holds(value)
        return None if good or (none and value is None) else str(allowed)

    return check


def one_of(*names: str | None) -> Rule:
    """One of these texts."""
    return lambda value: None if value in names else " or ".join(map(str, names))


def text_like(pattern: str, what: str) -> Rule:
    """A text that the whole pattern matches; `what` says so in words."""
    return lambda value: None if isinstance(value, str) and re.fullmatch(pattern, value) else what


def count_parts(header: Header, prefix: str) -> int:
    """How many numbered parts the weights have under a prefix."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in header)
    return len({match[1] for match in found if match})


def compare_value(name: str, stored: int | None, config: Mapping[str, Any], file: Path, *, of: object = None) -> None:
    """InputError where the weights have another size than the config says; `of`: what it says, where no key does."""
    got = config.get(name) if of is None else of
    if stored and got is not None and got != stored:
        refuse(name, f"{stored} as its weights", got, file)


def refuse(name: str, expected: str, got: object, file: Path) -> NoReturn:
    """InputError for a value of a file."""
    raise InputError(f"{name}: expected {expected}, got {shown(repr(got) if isinstance(got, str) else got)}, in {file}")
