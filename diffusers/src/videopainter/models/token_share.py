"""Context parallelism: processes compute on parts of one video's tokens, and meet in attention.

Attention is diffusers' own (Ulysses): its dispatcher exchanges tokens for heads and back. Models split their tokens and
put them together in their forwards, so `_cp_plan` is empty: hooks of a plan would lie on the first block, where step
caches have theirs, and on the output projection, which a LoRA may wrap; they refuse texts shorter than the
processes are many, and gloo cannot gather parts of different lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import ContextParallelConfig, ParallelConfig
from diffusers.models._modeling_parallel import gather_size_by_comm

from videopainter.models.id_resample import ClipMemory, HoleTokens


@dataclass(frozen=True)
class TokenShare:
    """This process's part of the tokens of every sample. As `torch.tensor_split`: the first parts may be one longer.

    Args:
        config: What attention reads (`ContextParallelConfig`).
        group: The processes that share the tokens; `rank` of `size` in it.
    """

    config: Any
    group: Any
    rank: int
    size: int

    @classmethod
    def of(cls, model: Any) -> TokenShare | None:
        """The share of a model for which `share_tokens`, or upstream's `enable_parallelism`, was called; else None."""
        parallel = getattr(model, "_parallel_config", None)
        config = None if parallel is None else parallel.context_parallel_config
        if config is None:
            return None
        group = config._flattened_mesh.get_group()
        return cls(config, group, dist.get_rank(group), dist.get_world_size(group))

    def lengths(self, length: int) -> list[int]:
        """How many of `length` tokens each process has."""
        return [length // self.size + (rank < length % self.size) for rank in range(self.size)]

    def start(self, length: int) -> int:
        """Where this process's part of `length` tokens begins."""
        return sum(self.lengths(length)[: self.rank])

    def part(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """This process's part of a tensor that all have; a view."""
        return x.tensor_split(self.size, dim)[self.rank]

    def split(self, *tokens: torch.Tensor, uneven: bool = False) -> list[torch.Tensor]:
        """This process's part of what goes into attention, each (B, L, ...). Attention is told whether all processes
        bring as many: else they tell each other at every exchange. `uneven`: more tokens will come, of other numbers.
        """
        uneven = uneven or any(x.shape[1] % self.size for x in tokens)
        self.config.ulysses_anything = uneven and self.config.ring_degree == 1
        return [self.part(x) for x in tokens]

    def whole(self, x: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """(B, L, ...) of the parts (B, lengths[rank], ...) of all processes."""
        longest = max(lengths)
        if longest == 0:
            return x
        # As many everywhere: gloo asks for it.
        padded = F.pad(x, [0, 0] * (x.ndim - 2) + [0, longest - x.shape[1]]).contiguous()
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:, :length] for part, length in zip(parts, lengths, strict=True)], dim=1)

    def own_hole(self, in_hole: torch.Tensor) -> HoleTokens:
        """The hole's tokens in this process's part, from the mask of all (B, L).

        Raises:
            ValueError: where samples have other holes. They would need a mask of padding, and upstream's exchange of
                masks (0.42) mixes up those of different lengths.
        """
        if not bool((in_hole == in_hole[:1]).all()):
            raise ValueError("context parallelism: expected one hole for all samples of a batch, got several")
        return HoleTokens.from_mask(self.part(in_hole))

    def own_memory(self, hole: HoleTokens, hidden: Iterable[torch.Tensor], length: int) -> ClipMemory:
        """Of what a clip of `length` tokens handed on, the tokens that lie in this process's part; places count from
        there."""
        assert hole.valid is None  # as `own_hole`
        start = self.start(length)
        inside = (hole.index >= start) & (hole.index < start + self.lengths(length)[self.rank])
        places = HoleTokens.from_mask(inside)
        return ClipMemory(HoleTokens(places.gather(hole.index) - start, None), [places.gather(x) for x in hidden])

    def whole_memory(self, memory: ClipMemory, length: int) -> ClipMemory:
        """What the parts of a clip of `length` tokens hand on together, in main memory: gigabytes, block by block."""
        counts = gather_size_by_comm(memory.hole.index.shape[1], self.group)
        index = self.whole(memory.hole.index + self.start(length), counts)
        return ClipMemory(HoleTokens(index.cpu(), None), [self.whole(x, counts).cpu() for x in memory.hidden])


def share_tokens(models: Iterable[Any], mesh: Any) -> None:
    """Let models compute on this process's part of the tokens from now on.

    Args:
        mesh: Of dimensions ``ring`` (1) and ``ulysses``, and any before them.
    """
    config = ContextParallelConfig(ulysses_degree=mesh["ulysses"].size())
    parallel = ParallelConfig(context_parallel_config=config)
    parallel.setup(dist.get_rank(), dist.get_world_size(), torch.device(mesh.device_type), mesh=mesh)
    for model in models:
        model._parallel_config = parallel
        for module in model.modules():
            processor: Any = getattr(module, "processor", None)
            if hasattr(processor, "_parallel_config"):
                processor._parallel_config = parallel
