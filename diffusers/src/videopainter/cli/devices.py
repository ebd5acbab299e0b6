"""Where a run computes and in which precision. Imports torch."""

from __future__ import annotations

import torch

from videopainter.cli.options import ModelOptions
from videopainter.cli.recipe import Precision
from videopainter.cli.shards import Shard
from videopainter.errors import InputError


def resolve_precision(options: ModelOptions, shard: Shard) -> Precision:
    """The device asked for, or this process's GPU, or the CPU; bfloat16 on a GPU and float32 on a CPU by default.

    Raises:
        InputError: for a device that this machine does not have.
    """
    device = options.device or _default_device(shard)
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError:
        raise InputError(f"--device: expected cpu, cuda or cuda:N, got {device}") from None
    if kind == "cuda" and (index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {device}: this machine has {torch.cuda.device_count()} GPUs")
    return Precision(device=device, dtype=options.dtype or ("float32" if kind == "cpu" else "bfloat16"))


def _default_device(shard: Shard) -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{shard.local_rank % torch.cuda.device_count()}" if shard.size > 1 else "cuda"


def torch_dtype(name: str) -> torch.dtype:
    """`float32` -> torch.float32."""
    return getattr(torch, name)
