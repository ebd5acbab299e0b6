"""The tiny VAE (AutoencoderKLCogVideoX) as it starts out."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

LOG_VARIANCE = -8.0  # the posterior is as good as certain


def build_vae() -> AutoencoderKLCogVideoX:
    """8x in space, 4x in time, 16 channels, like the big one; narrow. Starts out close to linear."""
    make: Any = AutoencoderKLCogVideoX  # upstream annotates its tuples as of one element
    vae = make(
        block_out_channels=(16, 32, 48, 64),
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=16,
        sample_height=64,
        sample_width=96,
        invert_scale_latents=False,
    )
    for name, module in vae.named_modules():
        if name.endswith("conv2.conv"):  # the end of a residual block's branch
            nn.init.zeros_(module.weight)
        elif name.endswith("conv_y.conv"):
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)
        elif name.endswith("conv_b.conv"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    # The last group norm would take away a picture's mean colour and contrast. Constants larger than the signal, of
    # both signs, leave it little to take; its bias then keeps the signal where SiLU is nearly straight.
    for side, last in ((vae.encoder, vae.encoder.mid_block), (vae.decoder, vae.decoder.up_blocks[-1])):
        bias = last.resnets[-1].conv2.conv.bias
        with torch.no_grad():
            bias.copy_(torch.tensor([4.0, -4.0]).repeat(len(bias) // 2))
        norm = side.norm_out if isinstance(side.norm_out, nn.GroupNorm) else side.norm_out.norm_layer
        nn.init.constant_(norm.bias, 2.0)
    with torch.no_grad():
        vae.encoder.conv_out.conv.bias[16:] = LOG_VARIANCE
        vae.encoder.conv_out.conv.weight[16:] = 0
    return vae
