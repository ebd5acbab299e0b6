"""Where a LoRA adapter lies. No torch: command lines look before they load anything."""

from __future__ import annotations

from pathlib import Path

FILE_NAME = "pytorch_lora_weights.safetensors"


def adapter_file(path: str | Path) -> Path:
    """The adapter's file, given it or its folder; ValueError where there is none."""
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"adapter: expected {FILE_NAME} in a folder, or such a file; found none at {path}")
    return file
