"""From pixels and masks to latents: each rule by itself, on numbers that can be checked by hand."""

import numpy as np
import pytest
import torch
from conftest import make_transformer, make_vae

from videopainter.models.backbones.cogvideox.codec import CogVideoXCodec
from videopainter.models.backbones.registry import backbone_of
from videopainter.pipelines.conditioning import (
    fill_hole,
    latent_mask,
    make_conditions,
    to_uint8_frames,
)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 48), (9, 32, 48), (13, 40, 56), (49, 16, 24)])
def test_the_mask_of_latents_is_one_pixel_in_64_of_one_frame_in_four(frames, height, width):
    """The public release's nearest neighbour: latent k sees pixel floor(k · in / out), on every axis."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, 1, frames, height, width, generator=generator) < 0.5).float()
    size = ((frames - 1) // 4 + 1, height // 8, width // 8)
    t, y, x = (np.arange(out) * full // out for out, full in zip(size, (frames, height, width)))
    expected = mask[0, 0].numpy()[np.ix_(t, y, x)]
    np.testing.assert_array_equal(latent_mask(mask, torch.empty(1, size[0], 16, *size[1:]))[0, :, 0].numpy(), expected)


def test_holes_are_filled_and_the_rest_stays():
    video, mask = torch.linspace(-1, 1, 24).reshape(1, 3, 1, 2, 4), torch.zeros(1, 1, 1, 2, 4)
    mask[..., 2:] = 1
    for fill in (0.0, -1.0):
        filled = fill_hole(video, mask, fill)
        assert torch.equal(filled[..., :2], video[..., :2])
        assert (filled[..., 2:] == fill).all()


def test_pixels_are_rounded_and_clamped():
    levels = torch.tensor([-0.4, 0.4, 0.6, 17.6, 254.4, 254.6, 255.4])
    frames = to_uint8_frames((levels / 127.5 - 1).reshape(1, 1, 1, 1, -1).expand(1, 3, 1, 1, -1))
    assert frames[0, 0, :, 0].tolist() == [0, 0, 1, 18, 254, 255, 255]


def test_latents_are_the_scaled_mode():
    vae = make_vae()
    video = torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mean = vae.encode(video).latent_dist.mean
    expected = mean.permute(0, 2, 1, 3, 4) * vae.config.scaling_factor
    torch.testing.assert_close(CogVideoXCodec(vae).encode(video), expected, rtol=0, atol=1e-6)


def test_the_image_condition_of_1_5_has_the_inverse_scale():
    vae, latents = make_vae(), torch.randn(1, 1, 16, 4, 6)
    codec = CogVideoXCodec(vae)
    assert torch.equal(codec.as_image_condition(latents), latents)
    vae.register_to_config(invert_scale_latents=True)
    unscaled = latents / vae.config.scaling_factor
    torch.testing.assert_close(codec.as_image_condition(latents), unscaled / vae.config.scaling_factor)


def test_the_image_stands_in_front_and_zeros_behind():
    frames, masks = np.full((9, 32, 48, 3), 90, np.uint8), np.zeros((9, 32, 48), bool)
    latents = make_conditions(CogVideoXCodec(make_vae()), frames, masks).video_latents
    first, backbone = torch.randn(1, 1, 16, 4, 6), backbone_of(make_transformer())
    image = backbone.image_condition(first, latents)
    assert torch.equal(image[:, :1], first) and not image[:, 1:].any() and image.shape == latents.shape
    assert not backbone.image_condition(None, latents).any()
    assert backbone_of(make_transformer(in_channels=16)).image_condition(first, latents) is None
