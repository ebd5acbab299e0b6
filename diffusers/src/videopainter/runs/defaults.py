"""What a checkpoint says suits it: `inference_defaults.json` in the backbone's folder, flag -> value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.runs.options import SamplingOptions
from videopainter.runs.weights import BACKBONE, find_tiny

DEFAULTS_FILE = "inference_defaults.json"


def checkpoint_defaults(given: Mapping[str, Any]) -> Mapping[str, str]:
    """What the folder of `--model_path` names for flags of `SamplingOptions`, as text; empty without the file.

    Raises:
        InputError: the file is no JSON object of sampling flags with plain values.
    """
    folder = Path(given["model_path"]) if given.get("model_path") else _tiny_backbone()
    file = folder / DEFAULTS_FILE if folder is not None else None
    if file is None or not file.is_file():
        return {}
    content = read_json(file, "inference defaults")
    known = {one.name for one in fields(SamplingOptions)}
    if not isinstance(content, dict):
        raise InputError(f"inference defaults: expected an object of flags, got {type(content).__name__}, in {file}")
    for name, value in content.items():
        if name not in known or not isinstance(value, str | int | float | bool):
            raise InputError(f"inference defaults: expected sampling flags with plain values, got {name!r}, in {file}")
    return {name: str(value) for name, value in content.items()}


def _tiny_backbone() -> Path | None:
    try:
        return find_tiny() / BACKBONE
    except InputError:
        return None  # told when weights are resolved, if it matters
