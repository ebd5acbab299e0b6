"""The error class for what a user can put right, those for what ends otherwise, and the way to tell it in a line."""

from __future__ import annotations

import sys


class InputError(ValueError):
    """A user's mistake, in one line: what was expected, what came, and which file.

    Doors print it on stderr without a traceback and exit with code 2.
    """


class TrainingFailed(RuntimeError):
    """Training cannot go on: the loss is no longer a number, or processes are no longer in step."""


class Interrupted(Exception):
    """The caller asked to stop; what was finished before is kept, and the same call goes on there."""


class OutOfStep(RuntimeError):
    """A process failed in the middle of what several do together; none of them can go on."""


def one_line(error: object) -> str:
    """What an error (or a text) says, without line breaks; one that says nothing, by its name."""
    return " ".join(str(error).split()) or type(error).__name__


def complain(text: str) -> None:
    """One line on stderr, whatever line breaks the text carries."""
    print(one_line(text), file=sys.stderr, flush=True)
