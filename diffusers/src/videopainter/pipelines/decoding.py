"""Decoding latents as a stream: the VAE's temporal cache is carried on, so that the result equals one whole decode."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from diffusers.utils.accelerate_utils import apply_forward_hook

from videopainter.pipelines.conditioning import to_uint8_frames
from videopainter.pipelines.conv_cache import UsedUpCache, small_cache
from videopainter.pipelines.settings import TEMPORAL_COMPRESSION

CHUNK = 2  # latent frames per step, as upstream's `num_latent_frames_batch_size`
# Chunks that a tile goes through before the next tile's turn: its cache is moved to main memory and back once in 48
# frames, and the pixels of so many frames wait on the device.
TILE_CHUNKS = 6


def decode_stream(
    vae: Any, latents: Iterable[torch.Tensor], num_latents: int, device: torch.device | None = None
) -> Iterator[np.ndarray]:
    """Decode scaled latents into uint8 frames (t, H, W, 3), chunk by chunk.

    Chunks are upstream's own (three latent frames, then two), whatever the pieces that come in, so the frames equal
    `vae.decode` of everything at once. The VAE needs an odd number of latent frames: an even one is completed with a
    copy of the last, and that copy's frames are left out.

    A VAE that tiles takes one tile through several chunks, then the next; the other tiles' caches wait in main memory.

    Args:
        latents: Pieces (1, t, 16, h, w), together `num_latents` latent frames.
    """
    decoder = _CachedDecoder(vae, device or vae.device)
    surplus = (num_latents + 1) % CHUNK
    for video in decoder.decode(_rechunk(_with_copies(latents, surplus), first=1 if num_latents == 1 else CHUNK + 1)):
        num_latents -= (video.shape[2] + TEMPORAL_COMPRESSION - 1) // TEMPORAL_COMPRESSION
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


def batched(items: Iterable[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    """Lists of `size` items, the last of what is left (Python 3.12 has it in itertools)."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _num_frames(latents: torch.Tensor) -> int:
    """Frames of a chunk (1, 16, t, h, w): chunks with an odd number of latents begin a video, with a single frame."""
    count = latents.shape[2]
    return TEMPORAL_COMPRESSION * count - (TEMPORAL_COMPRESSION - 1) * (count % CHUNK)


class _CachedDecoder:
    """Decodes consecutive chunks; keeps the causal convolutions' cache of the whole frame, or of every tile."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae, self.device = vae, device
        self.caches: dict[tuple[int, int], Any] = {}

    @torch.no_grad()
    def decode(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Chunks (1, t, 16, h, w) to pixels (1, 3, T, H, W) in about [−1, 1]."""
        scaled = (self._scaled(chunk) for chunk in chunks)
        first = next(scaled, None)
        if first is None:
            return
        scaled = itertools.chain([first], scaled)
        if not self._tiles(first):
            for latents in scaled:
                yield self._decode([latents], (0, 0), park=False)
            return
        for batch in batched(scaled, TILE_CHUNKS):
            counts = [_num_frames(latents) for latents in batch]
            yield from self._tiled(batch).split(counts, dim=2)

    def _scaled(self, latents_BTCHW: torch.Tensor) -> torch.Tensor:
        """(1, t, 16, h, w) to what the decoder takes, (1, 16, t, h, w)."""
        latents = latents_BTCHW.to(device=self.device, dtype=self.vae.dtype).permute(0, 2, 1, 3, 4)
        return latents / self.vae.config.scaling_factor

    def _tiles(self, latents: torch.Tensor) -> bool:
        vae, (height, width) = self.vae, latents.shape[-2:]
        return vae.use_tiling and (width > vae.tile_latent_min_width or height > vae.tile_latent_min_height)

    def _decode(self, chunks: list[torch.Tensor], tile: tuple[int, int], *, park: bool) -> torch.Tensor:
        """Chunks of one tile (1, 16, t, h, w), one after the other; `park` leaves the cache in main memory."""
        videos = []
        for index, latents in enumerate(chunks):
            if self.vae.post_quant_conv is not None:
                latents = self.vae.post_quant_conv(latents)
            cache = UsedUpCache(self.caches.pop(tile, {}), self.device)
            with small_cache(self.vae.decoder, park=park and index == len(chunks) - 1):
                video, self.caches[tile] = _run_decoder(self.vae, latents, cache)
            videos.append(video)
        return torch.cat(videos, dim=2) if len(videos) > 1 else videos[0]

    def _tiled(self, chunks: list[torch.Tensor]) -> torch.Tensor:
        """Upstream's tiles and blending (`tiled_decode`), with a cache per tile."""
        vae, (height, width) = self.vae, chunks[0].shape[-2:]
        step_y = int(vae.tile_latent_min_height * (1 - vae.tile_overlap_factor_height))
        step_x = int(vae.tile_latent_min_width * (1 - vae.tile_overlap_factor_width))
        blend_y = int(vae.tile_sample_min_height * vae.tile_overlap_factor_height)
        blend_x = int(vae.tile_sample_min_width * vae.tile_overlap_factor_width)
        keep_y, keep_x = vae.tile_sample_min_height - blend_y, vae.tile_sample_min_width - blend_x

        above: list[torch.Tensor] = []
        rows = []
        for y in range(0, height, step_y):
            row: list[torch.Tensor] = []
            for x in range(0, width, step_x):
                rectangle = (..., slice(y, y + vae.tile_latent_min_height), slice(x, x + vae.tile_latent_min_width))
                video = self._decode([latents[rectangle] for latents in chunks], (y, x), park=True)
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
