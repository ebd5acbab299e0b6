"""Flags from a file: one JSON or YAML mapping, so that a run can be written down and repeated."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videopainter.cli.door import parse_options
from videopainter.errors import InputError, one_line
from videopainter.files import read_json

_FLAG = "--options"


def with_file_flags(option_types: Sequence[Any], argv: Sequence[str] | None) -> list[str]:
    """The command line with the flags of `--options FILE` ahead of its own, which count more.

    Raises:
        InputError: the file is no mapping of flags to values, or holds one that is unknown or cannot be.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    file = next((_value(words, at) for at, word in enumerate(words) if word.split("=")[0] == _FLAG), None)
    if file is None:
        return words
    flags = [f"--{name}={value}" for name, value in _read(Path(file)).items() if value is not None]
    try:
        parse_options(option_types, flags)
    except InputError as error:
        raise InputError(f"{error}, in {file}") from None
    return [*flags, *words]


def _value(words: Sequence[str], at: int) -> str | None:
    _, equals, value = words[at].partition("=")
    if equals:
        return value
    return words[at + 1] if at + 1 < len(words) else None


def _read(file: Path) -> dict[str, Any]:
    is_yaml = file.suffix.lower() in (".yaml", ".yml")
    content = _read_yaml(file) if is_yaml else read_json(file, _FLAG)
    if not isinstance(content, dict) or any(isinstance(value, dict | list) for value in content.values()):
        raise InputError(f'{_FLAG}: expected flags and their values, as {{"clip_seconds": 10}}, got others, in {file}')
    return {str(name): value for name, value in content.items() if name != _FLAG.strip("-")}


def _read_yaml(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{_FLAG}: expected a file that can be read, got {error.strerror}, in {file}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{_FLAG}: expected YAML, got {one_line(error)[:120]}, in {file}") from None
