"""ID-resample adapters on disk: a LoRA of the backbone and how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from videopainter.files import replacing
from videopainter.models.checkpoint_files import ADAPTER_FILE, FORMS, adapter_file
from videopainter.models.finite import check_weights

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
ADAPTER_NAME = "id_resample"
PREFIX = "transformer"


@dataclass(frozen=True)
class IDAdapter:
    """How an ID adapter was trained; stored in the file's metadata.

    The public file has none: it loads as it was published, exact form, at scale 1 (alpha = rank).

    Args:
        form: Form of ID resampling, ``exact`` or ``compact``.
        rank, alpha: Of the LoRA; its scale is alpha / rank.
        hole_fill: Value in [−1, 1] of masked pixels during its training.
    """

    form: str
    rank: int
    alpha: float
    hole_fill: float = 0.0

    @classmethod
    def read(cls, path: str | Path) -> IDAdapter:
        """Read from a file's (or folder's) header alone.

        Raises:
            ValueError: if it is missing, not a LoRA of the attention projections, or of an unknown form.
        """
        path = adapter_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            keys = list(file.keys())
            downs = [key for key in keys if key.startswith(f"{PREFIX}.") and key.endswith("lora_A.weight")]
            if not downs:
                raise ValueError(f"{path}: expected LoRA weights under {PREFIX!r}, got {keys[:2]}")
            rank = file.get_slice(downs[0]).get_shape()[0]
        form = metadata.get("id_resample_form", "exact")
        if form not in FORMS:
            raise ValueError(f"{path}: expected ID resampling of form {' or '.join(FORMS)}, got {form!r}")
        return cls(form, rank, _stored_alpha(metadata, rank), float(metadata.get("hole_fill", 0.0)))

    @classmethod
    def load(cls, path: str | Path, transformer: Any) -> IDAdapter:
        """Load into a backbone as the LoRA adapter `id_resample`, at the scale it was trained with."""
        adapter = cls.read(path)
        state = _load(adapter_file(path))
        check_weights(state.items(), adapter_file(path))
        transformer.load_lora_adapter(
            state, prefix=PREFIX, adapter_name=ADAPTER_NAME, metadata=adapter.lora_config(prefix=True)
        )
        return adapter

    def save(self, folder: str | Path, weights: Mapping[str, torch.Tensor]) -> Path:
        """Write LoRA weights (peft's names, without prefix) with this description beside them.

        The LoRA's part of the metadata is diffusers' own, so `load_lora_weights` honours alpha, too.
        """
        path = Path(folder) / ADAPTER_FILE
        metadata = {
            "format": "pt",
            "lora_adapter_metadata": json.dumps(self.lora_config(prefix=True), sort_keys=True),
            "id_resample_form": self.form,
            "hole_fill": repr(self.hole_fill),
        }
        tensors = {f"{PREFIX}.{name}": tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with replacing(path) as partial:
            save_file(tensors, partial, metadata=metadata)
        return path

    def lora_config(self, *, prefix: bool = False) -> dict[str, Any]:
        """Arguments of peft's LoraConfig."""
        config = {"r": self.rank, "lora_alpha": self.alpha, "target_modules": list(TARGET_MODULES)}
        return {f"{PREFIX}.{name}": value for name, value in config.items()} if prefix else config


def _stored_alpha(metadata: Mapping[str, str], rank: int) -> float:
    stored = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    return float(stored.get(f"{PREFIX}.lora_alpha", rank))


def _load(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
