"""Fields of option dataclasses that carry their `--help` text (read by `transformers.HfArgumentParser`)."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def flag(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field with its `--help` text (`%` is escaped for argparse)."""
    return field(default=default, metadata={"help": help.replace("%", "%%"), **metadata})


def switch(default: bool | None, help: str) -> Any:
    """A flag that may stand alone (`--x`) or carry a value (`--x false`); `None` lets the program decide."""
    # HfArgumentParser does this itself for True and False.
    return flag(default, help, nargs="?", const=True) if default is None else flag(default, help)
