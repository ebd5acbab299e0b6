"""The tiny image-to-video backbone and its text encoder, which are trained as one: parts of all its stages."""

from __future__ import annotations

import torch
from diffusers import CogVideoXDPMScheduler
from text import MAX_TOKENS, build_text_encoder
from torch import nn

from videopainter import VideoPainterTransformer3DModel
from videopainter.models.backbones.registry import backbone_of


def build_scheduler() -> CogVideoXDPMScheduler:
    """The noise schedule of CogVideoX-5B-I2V."""
    return CogVideoXDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )


def build_transformer() -> VideoPainterTransformer3DModel:
    """4.3 M parameters: 8 blocks, 6 heads of 32; for 144x96 pixels."""
    return VideoPainterTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=32,
        out_channels=16,
        time_embed_dim=32,
        text_embed_dim=96,
        num_layers=8,
        sample_width=18,
        sample_height=12,
        sample_frames=17,
        max_text_seq_length=MAX_TOKENS,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
    )


class Backbone(nn.Module):
    """Transformer and text encoder, trained as one."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.transformer = build_transformer()
        self.text_encoder = build_text_encoder(vocabulary)


def add_noise(scheduler, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor):
    """Noisy latents, and the loss weight 1 / (1 - alpha_bar) of the clean-latent prediction."""
    alpha_bar = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
    return scheduler.add_noise(clean, noise, t), 1.0 / (1.0 - alpha_bar)


def with_first_frame(noisy: torch.Tensor, first: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Backbone input: noisy latents, then the first frame's latent in front of zeros (all zeros where not `keep`)."""
    image = torch.zeros_like(noisy)
    image[:, :1] = first * keep.view(-1, 1, 1, 1, 1)
    return torch.cat([noisy, image], dim=2)


def predict_clean(model: Backbone, scheduler, tokens, noisy, first, keep, t, rotary=None, **branch) -> torch.Tensor:
    """Clean-latent prediction through the scheduler's velocity formula; `rotary`: positions of a part."""
    if rotary is None:
        rotary = backbone_of(model.transformer).positions(noisy)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        text = model.text_encoder(tokens).last_hidden_state
        inputs = with_first_frame(noisy, first, keep)
        output = model.transformer(inputs, text, t, image_rotary_emb=rotary, return_dict=False, **branch)[0]
    return scheduler.get_velocity(output.float(), noisy, t)
