"""What every door does: read flags, turn a user's mistake into one line, and leave with the right code."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser

from videopainter.errors import InputError, complain

EPILOG = (
    "Exit codes: 0 done, 1 some samples failed, 2 nothing could start, 130 interrupted. "
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
    """HfArgumentParser whose complaints are `InputError`s and which knows no abbreviations."""

    def __init__(self, dataclass_types: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(
            list(dataclass_types),
            epilog=EPILOG,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
            usage="%(prog)s [flags]",
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def parse_options(
    dataclass_types: Sequence[Any], argv: Sequence[str] | None = None, *, description: str = ""
) -> tuple[Any, ...]:
    """One object per dataclass from the command line; unknown flags raise `InputError`."""
    parser = DoorParser(dataclass_types, description=description)
    words = list(sys.argv[1:] if argv is None else argv)
    # First: a misspelt flag must not be told as the absence of the one that was meant.
    unknown = parser.parse_known_args(words)[1]
    if unknown:
        raise InputError(_unknown_flag(unknown[0], list(parser._option_string_actions)))
    options = parser.parse_args_into_dataclasses(args=words, look_for_args_file=False)
    return tuple(options)


def run_door(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit: its return value (None: 0), 2 after a user's mistake, 130 after Ctrl-C."""
    try:
        code = main() or 0
    except ValueError as error:
        if os.environ.get("VIDEOPAINTER_DEBUG", "") not in ("", "0"):
            raise
        complain(f"error: {error}")
        code = 2
    except KeyboardInterrupt:
        complain("interrupted: start the same command again to go on where it was")
        code = 130
    sys.stdout.flush()
    sys.exit(code)


def _unknown_flag(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.split("=")[0], known, n=1)
    hint = f", did you mean {near[0]}" if near else ", see --help"
    kind = "unknown flag" if name.startswith("-") else "unexpected argument"
    return f"{kind} {name!r}{hint}"
