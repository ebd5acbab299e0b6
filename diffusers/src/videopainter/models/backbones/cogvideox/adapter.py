"""CogVideoX as loss and sampler see it: positions, image condition, and one pass of branch and backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from transformers import T5EncoderModel

from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts
from videopainter.models.backbones.cogvideox.process import CogVideoXProcess
from videopainter.models.backbones.grid import LatentGrid
from videopainter.models.backbones.protocol import Classes, Codec, EncodedImage
from videopainter.models.context_branch import CogvideoXBranchModel
from videopainter.models.id_resample import IDResample
from videopainter.models.transformer import VideoPainterTransformer3DModel

Rotary = tuple[torch.Tensor, torch.Tensor]  # cos, sin (L, attention_head_dim)

BASE_GRID = (45, 30)  # tokens across and down of 720×480 pixels
OFS = 2.0  # the only value of 1.5's second time embedding


class CogVideoX:
    """The adapter. Args: `config` of the transformer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.facts = CogVideoXFacts(config)
        self.grid: LatentGrid = self.facts.grid

    @property
    def classes(self) -> Classes:
        return Classes(
            VideoPainterTransformer3DModel, CogvideoXBranchModel, diffusers.AutoencoderKLCogVideoX, T5EncoderModel
        )

    def process(self, scheduler: Any) -> CogVideoXProcess:
        return CogVideoXProcess(scheduler)

    def sampling_scheduler(self, scheduler: Any) -> Any:
        cls: Any = getattr(diffusers, self.facts.schedulers["dpm"])
        return cls.from_config(scheduler.config)

    def embed_text(
        self, tokenizer: Any, text_encoder: Any, text: str, max_length: int, device: torch.device
    ) -> torch.Tensor:
        """Embeddings (1, S, E) of a prompt; its padding is not masked, as in CogVideoX's `encode_prompt`."""
        tokens = tokenizer(text, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt")
        return text_encoder(tokens.input_ids.to(device))[0]

    def positions(self, latents: torch.Tensor) -> Rotary | None:
        """Rotary tables for latents (B, T, 16, h, w); None for backbones with learned or sinusoidal positions."""
        return rotary_tables(self.facts, *latents.shape[-2:], latents.shape[1], latents.device)

    def encode_image(
        self,
        codec: Codec,
        image_encoder: Callable[[torch.Tensor], torch.Tensor] | None,
        frame_BCTHW: torch.Tensor,
        num_frames: int,
    ) -> EncodedImage:
        """The frame's latent (B, 1, 16, h, w)."""
        return EncodedImage(codec.as_image_condition(codec.encode(frame_BCTHW)))

    def image_condition(self, first_latent: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
        """The first latent in front, zeros behind; without one zeros alone."""
        if not self.facts.image_conditioned:
            return None
        condition = torch.zeros_like(like)
        if first_latent is not None:
            condition[:, : first_latent.shape[1]] = first_latent.to(like)
        return condition

    def known(self, image_latents: torch.Tensor | None) -> None:
        """None: the condition lies beside the latents."""
        return

    def with_known(self, latents: torch.Tensor, image_latents: torch.Tensor | None) -> torch.Tensor:
        """Latents, as they are."""
        return latents

    def predict(
        self,
        transformer: Any,
        branch: Any,
        noisy: torch.Tensor,  # (B, T, 16, h, w)
        image_latents: torch.Tensor | None,  # (B, T, 16, h, w)
        branch_cond: torch.Tensor,  # (B, T, 17, h, w)
        prompt_embeds: torch.Tensor,  # (B, S, E)
        timestep: torch.Tensor,  # (B,)
        positions: Rotary | None,
        *,
        background: torch.Tensor | None,  # bool (B, L)
        image_embeds: torch.Tensor | None = None,
        add_first: bool = False,
        id_resample: IDResample | None = None,
        conditioning_scale: float = 1.0,
    ) -> torch.Tensor:  # (B, T, 16, h, w)
        """One pass of context encoder (None: without) and backbone."""
        ofs = noisy.new_full((1,), OFS) if transformer.config.ofs_embed_dim else None
        common = {"timestep": timestep, "image_rotary_emb": positions, "ofs": ofs}
        features = None
        if branch is not None:
            features = branch(noisy, prompt_embeds, branch_cond, conditioning_scale=conditioning_scale, **common)
        return transformer(
            noisy if image_latents is None else torch.cat([noisy, image_latents], dim=2),
            prompt_embeds,
            branch_features=features,
            background_mask=background,
            add_first=add_first,
            id_resample=id_resample,
            return_dict=False,
            **common,
        )[0]


def rotary_tables(
    facts: CogVideoXFacts,
    latent_height: int,
    latent_width: int,
    latent_frames: int,
    device: torch.device | str | None = None,
) -> Rotary | None:
    """Rotary tables for latents of this size; None for backbones without them.

    CogVideoX 1.0 stretches the token grid of 480×720 pixels over the frame, whatever the backbone's own size, as the
    public release does (for all published 1.0 weights that is the backbone's size); 1.5 counts on. Upstream 0.42 stops
    at `stop·(n−1)/n`, which is the release's `stop − (stop−start)/n` only for crops that start at 0.
    """
    if not facts.config["use_rotary_positional_embeddings"]:
        return None
    frames, rows, columns = facts.grid.token_grid(latent_frames, latent_height, latent_width)
    (top, left), (bottom, right) = (0, 0), (rows, columns)
    if not facts.is_1_5:
        (top, left), (bottom, right) = get_resize_crop_region_for_grid((rows, columns), *BASE_GRID)
    head = facts.config["attention_head_dim"]
    parts = [
        (head // 4, _positions(0, frames, frames, device)[:, None, None]),
        (head // 8 * 3, _positions(top, bottom, rows, device)[None, :, None]),
        (head // 8 * 3, _positions(left, right, columns, device)[None, None, :]),
    ]
    tables = [get_1d_rotary_pos_embed(width, at.flatten(), use_real=True) for width, at in parts]
    cos, sin = (
        torch.cat(
            [part[i].view(*at.shape, -1).expand(frames, rows, columns, -1) for part, (_, at) in zip(tables, parts)],
            dim=-1,
        ).flatten(0, 2)
        for i in (0, 1)
    )
    return cos, sin


def _positions(start: int, stop: int, count: int, device: torch.device | str | None) -> torch.Tensor:
    """`np.linspace(start, stop, count, endpoint=False, dtype=np.float32)`, made on the device."""
    steps = torch.arange(count, dtype=torch.float64, device=device)
    return (steps * ((stop - start) / count) + start).float()
