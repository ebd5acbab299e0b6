"""CogVideoX's decoder over a stream of chunks: its temporal cache is carried on, kept small, and may wait.

Upstream holds the old cache until a chunk is decoded, while the new one grows beside it, and half of each is a copy of
what its pointwise convolutions saw, which nobody reads. At 480×720 in bfloat16 that is 9 GiB; here it is 1.1 to 2.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d
from diffusers.utils.accelerate_utils import apply_forward_hook

from videopainter.models.backbones.tiles import Place, TileCut, Tiles

CHUNK = 2  # latent frames per step, as upstream's `num_latent_frames_batch_size`
# Chunks that a tile goes through before the next tile's turn: its cache is moved to main memory and back once in 48
# frames, and the pixels of so many frames wait on the device.
TILE_CHUNKS = 6
RATIO = 4  # frames of a latent


def num_frames(latents: int) -> int:
    """Frames of a chunk of so many latents: chunks with an odd number begin a video, with a single frame."""
    return RATIO * latents - (RATIO - 1) * (latents % CHUNK)


def batched(items: Iterable[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    """Lists of `size` items, the last of what is left (Python 3.12 has it in itertools)."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


class CachedDecoder:
    """Decodes consecutive chunks; keeps the causal convolutions' cache of the whole frame, or of every tile."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae, self.device = vae, device
        self.caches: dict[tuple[int, int], Any] = {}

    @torch.no_grad()
    def decode(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Chunks of scaled latents (1, t, 16, h, w) to pixels (1, 3, T, H, W) in about [−1, 1]."""
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
            counts = [num_frames(latents.shape[2]) for latents in batch]
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
        overlap = vae.tile_overlap_factor_height, vae.tile_overlap_factor_width
        size = vae.tile_latent_min_height, vae.tile_latent_min_width
        pixels = vae.tile_sample_min_height, vae.tile_sample_min_width
        blended = int(pixels[0] * overlap[0]), int(pixels[1] * overlap[1])
        tiles = Tiles(
            size=size,
            step=(int(size[0] * (1 - overlap[0])), int(size[1] * (1 - overlap[1]))),
            kept=(pixels[0] - blended[0], pixels[1] - blended[1]),
            blended=blended,
        )

        def decode_tile(rectangle: TileCut, place: Place) -> torch.Tensor:
            return self._decode([latents[rectangle] for latents in chunks], place, park=True)

        return tiles.decode(vae, height, width, decode_tile)


@apply_forward_hook
def _run_decoder(vae: Any, latents: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
    """The decoder with its cache, under the VAE's own offload hook (the decorator takes the first argument as self)."""
    return vae.decoder(latents, conv_cache=cache)


# ---- the temporal cache


def to_main_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Where it waits for its tile's next turn. Not page-locked: pinning gigabytes takes longer than the copy."""
    return tensor.cpu()


def fetch(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Back to where the decoder runs."""
    return tensor.to(device)


class UsedUpCache(dict):
    """A cache whose entries leave it when they are read, onto `device`.

    Upstream's blocks read every entry once, with `get`.
    """

    def __init__(self, cache: dict[str, Any], device: torch.device) -> None:
        super().__init__(cache)
        self.device = device

    def get(self, key: str, default: Any = None) -> Any:
        value = self.pop(key, default)
        if isinstance(value, dict):
            return UsedUpCache(value, self.device)
        return fetch(value, self.device) if isinstance(value, torch.Tensor) else value


@contextmanager
def small_cache(decoder: torch.nn.Module, *, park: bool) -> Iterator[None]:
    """Inside, `decoder` gives back a cache without what nobody reads; in main memory where `park` says so."""

    def keep(conv: Any, inputs: Any, result: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, Any]:
        output, cache = result
        if cache is None or conv.time_kernel_size == 1:
            return output, None
        return output, to_main_memory(cache) if park else cache

    convs = [module for module in decoder.modules() if isinstance(module, CogVideoXCausalConv3d)]
    handles = [conv.register_forward_hook(keep) for conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
