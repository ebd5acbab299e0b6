"""How a VAE decodes a large frame in tiles, as upstream's `tiled_decode` cuts and blends them, whatever the family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Place = tuple[int, int]  # of a tile's first latent: down, across
TileCut = tuple[Any, slice, slice]  # what a tile cuts out of latents (..., h, w)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Sizes as (height, width).

    Args:
        size: Of a tile, in latents.
        step: From a tile to the next, in latents.
        kept: What stays of a tile beside the next ones, in pixels.
        blended: Where a tile fades into the next, in pixels.
    """

    size: tuple[int, int]
    step: tuple[int, int]
    kept: tuple[int, int]
    blended: tuple[int, int]

    def decode(
        self, vae: Any, height: int, width: int, decode_tile: Callable[[TileCut, Place], torch.Tensor]
    ) -> torch.Tensor:
        """Pixels (1, 3, T, H, W) of frames of height×width latents, from `decode_tile`, called row by row."""
        above: list[torch.Tensor] = []
        rows = []
        for y in range(0, height, self.step[0]):
            row: list[torch.Tensor] = []
            for x in range(0, width, self.step[1]):
                video = decode_tile((..., slice(y, y + self.size[0]), slice(x, x + self.size[1])), (y, x))
                if above:
                    video = vae.blend_v(above[len(row)], video, self.blended[0])
                if row:
                    video = vae.blend_h(row[-1], video, self.blended[1])
                row.append(video)
            rows.append(torch.cat([video[..., : self.kept[0], : self.kept[1]] for video in row], dim=4))
            above = row
        return torch.cat(rows, dim=3)
