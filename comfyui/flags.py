"""A script's flags as inputs of a node: defaults, ranges and help are those of the flags.

What a node was given becomes the words of a command line: so a node takes what the script takes, and refuses what it
refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from comfy_api.latest import io

from videopainter.flags import range_of

# In place of a choice that the program makes.
AUTO = "auto"
_MOST = 2**31 - 1  # what a number's widget is asked to hold
_STEP = 0.01


@dataclass(frozen=True)
class Flag:
    """One field of an option dataclass."""

    owner: type
    name: str
    advanced: bool = False
    multiline: bool = False

    @property
    def field(self) -> Field[Any]:
        return next(one for one in fields(self.owner) if one.name == self.name)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its value may have; None last."""
        hint = get_type_hints(self.owner)[self.name]
        return (hint,) if get_origin(hint) in (Literal, list) or isinstance(hint, type) else get_args(hint)

    def input(self) -> io.Input:
        """The widget. Empty text, 0 for a number and `auto` for a choice stand for "not given" where nothing is the
        flag's default; several values are lines."""
        kind, default = self.kinds[0], self.field.default
        told = self.field.metadata["help"].replace("%%", "%")
        common = {"tooltip": told, "advanced": self.advanced or None}
        optional = NoneType in self.kinds
        if get_origin(kind) is Literal:
            options = [*([AUTO] if optional else []), *map(str, get_args(kind))]
            return io.Combo.Input(self.name, options=options, default=str(default or AUTO), **common)
        if kind is bool:
            if optional:
                return io.Combo.Input(self.name, options=[AUTO, "true", "false"], default=AUTO, **common)
            return io.Boolean.Input(self.name, default=default, **common)
        if kind is int:
            low, high = self._ends()
            return io.Int.Input(self.name, default=default or 0, min=0 if optional else low, max=high, **common)
        if kind is float:
            low, high = self._ends()
            shown = {"min": 0.0 if optional else low, "max": high, "step": _STEP, "round": False}
            return io.Float.Input(self.name, default=default or 0.0, **shown, **common)
        lines = self.multiline or get_origin(kind) is list
        return io.String.Input(self.name, default=default or "", multiline=lines, **common)

    def _ends(self) -> tuple[Any, Any]:
        """The widget's ends; what lies on an open end is refused when it is read."""
        allowed = range_of(self.field.metadata)
        low = allowed.least if allowed.least is not None else allowed.above
        high = allowed.most if allowed.most is not None else allowed.below
        low, high = -_MOST if low is None else low, _MOST if high is None else min(high, _MOST)
        return (int(low), int(high)) if self.kinds[0] is int else (float(low), float(high))

    def words(self, value: Any) -> list[str]:
        """The words for a value; none for the flag's own default, which other flags may change."""
        if get_origin(self.kinds[0]) is list:
            return [f"--{self.name}={line.strip()}" for line in str(value).splitlines() if line.strip()]
        missing = NoneType in self.kinds and value in ("", 0, AUTO)
        if missing or value == self.field.default or str(value) == str(self.field.default):
            return []
        text = " ".join(str(value).split()) if self.multiline else str(value)
        return [f"--{self.name}={text.lower() if isinstance(value, bool) else text}"]


def flags_of(owner: type, names: Iterable[str], **looks: bool) -> list[Flag]:
    """Flags of one dataclass, in the order of the names; `looks` as the fields of `Flag`."""
    return [Flag(owner, name, **looks) for name in names]


def words_of(flags: Sequence[Flag], values: Mapping[str, Any]) -> tuple[str, ...]:
    """A node's values as words of a command line."""
    return tuple(word for flag in flags for word in flag.words(values[flag.name]))
