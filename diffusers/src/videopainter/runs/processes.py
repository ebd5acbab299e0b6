"""One process among several: its share of the work, its device, and a common end.

`torchrun` and `accelerate launch` say so in RANK, LOCAL_RANK and WORLD_SIZE.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from videopainter.errors import InputError
from videopainter.runs.options import ModelOptions

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")
# Clips take hours; whoever is done first waits for the slowest.
PATIENCE = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """This process's place among `size` processes."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @classmethod
    def from_env(cls) -> Shard:
        """The place the launcher gave this process; a lone process otherwise.

        Raises:
            InputError: the variables contradict each other.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size <= 1:
            return cls()
        rank = int(os.environ.get("RANK", "-1"))
        if not 0 <= rank < size:
            raise InputError(f"WORLD_SIZE is {size}: expected RANK from 0 to {size - 1}, got {os.environ.get('RANK')}")
        return cls(rank=rank, local_rank=int(os.environ.get("LOCAL_RANK", rank)), size=size)

    def own(self, items: Sequence[_T]) -> list[_T]:
        """Every `size`-th item, from `rank` on: together the processes have each item once."""
        return list(items[self.rank :: self.size])

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in rank order, once each has come here.

        A launcher stops all processes when one leaves with an error code, so each waits for the others
        before it does.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        dist.init_process_group("gloo", timeout=PATIENCE)
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        dist.destroy_process_group()
        return gathered


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Where and in which type the models run."""

    device: str
    dtype: str


# Not Apple's: tables of positions and noise levels are made in float64, which they lack.
DEVICES = ("cpu", "cuda", "xpu")


def resolve_precision(options: ModelOptions, shard: Shard) -> Precision:
    """The device asked for, or this process's GPU, or the CPU; bfloat16 on a GPU and float32 on a CPU by default.

    Raises:
        InputError: for a device that this machine does not have.
    """
    import torch

    device = _default_device(shard) if options.device is None else options.device
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError:
        kind, index = "", None
    if kind not in DEVICES:
        raise InputError(f"--device: expected cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and (index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device: expected one of this machine's {torch.cuda.device_count()} GPUs, got {device}")
    return Precision(device=device, dtype=options.dtype or ("float32" if kind == "cpu" else "bfloat16"))


def device_of(options: ModelOptions) -> str:
    """Where this process's models run; InputError as `resolve_precision`."""
    return resolve_precision(options, Shard.from_env()).device


def check_device(name: str | None) -> None:
    """InputError for a `--device` that is none, or a GPU that this machine does not have; torch is asked for those."""
    if name is not None and name != "cpu":
        resolve_precision(ModelOptions(device=name), Shard())


def _default_device(shard: Shard) -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{shard.local_rank % torch.cuda.device_count()}" if shard.size > 1 else "cuda"


def torch_dtype(name: str) -> torch.dtype:
    """`float32` -> torch.float32."""
    import torch

    return getattr(torch, name)
