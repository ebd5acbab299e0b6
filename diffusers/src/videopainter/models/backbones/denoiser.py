"""Backbone and context encoder as one function of noisy latents: loss and sampler call this object and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch

from videopainter.models.backbones.noise import pad_front
from videopainter.models.backbones.registry import backbone_of, check_form
from videopainter.models.id_resample import ClipMemory, HoleTokens, IDResample, token_mask
from videopainter.models.token_share import TokenShare

# A step's pass holds both halves of a guided batch.
CACHE_CONTEXT = "cond_uncond"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a clip is denoised with, beside its prompt; latents (B, T, C, h, w)."""

    masked_latents: torch.Tensor  # of the video whose hole is filled
    mask: torch.Tensor  # (B, T, 1, h, w), 1 = hole; nearest neighbour, what branch and backbone were trained with
    image_latents: torch.Tensor | None = None  # see `Backbone.image_condition`; None: T2V backbones
    image_embeds: torch.Tensor | None = None  # (B, N, E) of an image encoder; None: backbones without

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """The same with all tensors changed."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(x) for name, x in tensors.items() if x is not None})

    def pad_front(self, count: int) -> Self:
        """The same with `count` copies of the first latent in front."""
        return replace(self.map(lambda x: pad_front(x, count)), image_embeds=self.image_embeds)


@dataclass(frozen=True)
class Prepared:
    """What no step changes, made once for a clip."""

    added: int  # latents in front that fill the first patches
    branch_cond: torch.Tensor  # (B, T, C + 1, h, w)
    image_latents: torch.Tensor | None  # (B, T, ·, h, w)
    image_embeds: torch.Tensor | None  # (B, N, E)
    positions: Any  # the family's tables
    background: torch.Tensor | None  # bool (B, L): where branch features are added; None: everywhere
    hole: HoleTokens | None  # in this process's part of the tokens; None: no ID resampling
    num_tokens: int  # L


class Denoiser:
    """A backbone with its context encoder, as they are run.

    Where several processes share the tokens (`token_share`) all of them make the same calls, and get the same.

    Args:
        transformer: Of a family that the registry knows.
        branch: Context encoder; None: the bare backbone.
        mask_add: Add branch features to background tokens only (the paper's "select").
        add_first: Add them after the first blocks only.
        form: Of ID resampling, ``exact`` or ``compact``; None: off.
        conditioning_scale: Factor on every branch feature.
    """

    def __init__(
        self,
        transformer: Any,
        branch: Any,
        *,
        mask_add: bool = True,
        add_first: bool = False,
        form: str | None = None,
        conditioning_scale: float = 1.0,
    ) -> None:
        self.backbone = backbone_of(transformer)
        check_form(self.backbone.facts, form)
        self.transformer, self.branch = transformer, branch
        self.mask_add, self.add_first, self.form = mask_add, add_first, form
        self.conditioning_scale = conditioning_scale
        self.share = TokenShare.of(transformer)

    def prepare(self, conditions: Conditions, *, count_hole: bool = True) -> Prepared:
        """Everything about a clip that is the same at every step.

        Args:
            count_hole: Let the host wait for the device to count the hole's tokens. Without it the exact form of ID
                resampling makes room for all; the compact one counts anyway, as it saves more than that costs.
        """
        grid = self.backbone.grid
        added = grid.missing(conditions.mask.shape[1])
        conditions = conditions.pad_front(added)
        in_hole = token_mask(conditions.mask, grid.patch, grid.patch_t)
        hole = None
        if self.form is not None:
            room = in_hole.shape[1] if self.form == "exact" and not count_hole else None
            hole = HoleTokens.from_mask(in_hole, room) if self.share is None else self.share.own_hole(in_hole)
        return Prepared(
            added,
            torch.cat([conditions.masked_latents, conditions.mask], dim=2),
            conditions.image_latents,
            conditions.image_embeds,
            self.backbone.positions(conditions.masked_latents),
            ~in_hole if self.mask_add else None,
            hole,
            in_hole.shape[1],
        )

    def take_over(self, memory: ClipMemory, clip: Prepared) -> ClipMemory:
        """What the previous clip handed on, as the steps of `clip` take it: on its device, in its type. Once for all
        steps: gigabytes at full size, and a store keeps them in main memory."""
        device, dtype = clip.branch_cond.device, clip.branch_cond.dtype
        if self.share is None:
            return memory.to(device, dtype)
        hidden = (x.to(device, dtype) for x in memory.hidden)
        return self.share.own_memory(memory.hole.to(device), hidden, clip.num_tokens)

    def __call__(
        self,
        noisy: torch.Tensor,  # (B, T, C, h, w)
        clip: Prepared,
        prompt_embeds: torch.Tensor,  # (B, S, E)
        timestep: torch.Tensor,  # (B,)
        *,
        previous: ClipMemory | None = None,
        prev_clip_weight: float = 0.0,
        remember: bool = False,
    ) -> tuple[torch.Tensor, ClipMemory | None]:
        """The model's output (B, T, C, h, w), and with `remember` what the clip hands to the next one. `previous` as
        `take_over` gives it."""
        resample = None
        if clip.hole is not None and self.form is not None:
            resample = IDResample(
                clip.hole, self.form, previous=previous, prev_clip_weight=prev_clip_weight, remember=remember
            )
        output = self.backbone.predict(
            self.transformer,
            self.branch,
            pad_front(noisy, clip.added),
            clip.image_latents,
            clip.branch_cond,
            prompt_embeds,
            timestep,
            clip.positions,
            background=clip.background,
            image_embeds=clip.image_embeds,
            add_first=self.add_first,
            id_resample=resample,
            conditioning_scale=self.conditioning_scale,
        )
        memory = resample.finished_memory() if remember and resample is not None else None
        if memory is not None and self.share is not None:
            memory = self.share.whole_memory(memory, clip.num_tokens)
        return output[:, clip.added :], memory
