"""What the configs of a Wan checkpoint may say, and what the shapes of its weights say to that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopainter.models.backbones.text_encoder import TEXT_RULES, compare_text_encoder
from videopainter.models.config_values import (
    FamilyConfigs,
    Header,
    Rule,
    Rules,
    compare_value,
    count_parts,
    finite_number,
    one_of,
    refuse,
    whole_number,
)

# By the names that `--scheduler` has for them.
FLOW_SCHEDULERS = {"unipc": "UniPCMultistepScheduler", "euler": "FlowMatchEulerDiscreteScheduler"}
WAN_BLOCKS = "blocks"
WAN_BRANCH = "WanBranchModel"


def _patch(value: Any) -> str | None:
    good = isinstance(value, list) and len(value) == 3 and all(whole_number(1, 16)(one) is None for one in value)
    return None if good and value[0] == 1 and value[1] == value[2] else "a list like [1, 2, 2]"


def _widths(value: Any) -> str | None:
    good = isinstance(value, list) and len(value) == 4 and all(whole_number(1, 64)(one) is None for one in value)
    return None if good else "a list of four whole numbers like [1, 2, 4, 4]"


def _halvings(value: Any) -> str | None:
    good = isinstance(value, list) and sorted(map(str, value)) == ["False", "True", "True"]
    return None if good else "a list like [false, true, true]: four frames to a latent"


def _numbers(value: Any) -> str | None:
    good = isinstance(value, list) and all(finite_number()(one) is None for one in value)
    return None if good else "a list of finite numbers"


def _deviations(value: Any) -> str | None:
    good = _numbers(value) is None and all(one > 0 for one in value)
    return None if good else "a list of numbers above 0"


def _only(wanted: int | bool | None, why: str) -> Rule:
    said = {None: "null", False: "false", True: "true"}.get(wanted, wanted)
    return lambda value: None if value is wanted or (value == wanted and wanted) else f"{said}: {why}"


def _as_wan(wanted: Any) -> Rule:
    """A scheduler's setting as all of Wan's checkpoints have it; sampler and loss are written for that."""
    return lambda value: None if value == wanted else f"{wanted} as Wan's checkpoints"


_PLAIN = "Wan 2.1's VAE has 16 channels"
_DENSE = "Wan 2.2's VAE has 48 channels"
# Of the VAE of Wan 2.2's 5B. Nothing else has as many channels, and nothing else in a transformer's config tells.
CHANNELS_2_2, SPATIAL_2_2 = 48, 16
# Of frames to a latent: so many channels say in an image condition which of them are given.
_FRAMES = 4
# Subfolders of checkpoints that see images.
IMAGE_PARTS = ("image_encoder", "image_processor")

_SHARED: dict[str, Rule] = {
    "num_layers": whole_number(1, 1000),
    "num_attention_heads": whole_number(1, 1024),
    "attention_head_dim": whole_number(6, 4096),
    "out_channels": whole_number(1, 4096),
    "patch_size": _patch,
    "text_dim": whole_number(1, 65_536),
    "freq_dim": whole_number(2, 65_536),
    "ffn_dim": whole_number(1, 2**20),
    "rope_max_seq_len": whole_number(1, 2**20),
    "eps": finite_number(above=0, most=1),
}
_TRANSFORMER = {
    **_SHARED,
    "in_channels": whole_number(1, 8196),
    "image_dim": whole_number(1, 65_536, none=True),
    "added_kv_proj_dim": whole_number(1, 65_536, none=True),
    "pos_embed_seq_len": _only(None, "checkpoints for first and last frame are not supported"),
}
_BRANCH = {"_class_name": one_of(WAN_BRANCH), **_SHARED, "hole_fill": finite_number(least=-1, most=1)}
_VAE: dict[str, Rule] = {
    "_class_name": one_of("AutoencoderKLWan"),
    "base_dim": whole_number(1, 8192),
    "z_dim": whole_number(1, 1024),
    "num_res_blocks": whole_number(1, 64),
    "dim_mult": _widths,
    "temperal_downsample": _halvings,
    "latents_mean": _numbers,
    "latents_std": _deviations,
    "scale_factor_spatial": _only(8, _PLAIN),
    "scale_factor_temporal": _only(4, _PLAIN),
    "patch_size": _only(None, _PLAIN),
    "is_residual": _only(False, _PLAIN),
    "decoder_base_dim": whole_number(1, 8192, none=True),
}
# What has to stand there: the class's defaults are Wan 2.1's.
_VAE_2_2 = {"scale_factor_spatial": SPATIAL_2_2, "patch_size": 2, "is_residual": True, "z_dim": CHANNELS_2_2}
_SCHEDULER: dict[str, Rule] = {
    "_class_name": one_of(*FLOW_SCHEDULERS.values()),
    "num_train_timesteps": _as_wan(1000),
    "prediction_type": one_of("flow_prediction"),
    "flow_shift": finite_number(above=0, most=1000),
    "shift": finite_number(above=0, most=1000),
    "solver_order": whole_number(1, 2),
    "solver_type": one_of("bh2"),
    "disable_corrector": _as_wan([]),
    "final_sigmas_type": one_of("zero"),
    **{name: _as_wan(True) for name in ("use_flow_sigmas", "predict_x0", "lower_order_final")},
    **{
        name: _as_wan(False)
        for name in ("use_dynamic_shifting", "thresholding", "invert_sigmas", "stochastic_sampling")
    },
    **{f"use_{kind}_sigmas": _as_wan(False) for kind in ("karras", "exponential", "beta")},
    "shift_terminal": _as_wan(None),
}
# Of WanPipeline: one backbone for all noise, one timestep for all tokens.
_INDEX: dict[str, Rule] = {
    "boundary_ratio": _only(None, "Wan 2.2's pairs of transformers are not supported"),
    "expand_timesteps": _only(False, "Wan 2.2's 5B alone has times of tokens"),
}
# Of CLIP, and of what brings frames to its size.
_IMAGE_ENCODER: dict[str, Rule] = {
    "hidden_size": whole_number(1, 65_536),
    "intermediate_size": whole_number(1, 2**20),
    "num_attention_heads": whole_number(1, 1024),
    "num_hidden_layers": whole_number(1, 1000),
    "image_size": whole_number(1, 4096),
    "patch_size": whole_number(1, 4096),
}


def _compare_part(part: str, config: Mapping[str, Any], header: Header, file: Path) -> None:
    if part == "branch":
        if config.get("_class_name") == WAN_BRANCH:
            _compare_transformer(config, header, file, channels=2 * config.get("out_channels", 16) + 1)
    elif part == "transformer":
        _compare_channels(config, file)
        _compare_transformer(config, header, file, channels=config.get("in_channels", 16))
    elif part == "vae":
        _compare_vae(config, header, file)
    elif part == "text_encoder":
        compare_text_encoder(config, header, file)


def _compare_channels(config: Mapping[str, Any], file: Path) -> None:
    """Text-to-video, or image-to-video: with 4 channels of a mask and the image's latents beside the noisy ones."""
    channels, latents = config.get("in_channels", 16), config.get("out_channels", 16)
    plain, with_image = latents, 2 * latents + _FRAMES
    if channels not in (plain, with_image):
        refuse("in_channels", f"{plain} (text to video) or {with_image} (image to video)", channels, file)
    if config.get("image_dim") is None:
        return
    if channels != with_image:
        refuse("image_dim", f"null where in_channels are {channels}", config["image_dim"], file)
    width = config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128)
    if config.get("added_kv_proj_dim") != width:
        refuse(
            "added_kv_proj_dim",
            f"{width}, the width of a backbone that sees images",
            config.get("added_kv_proj_dim"),
            file,
        )


