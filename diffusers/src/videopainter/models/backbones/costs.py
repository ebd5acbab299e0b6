"""What a family's models take beside their weights, in figures that were counted. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MemoryCosts:
    """Peaks, from live storages that `models/live_bytes.py` counts on the published sizes; see `pipelines/memory.py`.

    The VAE's are bytes per pixel of a frame or tile, in 16 bits, with `channels` at full resolution. Those of a guided
    step are units of the hidden states: (batch, text and video tokens, width) numbers.

    Args:
        encode, decode, tiled_decode: Of what goes through the VAE at a time.
        encode_large: `encode` of frames from `large` pixels on.
        encode_frame: Beside it, per pixel of the whole frame and frame of the video.
        encode_tile: Sides of the encoder's tiles, as many times those of the decoder's.
        tiled_whole: Beside it, per pixel of the whole frame, while 48 frames are decoded in tiles.
        step: Without ID resampling.
        exact: Of the exact form: at no hole, and how much more at a hole of everything.
        compact: Of the compact form, by batch, the same.
    """

    encode: float
    decode: float
    tiled_decode: float
    encode_large: float
    large: float
    encode_frame: float
    tiled_whole: float
    channels: int
    step: float
    exact: tuple[float, float]
    compact: Mapping[int, tuple[float, float]]
    encode_tile: int = 1
