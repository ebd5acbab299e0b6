"""One process among several: its share of the work, its device, and a common end.

`torchrun` and `accelerate launch` say so in RANK, LOCAL_RANK and WORLD_SIZE. Processes share out clips, or by
`--context_parallel` the tokens of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from videopainter.errors import InputError
from videopainter.runs.options import ModelOptions

if TYPE_CHECKING:
    import torch

    from videopainter.models.backbones.leading import TokenGroup

_T = TypeVar("_T")
# Clips take hours; whoever is done first waits for the slowest.
PATIENCE = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """This process's place among `size` processes, of which `together` by `together` share the tokens of a clip."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    together: int = 1

    @classmethod
    def from_env(cls, together: int = 1) -> Shard:
        """The place the launcher gave this process; a lone process otherwise.

        Raises:
            InputError: the variables contradict each other, or so many processes cannot share out tokens.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if max(size, 1) % together:
            raise InputError(
                f"--context_parallel {together}: expected a multiple of {together} processes (accelerate launch "
                f"--num_processes {together}, or torchrun --nproc_per_node {together}), got {max(size, 1)}"
            )
        if size <= 1:
            return cls()
        rank = int(os.environ.get("RANK", "-1"))
        if not 0 <= rank < size:
            raise InputError(f"WORLD_SIZE is {size}: expected RANK from 0 to {size - 1}, got {os.environ.get('RANK')}")
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        return cls(rank=rank, local_rank=local_rank, size=size, together=together)

    @property
    def leads(self) -> bool:
        """Whether it makes results, and does not only take part in another one's passes."""
        return self.rank % self.together == 0

    def own(self, items: Sequence[_T]) -> list[_T]:
        """Every n-th item, of n processes (or groups of `together`): together they have each item once."""
        return list(items[self.rank // self.together :: self.size // self.together])

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in rank order, once each has come here.

        A launcher stops all processes when one leaves with an error code, so each waits for the others
        before it does.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        if not dist.is_initialized():  # `token_group` may have done so
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

    if shard.together > 1:
        _check_own_devices(options.device, shard)
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


def _check_own_devices(asked: str | None, shard: Shard) -> None:
    """InputError where processes that share a clip's tokens would have one GPU for several."""
    import torch

    if asked not in (None, "cpu"):
        raise InputError(f"--device: expected cpu or nothing (a GPU per process) with --context_parallel, got {asked}")
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", shard.size)), torch.cuda.device_count()
    if asked is None and 0 < gpus < here:
        raise InputError(f"--context_parallel: expected a GPU for each of {here} processes, got {gpus}")


def _token_group(options: ModelOptions, shard: Shard) -> TokenGroup:
    """The processes that share a clip's tokens; all processes meet here."""
    import torch

    from videopainter.models.backbones.leading import TokenGroup

    return TokenGroup.meet(shard.together, torch.device(resolve_precision(options, shard).device), PATIENCE)


@contextmanager
def leading(options: ModelOptions, shard: Shard) -> Iterator[TokenGroup | None]:
    """The processes that `follow` this one inside; None where each has clips of its own."""
    if shard.together == 1:
        yield None
        return
    group = _token_group(options, shard)
    yield group
    group.tell("end")  # not after an error: the launcher ends them with this process


def follow(options: ModelOptions, shard: Shard) -> None:
    """Take part in the passes of the process that leads this one's group, until it is done."""
    from diffusers.utils import logging

    from videopainter.models.backbones.leading import Partner
    from videopainter.pipelines.loading import add_lora, load_pipeline

    logging.disable_progress_bar()
    group = _token_group(options, shard)

    def load(extra_adapters: Sequence[str] = (), **facts: Any) -> Any:
        pipe = load_pipeline(**facts, device=group.device, token_group=group)
        for path in extra_adapters:
            add_lora(pipe, path)
        return pipe

    Partner(group, load).follow()


def _default_device(shard: Shard) -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{shard.local_rank % torch.cuda.device_count()}" if shard.size > 1 else "cuda"


def torch_dtype(name: str) -> torch.dtype:
    """`float32` -> torch.float32."""
    import torch

    return getattr(torch, name)