def _compare_transformer(config: Mapping[str, Any], header: Header, file: Path, channels: int) -> None:
    compare_value("num_layers", count_parts(header, WAN_BLOCKS), config, file)
    shape = header.get("patch_embedding.weight")
    if shape is not None and len(shape) == 5:
        heads, size = config.get("num_attention_heads", 40), config.get("attention_head_dim", 128)
        compare_value("num_attention_heads * attention_head_dim", shape[0], config, file, of=heads * size)
        compare_value("in_channels", shape[1], config, file, of=channels)
        compare_value("patch_size", shape[3], config, file, of=config.get("patch_size", [1, 2, 2])[1])
    for name, weight, side in (
        ("text_dim", "condition_embedder.text_embedder.linear_1.weight", 1),
        ("freq_dim", "condition_embedder.time_embedder.linear_1.weight", 1),
        ("ffn_dim", "blocks.0.ffn.net.0.proj.weight", 0),
        ("image_dim", "condition_embedder.image_embedder.ff.net.0.proj.weight", 1),
        ("added_kv_proj_dim", "blocks.0.attn2.add_k_proj.weight", 1),
    ):
        found = header.get(weight)
        compare_value(name, found and found[side], config, file)


def _compare_vae(config: Mapping[str, Any], header: Header, file: Path) -> None:
    into, back = header.get("encoder.conv_in.weight"), header.get("decoder.conv_in.weight")
    multiples = config.get("dim_mult", [1])
    compare_value("base_dim", into and into[0], config, file, of=config.get("base_dim", 96) * multiples[0])
    compare_value("z_dim", back and back[1], config, file)
    for name in ("latents_mean", "latents_std"):
        if name in config:
            compare_value(name, config.get("z_dim", 16), config, file, of=len(config[name]))


def _compare_part_2_2(part: str, config: Mapping[str, Any], header: Header, file: Path) -> None:
    _compare_part(part, config, header, file)
    if part == "transformer" and config.get("in_channels", 16) != CHANNELS_2_2:
        refuse("in_channels", f"{CHANNELS_2_2} as out_channels", config.get("in_channels", 16), file)
    if part == "vae":
        for name, wanted in _VAE_2_2.items():
            if config.get(name) != wanted:
                refuse(name, f"{wanted} beside a transformer of {CHANNELS_2_2} channels", config.get(name), file)


_RULES: dict[str, Rules] = {
    "index": _INDEX,
    "transformer": _TRANSFORMER,
    "branch": _BRANCH,
    "vae": _VAE,
    "text_encoder": TEXT_RULES,
    "image_encoder": _IMAGE_ENCODER,
    "scheduler": _SCHEDULER,
}
_JOINTS = (
    ("text_encoder", "d_model", "text_dim"),
    ("vae", "z_dim", "out_channels"),
    ("image_encoder", "hidden_size", "image_dim"),
)
WAN_CONFIGS = FamilyConfigs(rules=_RULES, compare=_compare_part, joints=_JOINTS)
WAN_2_2_CONFIGS = FamilyConfigs(
    rules={
        **_RULES,
        "index": {**_INDEX, "expand_timesteps": _only(True, "the image's tokens have a time of their own")},
        "vae": {**_VAE, **{name: _only(wanted, _DENSE) for name, wanted in _VAE_2_2.items()}},
    },
    compare=_compare_part_2_2,
    joints=_JOINTS,
)
