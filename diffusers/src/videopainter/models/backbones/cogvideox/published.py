"""Configurations of published CogVideoX checkpoints, literally, and models of those sizes without their weights.

For tests, benchmarks and memory figures: nothing is downloaded, and on the meta device or in a FakeTensorMode no memory
is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
from peft import LoraConfig
from transformers import T5Config, T5EncoderModel

from videopainter.models.context_branch import CogvideoXBranchModel
from videopainter.models.id_adapter import ADAPTER_NAME, TARGET_MODULES
from videopainter.models.transformer import VideoPainterTransformer3DModel

_5B: dict[str, Any] = {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "out_channels": 16,
    "time_embed_dim": 512,
    "text_embed_dim": 4096,
    "num_layers": 42,
    "sample_width": 90,
    "sample_height": 60,
    "sample_frames": 49,
    "patch_size": 2,
    "temporal_compression_ratio": 4,
    "max_text_seq_length": 226,
    "spatial_interpolation_scale": 1.875,
    "temporal_interpolation_scale": 1.0,
    "use_rotary_positional_embeddings": True,
}
_1_5: dict[str, Any] = {
    **_5B,
    # The largest rotary grid, not the size that it was trained on; configs of its first days said 96 by 170.
    "sample_width": 300,
    "sample_height": 300,
    "sample_frames": 81,
    "patch_size_t": 2,
    "patch_bias": False,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "CogVideoX-5b-I2V": {**_5B, "in_channels": 32, "use_learned_positional_embeddings": True},
    "CogVideoX-5b": {**_5B, "in_channels": 16},
    "CogVideoX1.5-5B-I2V": {**_1_5, "in_channels": 32, "ofs_embed_dim": 512},
    "CogVideoX1.5-5B": {**_1_5, "in_channels": 16},
}
_VAE: dict[str, Any] = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (128, 256, 256, 512),
    "latent_channels": 16,
    "layers_per_block": 3,
    "norm_num_groups": 32,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 0.7,
    "temporal_compression_ratio": 4,
}
VAES: dict[str, dict[str, Any]] = {name: dict(_VAE) for name in BACKBONES}
VAES["CogVideoX1.5-5B-I2V"]["invert_scale_latents"] = True
T5_XXL: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
SCHEDULER: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
}
BRANCH_LAYERS = 2
ADAPTER_RANK = 256


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Modules built inside have weights of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_backbone(
    name: str = "CogVideoX-5b-I2V", *, dtype: torch.dtype = torch.bfloat16, rank: int = 0, **changes: Any
) -> VideoPainterTransformer3DModel:
    """A backbone of a published size on the default device; with `rank`, an ID adapter's LoRA of that rank in it.

    `changes` overwrite the configuration, such as ``num_layers=2``.
    """
    with default_dtype(dtype):
        model = _cast(VideoPainterTransformer3DModel(**{**BACKBONES[name], **changes}), dtype)
        if rank:
            lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGET_MODULES))
            model.add_adapter(lora, adapter_name=ADAPTER_NAME)
            _cast(model, dtype)  # peft keeps its matrices in float32
    return model


def build_branch(
    name: str = "CogVideoX-5b-I2V", *, dtype: torch.dtype = torch.bfloat16, **changes: Any
) -> CogvideoXBranchModel:
    """A branch of two blocks for such a backbone, as `from_transformer` configures it."""
    options = {**BACKBONES[name], "num_layers": BRANCH_LAYERS, **changes}
    with default_dtype(dtype):
        return _cast(CogvideoXBranchModel(**options), dtype)


def build_vae(
    name: str = "CogVideoX-5b-I2V", *, dtype: torch.dtype = torch.bfloat16, **changes: Any
) -> AutoencoderKLCogVideoX:
    """The VAE that goes with such a backbone."""
    with default_dtype(dtype):
        return _cast(AutoencoderKLCogVideoX(**{**VAES[name], **changes}), dtype)


def build_text_encoder(*, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> T5EncoderModel:
    """The encoder of T5-XXL, which all of them share."""
    with default_dtype(dtype):
        return _cast(T5EncoderModel(T5Config(**{**T5_XXL, **changes})), dtype)


def _cast(model: Any, dtype: torch.dtype) -> Any:
    """Tables that are made in float32, too."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return model.eval()


def build_scheduler() -> CogVideoXDPMScheduler:
    """The release's sampler."""
    return CogVideoXDPMScheduler(**SCHEDULER)


def without_storage(module: Any, device: torch.device | str | None = None) -> Any:
    """Give a module that was built on the meta device empty weights on `device`, in place; for a FakeTensorMode.

    Inside that mode peft cannot build, hence the detour:
        with torch.device("meta"): model = build_backbone()
        with FakeTensorMode(): without_storage(model)
    """
    shared: dict[int, torch.Tensor] = {}  # T5's embedding stands in two places

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in shared:
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            shared[id(tensor)] = torch.nn.Parameter(made, tensor.requires_grad) if is_parameter else made
        return shared[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: empty(tensor) for name, tensor in tensors.items() if tensor is not None})
    return module
