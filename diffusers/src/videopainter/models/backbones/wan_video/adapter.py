"""Wan as loss and sampler see it: prompts, and one pass of branch and backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from transformers import AutoModelForTextEncoding

from videopainter.models.backbones.grid import LatentGrid
from videopainter.models.backbones.protocol import Classes, Codec, EncodedImage
from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.backbones.wan_video.facts import WanFacts
from videopainter.models.backbones.wan_video.process import WanProcess
from videopainter.models.backbones.wan_video.transformer import VideoPainterWanTransformer3DModel
from videopainter.models.id_resample import IDResample

_Rotary = tuple[torch.Tensor, torch.Tensor]  # cos, sin (1, L, 1, attention_head_dim)


class Wan:
    """The adapter. Args: `config` of the transformer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.facts = WanFacts(config)
        self.grid: LatentGrid = self.facts.grid

    @property
    def classes(self) -> Classes:
        return Classes(
            VideoPainterWanTransformer3DModel, WanBranchModel, diffusers.AutoencoderKLWan, AutoModelForTextEncoding
        )

    def process(self, scheduler: Any) -> WanProcess:
        return WanProcess(scheduler)

    def sampling_scheduler(self, scheduler: Any) -> Any:
        return type(scheduler).from_config(scheduler.config)

    def embed_text(
        self, tokenizer: Any, text_encoder: Any, text: str, max_length: int, device: torch.device
    ) -> torch.Tensor:
        """Embeddings (1, S, E) of a prompt, zero behind its end: padding is masked, then written over."""
        tokens = tokenizer(
            prompt_clean(text), padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
        )
        mask = tokens.attention_mask.to(device)
        embeds = text_encoder(tokens.input_ids.to(device), attention_mask=mask)[0]
        return torch.where(mask[..., None] > 0, embeds, embeds.new_zeros(()))

    def positions(self, latents: torch.Tensor) -> _Rotary:
        """Rotary tables for latents (B, T, C, h, w)."""
        head = self.facts.config["attention_head_dim"]
        grid = self.grid.token_grid(latents.shape[1], *latents.shape[-2:])
        side = 2 * (head // 6)
        tables = [
            get_1d_rotary_pos_embed(
                width,
                torch.arange(count, device=latents.device),
                use_real=True,
                repeat_interleave_real=True,
                freqs_dtype=torch.float64,
            )
            for width, count in zip((head - 2 * side, side, side), grid, strict=True)
        ]
        cos, sin = (_on_the_grid([table[part] for table in tables], grid) for part in (0, 1))
        return cos, sin

    def encode_image(
        self,
        codec: Codec,
        image_encoder: Callable[[torch.Tensor], torch.Tensor] | None,
        frame_BCTHW: torch.Tensor,
        num_frames: int,
    ) -> EncodedImage:
        """As `WanImageToVideoPipeline` has it: latents (B, T, C, h, w) of the frame and of grey ones behind it; or
        (B, 1, C, h, w) of it alone, where that is the clip's first latent."""
        if self.facts.times_of_tokens:
            return EncodedImage(codec.encode(frame_BCTHW))
        grey = frame_BCTHW.new_zeros(1).expand(*frame_BCTHW.shape[:2], num_frames - 1, *frame_BCTHW.shape[3:])
        latents = codec.encode(torch.cat([frame_BCTHW, grey], dim=2))
        return EncodedImage(latents, image_encoder(frame_BCTHW) if self.facts.sees_images else None)

    def image_condition(self, first_latent: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
        """Mask of the four frames of each latent, 1 = given, and the image's latents (B, T, 4 + C, h, w).

        Where they are the first of the clip's: mask and latents (B, T, 1 + C, h, w); None of no image.
        """
        if not self.facts.image_conditioned:
            return None
        if self.facts.times_of_tokens:
            return None if first_latent is None else _first_of(first_latent, like)
        given, frames = like.new_zeros(*like.shape[:2], self.grid.temporal, *like.shape[3:]), like.shape[1]
        if first_latent is None:
            return torch.cat([given, torch.zeros_like(like)], dim=2)
        given[:, 0] = 1
        return torch.cat([given, first_latent[:, :frames].to(like)], dim=2)

    def known(self, image_latents: torch.Tensor | None) -> torch.Tensor | None:
        """(B, T, 1, h, w), 1 = given; None where the condition lies beside the latents, or is none."""
        return image_latents[:, :, :1] if image_latents is not None and self.facts.times_of_tokens else None

    def with_known(self, latents: torch.Tensor, image_latents: torch.Tensor | None) -> torch.Tensor:
        """Latents (B, T, C, h, w) with those of the image in their place."""
        if image_latents is None or not self.facts.times_of_tokens:
            return latents
        return torch.where(image_latents[:, :, :1] > 0, image_latents[:, :, 1:].to(latents), latents)

    def predict(
        self,
        transformer: Any,
        branch: Any,
        noisy: torch.Tensor,  # (B, T, C, h, w)
        image_latents: torch.Tensor | None,  # (B, T, ·, h, w), see `image_condition`
        branch_cond: torch.Tensor,  # (B, T, C + 1, h, w)
        prompt_embeds: torch.Tensor,  # (B, S, E)
        timestep: torch.Tensor,  # (B,)
        positions: _Rotary,
        *,
        background: torch.Tensor | None,  # bool (B, L)
        image_embeds: torch.Tensor | None = None,  # (B, N, image_dim)
        add_first: bool = False,
        id_resample: IDResample | None = None,
        conditioning_scale: float = 1.0,
    ) -> torch.Tensor:  # (B, T, C, h, w)
        """One pass of context encoder (None: without) and backbone."""
        beside, known = [], self.known(image_latents)
        if known is not None:
            noisy, timestep = self.with_known(noisy, image_latents), self._times(timestep, known)
        elif image_latents is not None:
            beside = [image_latents.transpose(1, 2)]
        latents, features = noisy.transpose(1, 2), None
        if self.facts.sees_images and image_embeds is None:
            image_embeds = noisy.new_zeros(noisy.shape[0], 1, self.facts.config["image_dim"])
        if branch is not None:
            features = branch(
                latents,
                prompt_embeds,
                branch_cond.transpose(1, 2),
                timestep,
                positions,
                conditioning_scale=conditioning_scale,
            )
        output = transformer(
            torch.cat([latents, *beside], dim=1) if beside else latents,
            timestep,
            prompt_embeds,
            image_embeds,
            rotary_emb=positions,
            branch_features=features,
            background_mask=background,
            add_first=add_first,
            id_resample=id_resample,
            return_dict=False,
        )[0]
        return output.transpose(1, 2)

    def _times(self, timestep: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """A timestep of every token (B, L): 0 where latents (B, T, 1, h, w) are known."""
        patch = self.grid.patch
        tokens = known[:, :, 0, ::patch, ::patch].float().flatten(1)
        return timestep[:, None] * (1 - tokens)


def _first_of(first_latent: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Mask and latents (B, T, 1 + C, h, w) of an image that is the first latent."""
    condition = like.new_zeros(*like.shape[:2], like.shape[2] + 1, *like.shape[3:])
    condition[:, 0, 0] = 1
    condition[:, 0, 1:] = first_latent[:, 0].to(like)
    return condition


def _on_the_grid(tables: list[torch.Tensor], grid: tuple[int, int, int]) -> torch.Tensor:
    """Tables of time, rows and columns (count, width each) to one of all tokens (1, L, 1, width)."""
    parts = []
    for axis, table in enumerate(tables):
        shape = [1, 1, 1, table.shape[1]]
        shape[axis] = grid[axis]
        parts.append(table.view(shape).expand(*grid, -1))
    return torch.cat(parts, dim=-1).flatten(0, 2)[None, :, None]
