"""A checkpoint's files on disk: configs, weight files and their headers. No torch: doors look before they load."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

FORMS = ("exact", "compact")  # of ID resampling, as an adapter's file names them
ADAPTER_FILE = "pytorch_lora_weights.safetensors"


def adapter_file(path: str | Path) -> Path:
    """The adapter's file, given it or its folder; ValueError where there is none."""
    path = Path(path)
    file = path / ADAPTER_FILE if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"adapter: expected {ADAPTER_FILE} in a folder, or such a file; found none at {path}")
    return file


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{folder}: expected a model folder, {name} is missing")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None


def safetensors_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards that its index names.

    Raises:
        ValueError: if there is none, or a shard is missing.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        files = [path for path in sorted(folder.glob("*.safetensors")) if "lora" not in path.name]
        if not files:
            raise ValueError(f"{folder}: expected weights in .safetensors files, found none")
        return files
    names = sorted(set(json.loads(indices[0].read_text())["weight_map"].values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: expected the weights that {indices[0].name} names, got none of {', '.join(missing)}"
        )
    return [folder / name for name in names]


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """Names, shapes and places of a file's tensors, without metadata.

    Raises:
        ValueError: if it is not a safetensors file, or shorter than its header says (a broken download, a git-lfs
        pointer).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= size - 8:
            raise ValueError(f"{path}: expected a safetensors file, got {size} bytes that are not (git-lfs pointer?)")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise ValueError(f"{path}: expected a safetensors file, its header is damaged") from None
    header.pop("__metadata__", None)
    end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end != size:
        raise ValueError(f"{path}: expected {end} bytes of weights, got {size}; is the download complete?")
    return header


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """A safetensors file's own notes; `read_safetensors_header` has checked the file."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)).get("__metadata__") or {}
