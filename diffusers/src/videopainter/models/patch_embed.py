"""Patch embedding of CogVideoX that also works at other sizes than the one it was trained at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import CogVideoXPatchEmbed
from torch import nn


class VideoPainterPatchEmbed(CogVideoXPatchEmbed):
    """Upstream's patch embedding with learned positions that follow the video's size.

    Upstream refuses other sizes than the trained one, and silently falls back to sinusoids when only the number of
    frames differs. Here learned positions are cut (fewer frames) or interpolated (other heights, widths, more frames).
    Weights and state-dict keys are upstream's.
    """

    @classmethod
    def from_config(cls, config, *, in_channels: int, embed_dim: int) -> VideoPainterPatchEmbed:
        """Build from a CogVideoX transformer config; `in_channels` counts what the projection sees."""
        return cls(
            patch_size=config.patch_size,
            patch_size_t=config.patch_size_t,
            in_channels=in_channels,
            embed_dim=embed_dim,
            text_embed_dim=config.text_embed_dim,
            bias=config.patch_bias,
            sample_width=config.sample_width,
            sample_height=config.sample_height,
            sample_frames=config.sample_frames,
            temporal_compression_ratio=config.temporal_compression_ratio,
            max_text_seq_length=config.max_text_seq_length,
            spatial_interpolation_scale=config.spatial_interpolation_scale,
            temporal_interpolation_scale=config.temporal_interpolation_scale,
            use_positional_embeddings=not config.use_rotary_positional_embeddings,
            use_learned_positional_embeddings=config.use_learned_positional_embeddings,
        )

    def forward(self, text_embeds: torch.Tensor, image_embeds: torch.Tensor) -> torch.Tensor:
        """Text (B, S, E) and latents (B, T, C, H, W) to tokens (B, S + L, D), text first.

        L = T/p_t · H/p · W/p, in the order time, row, column.
        """
        text = self.text_proj(text_embeds)
        video = self._patchify(image_embeds)
        if self.use_learned_positional_embeddings:
            text = text + self.pos_embedding[:, : text.shape[1]].to(text)
            video = video + self._learned_positions(image_embeds).to(video)
        elif self.use_positional_embeddings:
            video = video + self._sinusoidal_positions(image_embeds).to(video)
        return torch.cat([text, video], dim=1)

    def _patchify(self, latents: torch.Tensor) -> torch.Tensor:
        batch, frames, channels, height, width = latents.shape
        if self.patch_size_t is None:
            tokens = self.proj(latents.flatten(0, 1))  # (B·T, D, H/p, W/p)
            return tokens.unflatten(0, (batch, frames)).flatten(3).transpose(2, 3).flatten(1, 2)
        p, p_t = self.patch_size, self.patch_size_t
        if frames % p_t:
            raise ValueError(f"CogVideoX 1.5 joins {p_t} latent frames: expected a multiple of {p_t}, got {frames}")
        # Order of features inside a patch: channel, time, row, column.
        tokens = latents.reshape(batch, frames // p_t, p_t, channels, height // p, p, width // p, p)
        tokens = tokens.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
        return self.proj(tokens)

    def _token_grid(self, latents: torch.Tensor) -> tuple[int, int, int]:
        _, frames, _, height, width = latents.shape
        return frames // (self.patch_size_t or 1), height // self.patch_size, width // self.patch_size

    def _learned_positions(self, latents: torch.Tensor) -> torch.Tensor:
        """Positions (1, L, D) for these latents, from the trained ones."""
        frames, height, width = self._token_grid(latents)
        table = self.pos_embedding[:, self.max_text_seq_length :]
        trained_height = self.sample_height // self.patch_size
        trained_width = self.sample_width // self.patch_size
        trained_frames = table.shape[1] // (trained_height * trained_width)
        if (trained_frames, trained_height, trained_width) == (frames, height, width):
            return table
        grid = table.view(trained_frames, trained_height, trained_width, -1)[:frames]
        if grid.shape[:3] != (frames, height, width):
            # (1, D, T, H, W): interpolated in float32, as the table may be stored in bf16.
            grid = grid.permute(3, 0, 1, 2)[None].float()
            grid = F.interpolate(grid, size=(frames, height, width), mode="trilinear", align_corners=False)
            grid = grid[0].permute(1, 2, 3, 0)
        return grid.reshape(1, frames * height * width, -1)

    def _sinusoidal_positions(self, latents: torch.Tensor) -> torch.Tensor:
        _, frames, _, height, width = latents.shape
        video_frames = (frames - 1) * self.temporal_compression_ratio + 1
        table = self._get_positional_embeddings(height, width, video_frames, device=latents.device)
        return table[:, self.max_text_seq_length :]


def replace_patch_embed(model: nn.Module, *, in_channels: int) -> None:
    """Give a freshly built upstream transformer our patch embedding (its weights are not kept)."""
    embed_dim = model.config.num_attention_heads * model.config.attention_head_dim
    model.patch_embed = VideoPainterPatchEmbed.from_config(model.config, in_channels=in_channels, embed_dim=embed_dim)
