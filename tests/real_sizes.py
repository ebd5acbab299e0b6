"""The published models' sizes, to build them on fake or meta tensors: no weights, no memory.

Literal configurations of CogVideoX-5B-I2V, CogVideoX-5B (T2V), CogVideoX1.5-5B and -5B-I2V, their VAE, T5-XXL, the
released branch and ID adapter, as their `config.json` files have them. Call these functions under `FakeTensorMode` or
`torch.device("meta")`; anywhere else a backbone takes 10 GB.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
from peft import LoraConfig
from transformers import T5Config, T5EncoderModel

from videopainter.models.context_branch import CogvideoXBranchModel
from videopainter.models.id_adapter import ADAPTER_NAME, IDAdapter
from videopainter.models.transformer import VideoPainterTransformer3DModel

_BACKBONE: dict[str, Any] = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 64,
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 16,
    "max_text_seq_length": 226,
    "norm_elementwise_affine": True,
    "norm_eps": 1e-05,
    "num_attention_heads": 48,
    "num_layers": 42,
    "out_channels": 16,
    "patch_size": 2,
    "sample_frames": 49,
    "sample_height": 60,
    "sample_width": 90,
    "spatial_interpolation_scale": 1.875,
    "temporal_compression_ratio": 4,
    "temporal_interpolation_scale": 1.0,
    "text_embed_dim": 4096,
    "time_embed_dim": 512,
    "timestep_activation_fn": "silu",
    "use_learned_positional_embeddings": False,
    "use_rotary_positional_embeddings": True,
}
_BACKBONE_15 = {
    **_BACKBONE,
    "patch_bias": False,
    "patch_size_t": 2,
    "sample_frames": 81,
    "sample_height": 300,
    "sample_width": 300,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "5b-i2v": {**_BACKBONE, "in_channels": 32, "use_learned_positional_embeddings": True},
    "5b": _BACKBONE,
    "1.5-5b": _BACKBONE_15,
    "1.5-5b-i2v": {**_BACKBONE_15, "in_channels": 32, "ofs_embed_dim": 512},
}

VAE: dict[str, Any] = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 256, 512],
    "down_block_types": ["CogVideoXDownBlock3D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 16,
    "layers_per_block": 3,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 0.7,
    "temporal_compression_ratio": 4,
    "up_block_types": ["CogVideoXUpBlock3D"] * 4,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}

T5_XXL: dict[str, Any] = {
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}

SCHEDULER: dict[str, Any] = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}

BRANCH_LAYERS = 2
ADAPTER_RANK = 256


def backbone(name: str = "5b-i2v", *, num_layers: int | None = None) -> Any:
    """A backbone with the published configuration; `num_layers`: fewer of its 42 blocks, all alike."""
    config = BACKBONES[name]
    return VideoPainterTransformer3DModel(**{**config, "num_layers": num_layers or config["num_layers"]}).eval()


def branch(name: str = "5b-i2v") -> Any:
    """The released context encoder of 2 blocks for a backbone, without making a backbone first."""
    config = {**BACKBONES[name], "num_layers": BRANCH_LAYERS}
    return CogvideoXBranchModel(**config).eval()


def add_id_adapter(transformer: Any, form: str = "exact") -> IDAdapter:
    """Put the released adapter's LoRA (rank 256 on q, k, v and out of every block) on a backbone."""
    adapter = IDAdapter(form, ADAPTER_RANK, ADAPTER_RANK)
    transformer.add_adapter(LoraConfig(**adapter.lora_config()), adapter_name=ADAPTER_NAME)
    return adapter


def vae(name: str = "5b-i2v") -> Any:
    """The 3D VAE; CogVideoX 1.5's inverts the scale of the image condition."""
    return AutoencoderKLCogVideoX(**VAE, invert_scale_latents=name == "1.5-5b-i2v").eval()


def text_encoder(*, num_layers: int | None = None) -> Any:
    """T5-XXL's encoder; `num_layers`: fewer of its 24 blocks."""
    return T5EncoderModel(T5Config(**{**T5_XXL, "num_layers": num_layers or T5_XXL["num_layers"]})).eval()


def scheduler() -> Any:
    """The release's scheduler, DPM. Real tensors: make it outside of `FakeTensorMode`."""
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    return CogVideoXDPMScheduler(**SCHEDULER)
