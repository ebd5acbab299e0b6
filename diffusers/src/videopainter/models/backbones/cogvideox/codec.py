"""CogVideoX's VAE: pixels to scaled latents, and a stream of latents back to pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from videopainter.models.backbones.cogvideox.decoder import CHUNK, RATIO, CachedDecoder
from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts


class CogVideoXCodec:
    """Pixels (B, 3, F, H, W) in [−1, 1] and latents (B, T, 16, h, w), T = (F−1)/4 + 1, scaled for the backbone.

    Args:
        vae: `AutoencoderKLCogVideoX`.
        device: Where it runs; under offloading that is not where its weights lie. None: there.
    """

    def __init__(self, vae: Any, device: torch.device | str | None = None) -> None:
        self.vae = vae
        self.device: torch.device = vae.device if device is None else torch.device(device)

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.dtype

    @torch.no_grad()
    def encode(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """Latents: the mode of the VAE's posterior, scaled; without gradients."""
        video = video_BCTHW.to(device=self.device, dtype=self.dtype)
        posterior = self.vae.encode(video).latent_dist
        return posterior.mode().permute(0, 2, 1, 3, 4) * self.vae.config.scaling_factor

    def as_image_condition(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the backbone expects its image condition.

        CogVideoX 1.5 was trained with the inverse of the VAE's scale there (`invert_scale_latents`).
        """
        if getattr(self.vae.config, "invert_scale_latents", False):
            return latents / self.vae.config.scaling_factor**2
        return latents

    def tile(self) -> None:
        """Let the VAE work in tiles of 240×360, upstream's for 480×720, whatever the VAE's own size.

        Its overlaps, 1/6 and 1/5, must be whole latents: half of a small VAE's size, upstream's default, gives latents
        of another size (64×96 in tiles of 32×48: 9 rows for 8).
        """
        height, width = CogVideoXFacts.tile
        self.vae.enable_tiling(tile_sample_min_height=height, tile_sample_min_width=width)

    def decode_stream(self, latents: Iterable[torch.Tensor], num_latents: int) -> Iterator[torch.Tensor]:
        """Decode latents to pixels (1, 3, t, H, W) in about [−1, 1], chunk by chunk.

        Chunks are upstream's own (three latent frames, then two), whatever the pieces that come in, so the pixels equal
        `vae.decode` of everything at once. The VAE needs an odd number of latent frames: an even one is completed with
        a copy of the last, and that copy's frames are left out.

        A VAE that tiles takes one tile through several chunks, then the next; the other tiles' caches wait in main
        memory.

        Args:
            latents: Pieces (1, t, 16, h, w), together `num_latents` latent frames.
        """
        surplus = (num_latents + 1) % CHUNK
        chunks = rechunk(_with_copies(latents, surplus), first=1 if num_latents == 1 else CHUNK + 1)
        for video in CachedDecoder(self.vae, self.device).decode(chunks):
            num_latents -= (video.shape[2] + RATIO - 1) // RATIO
            # The padded copy stands at the very end.
            yield video if num_latents >= 0 else video[:, :, : video.shape[2] - RATIO * surplus]


def _with_copies(pieces: Iterable[torch.Tensor], copies: int) -> Iterator[torch.Tensor]:
    piece = None
    for piece in pieces:
        yield piece
    if piece is not None:
        for _ in range(copies):
            yield piece[:, -1:]


def rechunk(pieces: Iterable[torch.Tensor], first: int) -> Iterator[torch.Tensor]:
    """Pieces of any length to one of `first` latent frames, then `CHUNK` each."""
    wanted, buffer = first, None
    for piece in pieces:
        buffer = piece if buffer is None else torch.cat([buffer, piece.to(buffer)], dim=1)
        while buffer.shape[1] >= wanted:
            yield buffer[:, :wanted]
            buffer, wanted = buffer[:, wanted:], CHUNK
    assert buffer is None or buffer.shape[1] == 0, "latent frames left over"
