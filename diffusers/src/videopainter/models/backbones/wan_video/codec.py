"""Wan's VAE: pixels to normalised latents, and a stream of latents back to pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from videopainter.models.backbones.wan_video.decoder import StreamedDecoder
from videopainter.models.backbones.wan_video.facts import WanFacts


class WanCodec:
    """Pixels (B, 3, F, H, W) in [−1, 1] and latents (B, T, C, h, w), T = (F−1)/4 + 1, each channel normalised.

    Args:
        vae: `AutoencoderKLWan`.
        device: Where it runs; under offloading that is not where its weights lie. None: there.
    """

    def __init__(self, vae: Any, device: torch.device | str | None = None) -> None:
        self.vae = vae
        self.device: torch.device = vae.device if device is None else torch.device(device)
        # Of each channel (C, 1, 1), in float32.
        self._mean = torch.tensor(vae.config.latents_mean)[:, None, None].to(self.device)
        self._std = torch.tensor(vae.config.latents_std)[:, None, None].to(self.device)

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.dtype

    @torch.no_grad()
    def encode(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """Latents: the mode of the VAE's posterior, normalised; without gradients."""
        video = video_BCTHW.to(device=self.device, dtype=self.dtype)
        mode = self.vae.encode(video).latent_dist.mode().permute(0, 2, 1, 3, 4)
        return ((mode.float() - self._mean) / self._std).to(mode)

    def as_image_condition(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents, as they are: text-to-video backbones have no such condition."""
        return latents

    def tile(self) -> None:
        """Let the VAE work in tiles of 256×256, upstream's."""
        height, width = WanFacts.tile
        self.vae.enable_tiling(tile_sample_min_height=height, tile_sample_min_width=width)

    def decode_stream(self, latents: Iterable[torch.Tensor], num_latents: int) -> Iterator[torch.Tensor]:
        """Decode latents to pixels (1, 3, t, H, W) in [−1, 1], a latent at a time, as `vae.decode` does.

        Args:
            latents: Pieces (1, t, C, h, w), together `num_latents` latent frames.
        """
        singles = (latent for piece in latents for latent in piece.split(1, dim=1))
        yield from StreamedDecoder(self.vae, self.device).decode(map(self._as_the_vae_has_them, singles))

    def _as_the_vae_has_them(self, latents_BTCHW: torch.Tensor) -> torch.Tensor:
        """(1, 1, C, h, w) to what the decoder takes, (1, C, 1, h, w)."""
        latents = latents_BTCHW.to(device=self.device, dtype=self.vae.dtype)
        return (latents.float() * self._std + self._mean).to(latents).permute(0, 2, 1, 3, 4)
