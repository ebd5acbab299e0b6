"""Weights in fewer bits: names, the libraries they need, and the options that loaders take."""

from __future__ import annotations

import importlib
from typing import Any

from videopainter.flags import check_installed

QUANTIZATIONS = ("none", "int8", "fp8", "nf4")


def check_quantization(quantization: str) -> None:
    """Whether the name is known and its library installed; ValueError otherwise. Imports nothing heavy."""
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization: expected {', '.join(QUANTIZATIONS)}, got {quantization!r}")
    library = {"none": None, "nf4": "bitsandbytes"}.get(quantization, "torchao")
    if library is not None:
        check_installed(f"quantization {quantization}", library, install="-e 'diffusers[quant]'")


def loading_options(quantization: str, library: str) -> dict[str, Any]:
    """Keywords for `from_pretrained` of a library, `diffusers` or `transformers`."""
    return {} if quantization == "none" else {"quantization_config": quantization_config(quantization, library)}


def quantization_config(quantization: str, library: str) -> Any:
    """The library's own description of int8, fp8 or nf4 weights."""
    module = importlib.import_module(library)
    if quantization == "nf4":
        import torch

        return module.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    torchao = importlib.import_module("torchao.quantization")
    kind = torchao.Int8WeightOnlyConfig() if quantization == "int8" else torchao.Float8WeightOnlyConfig()
    return module.TorchAoConfig(kind)
