"""How every door reads its flags. How it runs and ends: `running.py`."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

from transformers import HfArgumentParser

from videopainter.errors import InputError
from videopainter.flags import Range, range_of, shown, without_range

EPILOG = (
    "Exit codes: 0 done, 1 some samples failed or the disk is full, 2 nothing could start, 130 interrupted. "
    "VIDEOPAINTER_DEBUG=1 shows the traceback of an error."
)


class HelpFormatter(argparse.HelpFormatter):
    """One spelling per flag, and defaults only where the text does not tell them already."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        name = next((flag for flag in action.option_strings if flag.startswith("--")), action.dest)
        if action.choices is not None:
            return f"{name} {{{','.join(map(str, action.choices))}}}"
        return name if action.nargs in (0, "?") else f"{name} {self._format_args(action, action.dest.upper())}"

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action, argparse._StoreFalseAction):
            return f"The opposite of --{action.dest}."
        told = any(action.default is value for value in (None, False, "", argparse.SUPPRESS))
        return action.help if told else f"{action.help} (default: %(default)s)"


class DoorParser(HfArgumentParser):
    """HfArgumentParser whose complaints are `InputError`s and which knows no abbreviations.

    `common` names the flags that `--help` shows; `--help-all` shows all. Without it there is `--help` for all.
    """

    def __init__(self, dataclass_types: Sequence[Any], *, common: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(
            list(dataclass_types),
            epilog=EPILOG,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
            usage="%(prog)s [flags]",
            **kwargs,
        )
        self.common = frozenset(common)
        if common:
            self.add_argument(
                "--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help="Show every flag."
            )

    def given(self, words: Sequence[str]) -> dict[str, Any]:
        """The flags that are on the command line, with their values."""
        known = self._option_string_actions
        names = {known[word.split("=")[0]].dest for word in words if word.split("=")[0] in known}
        return {name: value for name, value in vars(self.parse_known_args(words)[0]).items() if name in names}

    def format_help(self) -> str:
        """What `--help` prints: the common flags, and how many there are beside them."""
        if not self.common:
            return super().format_help()
        shown_names = self.common | {"help", "help_all"}
        opposites = argparse._StoreFalseAction
        rare = [one for one in self._actions if one.dest not in shown_names or isinstance(one, opposites)]
        texts = [action.help for action in rare]
        for action in rare:
            action.help = argparse.SUPPRESS
        try:
            text = super().format_help()
        finally:
            for action, help_text in zip(rare, texts):
                action.help = help_text
        return f"{text}\n{len({action.dest for action in rare} - self.common)} more flags: --help-all\n"

    def format_help_all(self) -> str:
        """Every flag."""
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise InputError(_in_our_words(message))

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        """As its parent, and what is read must lie in the field's range."""
        plain = copy.copy(field)
        plain.metadata = MappingProxyType(without_range(field.metadata))  # type: ignore[misc]
        before = len(parser._actions)
        HfArgumentParser._parse_dataclass_field(parser, plain)
        for action in parser._actions[before:]:
            if action.type in (int, float):
                action.type = _reader(action.type, range_of(field.metadata))
            elif action.type is str:
                action.type = plain_text


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        assert isinstance(parser, DoorParser)
        parser._print_message(parser.format_help_all(), sys.stdout)
        parser.exit()


def parse_options(
    dataclass_types: Sequence[Any],
    argv: Sequence[str] | None = None,
    *,
    description: str = "",
    common: Sequence[str] = (),
    defaults: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None,
) -> tuple[Any, ...]:
    """One object per dataclass from the command line; unknown flags raise `InputError`.

    common: the flags that `--help` shows, `--help-all` shows the others, too.
    defaults: from the flags that are given, what others are taken for, as text.
    """
    parser = DoorParser(dataclass_types, description=description, common=common)
    words = list(sys.argv[1:] if argv is None else argv)
    # First: a misspelt flag must not be told as the absence of the one that was meant.
    unknown = parser.parse_known_args(words)[1]
    if unknown:
        raise InputError(_unknown_flag(unknown[0], list(parser._option_string_actions)))
    if defaults is not None:
        parser.set_defaults(**defaults(parser.given(words)))
    options = parser.parse_args_into_dataclasses(args=words, look_for_args_file=False)
    return tuple(options)


def _reader(kind: type, allowed: Range) -> Callable[[str], float]:
    """Reads a flag's number."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            whole = "a whole number" if kind is int else "a number"
            words = str(allowed).replace("a number", whole).replace("a finite number", whole)
            words = words if words.startswith(whole) else f"{whole}, {words}"
            raise argparse.ArgumentTypeError(f"expected {words}, got {shown(text)!r}") from None
        if not allowed.holds(value):
            raise argparse.ArgumentTypeError(f"expected {allowed}, got {shown(value)}")
        return value

    return read


def plain_text(text: str) -> str:
    """What an option's text may be."""
    # No file has such a name, and libraries take it for a text's end.
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"expected text without NUL characters, got {shown(repr(text))}")
    return text


def _in_our_words(message: str) -> str:
    """argparse's complaint as `--flag: expected ..., got ...`."""
    found = re.fullmatch(r"argument (--[\w-]+)\S*: (.*)", message, re.DOTALL)
    if not found:
        return f"{message} (see --help)"
    name, told = found.groups()
    choice = re.fullmatch(r"invalid choice: (.*?) \(choose from (.*)\)", told, re.DOTALL)
    if choice:
        told = f"expected one of {choice[2].replace(chr(39), '')}, got {choice[1]}"
    return f"{name}: {told}{', got none' if told.startswith('expected') and ', got' not in told else ''}"


def _unknown_flag(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.split("=")[0], known, n=1)
    hint = f", did you mean {near[0]}" if near else ", see --help"
    kind = "unknown flag" if name.startswith("-") else "unexpected argument"
    return f"{kind} {name!r}{hint}"
