"""Wan's decoder over a stream of latents: its temporal cache is carried on, one per tile, and may wait."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.accelerate_utils import apply_forward_hook

from videopainter.models.backbones.tiles import Place, TileCut, Tiles

# Latents that a tile goes through before the next tile's turn: its cache is moved to main memory and back once in 48
# frames, and the pixels of so many frames wait on the device.
TILE_LATENTS = 12


class StreamedDecoder:
    """Decodes consecutive latents; keeps the causal convolutions' cache of the whole frame, or of every tile."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae, self.device = vae, device
        self.caches: dict[tuple[int, int], list[Any]] = {}

    @torch.no_grad()
    def decode(self, latents: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Latents (1, C, 1, h, w), as the VAE has them, to pixels (1, 3, t, H, W) in [−1, 1]: one frame, then four."""
        latents = iter(latents)
        first = next(latents, None)
        if first is None:
            return
        latents = itertools.chain([first], latents)
        if not self._tiles(first):
            for latent in latents:
                yield self._pixels(self._decode([latent], (0, 0), park=False))
            return
        while batch := list(itertools.islice(latents, TILE_LATENTS)):
            yield self._pixels(self._tiled(batch))

    @property
    def _patch(self) -> int:
        """Pixels across and down that the decoder gives as channels of one: Wan 2.2's does."""
        return self.vae.config.patch_size or 1

    def _pixels(self, decoded: torch.Tensor) -> torch.Tensor:
        return unpatchify(decoded, self._patch).clamp(-1, 1)

    def _tiles(self, latents: torch.Tensor) -> bool:
        vae, (height, width) = self.vae, latents.shape[-2:]
        ratio = vae.spatial_compression_ratio
        return vae.use_tiling and (
            width > vae.tile_sample_min_width // ratio or height > vae.tile_sample_min_height // ratio
        )

    def _decode(self, latents: list[torch.Tensor], tile: tuple[int, int], *, park: bool) -> torch.Tensor:
        """Latents of one tile, one after the other; `park` leaves the cache in main memory."""
        begins = tile not in self.caches
        cache = [_moved(entry, self.device) for entry in self.caches.pop(tile, [])] or self._new_cache()
        videos = []
        for index, latent in enumerate(latents):
            videos.append(_run_decoder(self.vae, latent, cache, begins and index == 0))
        self.caches[tile] = [_moved(entry, torch.device("cpu")) for entry in cache] if park else cache
        return torch.cat(videos, dim=2) if len(videos) > 1 else videos[0]

    def _new_cache(self) -> list[Any]:
        return [None] * self.vae._cached_conv_counts["decoder"]

    def _tiled(self, latents: list[torch.Tensor]) -> torch.Tensor:
        """Upstream's tiles and blending (`tiled_decode`), with a cache per tile; as the decoder gives pixels."""
        patch, vae, (height, width) = self._patch, self.vae, latents[0].shape[-2:]
        ratio = vae.spatial_compression_ratio
        size = vae.tile_sample_min_height, vae.tile_sample_min_width
        kept = vae.tile_sample_stride_height, vae.tile_sample_stride_width
        tiles = Tiles(
            size=(size[0] // ratio, size[1] // ratio),
            step=(kept[0] // ratio, kept[1] // ratio),
            kept=(kept[0] // patch, kept[1] // patch),
            blended=(size[0] // patch - kept[0] // patch, size[1] // patch - kept[1] // patch),
        )

        def decode_tile(rectangle: TileCut, place: Place) -> torch.Tensor:
            return self._decode([latent[rectangle] for latent in latents], place, park=True)

        return tiles.decode(vae, height, width, decode_tile)[..., : height * ratio // patch, : width * ratio // patch]


@apply_forward_hook
def _run_decoder(vae: Any, latent: torch.Tensor, cache: list[Any], begins: bool) -> torch.Tensor:
    """The decoder with its cache, which it changes; under the VAE's own offload hook (which takes the first argument as
    self)."""
    return vae.decoder(vae.post_quant_conv(latent), feat_cache=cache, feat_idx=[0], first_chunk=begins)


def _moved(entry: Any, device: torch.device) -> Any:
    """A cache's entry on a device; those that are words or nothing stay so."""
    return entry.to(device) if isinstance(entry, torch.Tensor) else entry
