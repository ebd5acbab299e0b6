"""What the configs of a CogVideoX checkpoint may say, and what the shapes of its weights say to that. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopainter.models.backbones.text_encoder import TEXT_RULES, compare_text_encoder
from videopainter.models.config_values import (
    FamilyConfigs,
    Header,
    Rule,
    compare_value,
    count_parts,
    finite_number,
    one_of,
    whole_number,
)

# By the names that `--scheduler` has for them.
SCHEDULERS = {"dpm": "CogVideoXDPMScheduler", "ddim": "CogVideoXDDIMScheduler"}
BLOCKS = "transformer_blocks"
BRANCH_CLASS = "CogvideoXBranchModel"


def _widths(value: Any) -> str | None:
    good = isinstance(value, list) and 2 <= len(value) <= 8 and all(whole_number(1, 8192)(one) is None for one in value)
    return None if good else "a list of 2 to 8 whole numbers from 1 to 8192"


_TRANSFORMER: dict[str, Rule] = {
    "num_layers": whole_number(1, 1000),
    "num_attention_heads": whole_number(1, 1024),
    "attention_head_dim": whole_number(1, 4096),
    "in_channels": whole_number(1, 4096),
    "out_channels": whole_number(1, 4096, none=True),
    "sample_height": whole_number(1, 2048),
    "sample_width": whole_number(1, 2048),
    "sample_frames": whole_number(1, 100_000),
    "max_text_seq_length": whole_number(1, 4096),
    "patch_size": whole_number(1, 64),
    "patch_size_t": whole_number(1, 64, none=True),
    "text_embed_dim": whole_number(1, 65_536),
    "time_embed_dim": whole_number(1, 65_536),
}
_BRANCH = {"_class_name": one_of(BRANCH_CLASS), **_TRANSFORMER, "hole_fill": finite_number(least=-1, most=1)}
_VAE: dict[str, Rule] = {
    "_class_name": one_of("AutoencoderKLCogVideoX"),
    "block_out_channels": _widths,
    "latent_channels": whole_number(1, 1024),
    "layers_per_block": whole_number(1, 64),
    "scaling_factor": finite_number(above=0, most=1e6),
    "shift_factor": finite_number(none=True),
    "norm_num_groups": whole_number(1, 8192),
}
_SCHEDULER: dict[str, Rule] = {
    "_class_name": one_of(*SCHEDULERS.values()),
    "num_train_timesteps": whole_number(1, 100_000),
    "beta_start": finite_number(above=0, below=1),
    "beta_end": finite_number(above=0, below=1),
    "beta_schedule": one_of("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": one_of("epsilon", "sample", "v_prediction"),
    "timestep_spacing": one_of("leading", "linspace", "trailing"),
    "snr_shift_scale": finite_number(above=0, most=1000),
}


def latent_channels(config: Mapping[str, Any]) -> int:
    """Of a transformer's or a branch's config."""
    return config.get("out_channels") or 16


def _compare_part(part: str, config: Mapping[str, Any], header: Header, file: Path) -> None:
    if part == "branch":
        if config.get("_class_name") == BRANCH_CLASS:
            _compare_transformer(config, header, file, channels=2 * latent_channels(config) + 1)
    elif part == "transformer":
        _compare_transformer(config, header, file, channels=config.get("in_channels"))
    elif part == "vae":
        _compare_vae(config, header, file)
    elif part == "text_encoder":
        compare_text_encoder(config, header, file)


def _compare_transformer(config: Mapping[str, Any], header: Header, file: Path, channels: int | None) -> None:
    compare_value("num_layers", count_parts(header, BLOCKS), config, file)
    shape = header.get("patch_embed.proj.weight")
    if shape is None:
        return
    heads, size = config.get("num_attention_heads", 30), config.get("attention_head_dim", 64)
    compare_value("num_attention_heads * attention_head_dim", shape[0], config, file, of=heads * size)
    if len(shape) == 4:
        compare_value("in_channels", shape[1], config, file, of=channels)
        compare_value("patch_size", shape[2], config, file)
    text = header.get("patch_embed.text_proj.weight")
    compare_value("text_embed_dim", text and text[1], config, file)


def _compare_vae(config: Mapping[str, Any], header: Header, file: Path) -> None:
    into, back = (header.get(f"{part}.conv_in.conv.weight") for part in ("encoder", "decoder"))
    widths = config.get("block_out_channels")
    if widths:
        compare_value("block_out_channels", into and into[0], config, file, of=widths[0])
        compare_value("block_out_channels", count_parts(header, "encoder.down_blocks"), config, file, of=len(widths))
    compare_value("latent_channels", back and back[1], config, file)
    compare_value("layers_per_block", count_parts(header, "encoder.down_blocks.0.resnets"), config, file)


CONFIGS = FamilyConfigs(
    rules={
        "transformer": _TRANSFORMER,
        "branch": _BRANCH,
        "vae": _VAE,
        "text_encoder": TEXT_RULES,
        "scheduler": _SCHEDULER,
    },
    compare=_compare_part,
    joints=(("text_encoder", "d_model", "text_embed_dim"), ("vae", "latent_channels", "out_channels")),
)
