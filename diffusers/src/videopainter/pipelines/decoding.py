"""Decoding latents as a stream: the VAE's temporal cache is carried on, so that the result equals one whole decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from diffusers.utils.accelerate_utils import apply_forward_hook

from videopainter.pipelines.conditioning import to_uint8_frames
from videopainter.pipelines.settings import TEMPORAL_COMPRESSION

CHUNK = 2  # latent frames per step, as upstream's `num_latent_frames_batch_size`


def decode_stream(
    vae: Any, latents: Iterable[torch.Tensor], num_latents: int, device: torch.device | None = None
) -> Iterator[np.ndarray]:
    """Decode scaled latents into uint8 frames (t, H, W, 3), chunk by chunk.

    Chunks are upstream's own (three latent frames, then two), whatever the pieces that come in, so the frames equal
    `vae.decode` of everything at once. The VAE needs an odd number of latent frames: an even one is completed with a
    copy
    of the last, and that copy's frames are left out.

    Args:
        latents: Pieces (1, t, 16, h, w), together `num_latents` latent frames.
    """
    decoder = _CachedDecoder(vae, device or vae.device)
    surplus = (num_latents + 1) % CHUNK
    for chunk in _rechunk(_with_copies(latents, surplus), first=1 if num_latents == 1 else CHUNK + 1):
        num_latents -= chunk.shape[1]
        video = decoder(chunk)
        frames = to_uint8_frames(video)
        # The padded copy stands at the very end.
        yield frames if num_latents >= 0 else frames[: len(frames) - TEMPORAL_COMPRESSION * surplus]


def _with_copies(pieces: Iterable[torch.Tensor], copies: int) -> Iterator[torch.Tensor]:
    piece = None
    for piece in pieces:
        yield piece
    if piece is not None:
        for _ in range(copies):
            yield piece[:, -1:]


def _rechunk(pieces: Iterable[torch.Tensor], first: int) -> Iterator[torch.Tensor]:
    """Pieces of any length to one of `first` latent frames, then `CHUNK` each."""
    wanted, buffer = first, None
    for piece in pieces:
        buffer = piece if buffer is None else torch.cat([buffer, piece.to(buffer)], dim=1)
        while buffer.shape[1] >= wanted:
            yield buffer[:, :wanted]
            buffer, wanted = buffer[:, wanted:], CHUNK
    assert buffer is None or buffer.shape[1] == 0, "latent frames left over"


class _CachedDecoder:
    """Decodes consecutive chunks; keeps the causal convolutions' cache of the whole frame, or of every tile."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae, self.device = vae, device
        self.caches: dict[tuple[int, int], Any] = {}

    @torch.no_grad()
    def __call__(self, latents_BTCHW: torch.Tensor) -> torch.Tensor:
        """(1, t, 16, h, w) to pixels (1, 3, T, H, W) in about [−1, 1]."""
        vae = self.vae
        latents = latents_BTCHW.to(device=self.device, dtype=vae.dtype).permute(0, 2, 1, 3, 4)
        latents = latents / vae.config.scaling_factor
        height, width = latents.shape[-2:]
        if vae.use_tiling and (width > vae.tile_latent_min_width or height > vae.tile_latent_min_height):
            return self._tiled(latents)
        return self._decode(latents, (0, 0))

    def _decode(self, latents: torch.Tensor, tile: tuple[int, int]) -> torch.Tensor:
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        video, self.caches[tile] = _run_decoder(self.vae, latents, self.caches.get(tile))
        return video

    def _tiled(self, latents: torch.Tensor) -> torch.Tensor:
        """Upstream's tiles and blending (`tiled_decode`), with a cache per tile."""
        vae = self.vae
        step_y = int(vae.tile_latent_min_height * (1 - vae.tile_overlap_factor_height))
        step_x = int(vae.tile_latent_min_width * (1 - vae.tile_overlap_factor_width))
        blend_y = int(vae.tile_sample_min_height * vae.tile_overlap_factor_height)
        blend_x = int(vae.tile_sample_min_width * vae.tile_overlap_factor_width)
        keep_y, keep_x = vae.tile_sample_min_height - blend_y, vae.tile_sample_min_width - blend_x

        above: list[torch.Tensor] = []
        rows = []
        for y in range(0, latents.shape[3], step_y):
            row: list[torch.Tensor] = []
            for x in range(0, latents.shape[4], step_x):
                tile = latents[..., y : y + vae.tile_latent_min_height, x : x + vae.tile_latent_min_width]
                video = self._decode(tile, (y, x))
                if above:
                    video = vae.blend_v(above[len(row)], video, blend_y)
                if row:
                    video = vae.blend_h(row[-1], video, blend_x)
                row.append(video)
            rows.append(torch.cat([video[..., :keep_y, :keep_x] for video in row], dim=4))
            above = row
        return torch.cat(rows, dim=3)


@apply_forward_hook
def _run_decoder(vae: Any, latents: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
    """The decoder with its cache, under the VAE's own offload hook (the decorator takes the first argument as self)."""
    return vae.decoder(latents, conv_cache=cache)
