"""ID resampling: what a clip remembers of the object in its hole, and what it hands to the next clip.

Every backbone block attends to a second set of keys and values, made from the tokens inside the hole: the clip's own
ones, or those of the previous clip of a long video. Two forms:

- ``exact``, the public release's: the second set has the full length, with zero keys and values outside the hole, and
  the zero keys take part in the softmax. It doubles the cost of attention.
- ``compact``: the second set holds the hole's tokens alone. It costs what the hole is large.

An adapter must run in the form that it was trained with; the form is stored with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb

from videopainter.models.checkpoint_files import FORMS


def token_mask(latent_mask: torch.Tensor, patch_size: int, patch_size_t: int | None = None) -> torch.Tensor:
    """Which video tokens lie in the hole: any latent pixel of the patch > 0.

    Args:
        latent_mask: (B, T, 1, H, W), hole > 0.

    Returns:
        Boolean (B, L), L = T/p_t · H/p · W/p.
    """
    kernel = (patch_size_t or 1, patch_size, patch_size)
    pooled = F.max_pool3d((latent_mask[:, :, 0] > 0).float()[:, None], kernel, stride=kernel)
    return pooled.flatten(1) > 0


@dataclass(frozen=True)
class HoleTokens:
    """Positions of the hole among the L video tokens of each sample.

    Samples with fewer hole tokens than the largest are padded; `valid` tells padding from tokens.
    """

    index: torch.Tensor  # (B, N) int64, positions in 0..L-1
    valid: torch.Tensor | None  # (B, N) bool; None where no sample is padded

    @classmethod
    def from_mask(cls, token_mask: torch.Tensor, longest: int | None = None) -> HoleTokens:
        """From a boolean token mask (B, L), True = hole.

        Args:
            longest: Room for so many tokens of each sample, at least as many as there are: the host then need not wait
                for the device to count them. None: as many as the largest hole has.
        """
        counts = token_mask.sum(dim=1)
        waits = longest is None
        longest = int(counts.max()) if longest is None else longest
        # A stable sort brings hole tokens to the front and keeps their order.
        index = torch.argsort((~token_mask).to(torch.uint8), dim=1, stable=True)[:, :longest]
        if waits and bool((counts == longest).all()):
            return cls(index, None)
        valid = torch.arange(longest, device=token_mask.device)[None] < counts[:, None]
        return cls(index, valid)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; offloading hooks call this on what a block is given."""
        tensors = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, torch.Tensor)}
        return replace(self, **tensors)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Hole entries (B, N, ...) of (B, L, ...); padding is zero."""
        out = torch.take_along_dim(x, self._expand(self.index, x), dim=1)
        return out if self.valid is None else out * self._expand(self.valid, out).to(out.dtype)

    def scatter(self, x: torch.Tensor, length: int, *, offset: int = 0) -> torch.Tensor:
        """Put (B, N, ...) at `index + offset` of zeros (B, length, ...)."""
        if self.valid is not None:
            x = x * self._expand(self.valid, x).to(x.dtype)
        out = x.new_zeros(x.shape[0], length, *x.shape[2:])
        index = self._expand(self.index + offset, x).expand_as(x)
        return out.scatter_add(1, index, x)  # padding adds zeros

    @staticmethod
    def _expand(index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return index.reshape(*index.shape, *([1] * (like.ndim - 2)))


@dataclass(frozen=True)
class ResampleTokens(HoleTokens):
    """What one block's attention needs for the second set."""

    form: str
    tokens: torch.Tensor | None = None  # (B, N, D) tokens of the previous clip; None: the clip's own
    weight: float = 1.0  # on the previous clip's projected keys and values

    def normalised(self, norm1: torch.nn.Module, temb: torch.Tensor) -> ResampleTokens:
        """The previous clip's tokens pass the current block's first norm, with the current time embedding."""
        if self.tokens is None:
            return self
        tokens = self.tokens.to(temb)
        normed, *_ = norm1(tokens, tokens[:, :0], temb)
        return ResampleTokens(self.index, self.valid, self.form, normed, self.weight)

    def attention_mask(self, length: int) -> torch.Tensor | None:
        """Boolean mask (B, 1, 1, length + N) that hides padding; None where there is none to hide."""
        if self.form == "exact" or self.valid is None:
            return None
        own = self.valid.new_ones(self.valid.shape[0], length)
        return torch.cat([own, self.valid], dim=1)[:, None, None]

    def rotate(self, key: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Rotary positions on hole keys (B, N, heads, head_dim), each at its own place."""
        if key.shape[1] == 0:  # a part of a video whose hole lies elsewhere; upstream reshapes no empty tensor
            return key
        cos, sin = (table.to(key.device) for table in rotary)
        rotated = [
            apply_rotary_emb(key[b : b + 1], (cos[index], sin[index]), sequence_dim=1)
            for b, index in enumerate(self.index)
        ]
        return torch.cat(rotated)


@dataclass(frozen=True)
class ClipMemory:
    """What a clip hands to the next: the outputs of every block at the hole's tokens, at its last denoising step.

    With `used_once` a block's outputs are let go when they are taken, so that what the next clip gets needs no room
    beside them: gigabytes.
    """

    hole: HoleTokens
    hidden: list[torch.Tensor]  # per block (B, N, D)
    used_once: bool = False

    def take(self, block_index: int) -> torch.Tensor:
        """What block `block_index` handed on."""
        hidden = self.hidden[block_index]
        if self.used_once:
            self.hidden[block_index] = hidden[:0].clone()
        return hidden

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ClipMemory:
        """The memory on another device, its tokens in `dtype`; what is there already is not copied."""
        return ClipMemory(self.hole.to(device), [hidden.to(device, dtype) for hidden in self.hidden])


@dataclass
class IDResample:
    """ID resampling of one forward pass.

    Args:
        hole: The current clip's hole tokens.
        form: ``exact`` or ``compact``.
        previous: Memory of the previous clip; used instead of the clip's own tokens when `prev_clip_weight` > 0.
        prev_clip_weight: Factor on the previous clip's keys and values (the keys before their norm).
        remember: Fill `memory` with this pass's block outputs at the hole (set at the last step, if a clip follows).
    """

    hole: HoleTokens
    form: str = "exact"
    previous: ClipMemory | None = None
    prev_clip_weight: float = 0.0
    remember: bool = False
    memory: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"ID resampling: expected a form out of {', '.join(FORMS)}, got {self.form!r}")

    def for_block(self, block_index: int) -> ResampleTokens:
        """The second set of block `block_index`, before the block's own first norm."""
        if self.previous is None or self.prev_clip_weight <= 0:
            return ResampleTokens(self.hole.index, self.hole.valid, self.form)
        hole, hidden = self.previous.hole, self.previous.take(block_index)
        return ResampleTokens(hole.index, hole.valid, self.form, hidden, self.prev_clip_weight)

    def keep(self, hidden_states: torch.Tensor) -> None:
        """Called after every block with its video tokens (B, L, D)."""
        if self.remember:
            self.memory.append(self.hole.gather(hidden_states.detach()))

    def finished_memory(self) -> ClipMemory:
        """The memory of a pass that ran with `remember`."""
        assert self.remember and self.memory
        return ClipMemory(self.hole, self.memory)
