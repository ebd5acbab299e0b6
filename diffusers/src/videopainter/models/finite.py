"""Numbers that are none: told by the name of the weight or the stage, before they become a black hole in a result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from videopainter.errors import InputError

_PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_weights(named: Iterable[tuple[str, torch.Tensor]], where: Path | str) -> None:
    """InputError for the first weight with a NaN or an infinity; quantized weights and shards elsewhere are not read.

    Sums are taken first, one pass over the memory; where one is not finite, each number is looked at.
    """
    plain = [
        (name, tensor)
        for name, tensor in named
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.dtype in _PLAIN and not tensor.is_meta
    ]
    sums = [tensor.detach().sum(dtype=torch.float32) for _, tensor in plain]
    for (name, tensor), total in zip(plain, sums):
        if not total.isfinite() and not tensor.detach().isfinite().all():
            raise InputError(f"weights: expected finite numbers, got NaN or infinity in {name}, in {where}")


def check_result(tensor: torch.Tensor, what: str) -> None:
    """InputError where a stage has made something else than numbers."""
    if not tensor.isfinite().all():
        raise InputError(
            f"{what}: expected finite numbers, got NaN or infinity; float16 may be too small for these weights "
            "(--dtype bfloat16 or float32), or a guidance or scale too large"
        )
