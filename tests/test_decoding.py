"""The streamed decode equals decoding everything at once."""

import numpy as np
import pytest
import torch
from conftest import make_vae

from videopainter.models.backbones.cogvideox import decoder as decoding
from videopainter.models.backbones.cogvideox.codec import CogVideoXCodec, rechunk
from videopainter.models.backbones.cogvideox.decoder import CachedDecoder
from videopainter.pipelines.conditioning import to_uint8_frames


def whole(vae, latents):
    with torch.no_grad():
        return to_uint8_frames(vae.decode(latents.permute(0, 2, 1, 3, 4) / vae.config.scaling_factor).sample)


def streamed(vae, latents, pieces):
    videos = CogVideoXCodec(vae).decode_stream(latents.split(pieces, dim=1), latents.shape[1])
    return np.concatenate([to_uint8_frames(video) for video in videos])


@pytest.mark.parametrize("tiling", [False, True])
@pytest.mark.parametrize(("count", "pieces"), [(1, 1), (3, 1), (5, 2), (9, 4), (13, 1), (13, 13), (17, 3), (27, 9)])
def test_equals_one_decode(count, pieces, tiling):
    vae = make_vae()
    if tiling:
        vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=48)
    latents = torch.randn(1, count, 16, 4, 9, generator=torch.Generator().manual_seed(0))  # 2×3 tiles
    frames = streamed(vae, latents, pieces)
    assert len(frames) == 4 * (count - 1) + 1
    np.testing.assert_array_equal(frames, whole(vae, latents))


def test_waiting_tiles_keep_nothing_on_the_device(monkeypatch):
    """Between a tile's turns all of its cache has been moved away; within a turn it stays."""
    parked, vae = [], make_vae()
    monkeypatch.setattr(decoding, "to_main_memory", lambda tensor: parked.append(tensor.nbytes) or tensor.clone())
    vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=48)
    latents = torch.randn(1, 25, 16, 6, 9, generator=torch.Generator().manual_seed(0))
    decoder = CachedDecoder(vae, torch.device("cpu"))
    list(decoder.decode(rechunk([latents], first=3)))
    turns = 2  # 12 chunks, six at a time
    assert sum(parked) == turns * sum(size(cache) for cache in decoder.caches.values())


def test_the_cache_is_used_up_and_holds_no_pointwise_inputs():
    vae, latents = make_vae(), torch.randn(1, 5, 16, 6, 9, generator=torch.Generator().manual_seed(0))
    decoder = CachedDecoder(vae, torch.device("cpu"))
    frames = decoder.decode(rechunk([latents], first=3))
    next(frames)
    kept = decoder.caches[0, 0]
    assert not {"conv_y", "conv_b"} & {name for name, _ in named(kept)}
    _, upstream = vae.decoder(latents[:, :3].transpose(1, 2))
    assert size(kept) < 0.7 * size(upstream)
    assert all(len(module._forward_hooks) == 0 for module in vae.modules())


def named(cache):
    for name, value in cache.items():
        if isinstance(value, dict):
            yield from named(value)
        elif value is not None:
            yield name, value


def size(cache):
    return sum(value.nbytes for _, value in named(cache))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_even_counts_are_completed_with_a_copy(count):
    vae = make_vae()
    latents = torch.randn(1, count, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    frames = streamed(vae, latents, 1)
    assert len(frames) == 4 * (count - 1) + 1
    completed = torch.cat([latents, latents[:, -1:]], dim=1)
    np.testing.assert_array_equal(frames, whole(vae, completed)[: len(frames)])
