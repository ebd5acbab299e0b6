"""The streamed decode equals decoding everything at once."""

import numpy as np
import pytest
import torch
from conftest import make_vae

from videopainter.pipelines.conditioning import to_uint8_frames
from videopainter.pipelines.decoding import decode_stream


def whole(vae, latents):
    with torch.no_grad():
        return to_uint8_frames(vae.decode(latents.permute(0, 2, 1, 3, 4) / vae.config.scaling_factor).sample)


def streamed(vae, latents, pieces):
    return np.concatenate(list(decode_stream(vae, latents.split(pieces, dim=1), latents.shape[1])))


@pytest.mark.parametrize("tiling", [False, True])
@pytest.mark.parametrize(("count", "pieces"), [(1, 1), (3, 1), (5, 2), (9, 4), (13, 1), (13, 13)])
def test_equals_one_decode(count, pieces, tiling):
    vae = make_vae()
    if tiling:
        vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=48)
    latents = torch.randn(1, count, 16, 6, 9, generator=torch.Generator().manual_seed(0))
    frames = streamed(vae, latents, pieces)
    assert len(frames) == 4 * (count - 1) + 1
    np.testing.assert_array_equal(frames, whole(vae, latents))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_even_counts_are_completed_with_a_copy(count):
    vae = make_vae()
    latents = torch.randn(1, count, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    frames = streamed(vae, latents, 1)
    assert len(frames) == 4 * (count - 1) + 1
    completed = torch.cat([latents, latents[:, -1:]], dim=1)
    np.testing.assert_array_equal(frames, whole(vae, completed)[: len(frames)])
