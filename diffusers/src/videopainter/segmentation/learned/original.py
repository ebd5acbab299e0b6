"""SAM 2's own checkpoints (`sam2_hiera_large.pt`, the other sizes, 2.1) as transformers names and shapes them.

Size and version are read from the tensors, not from the file's name.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

from videopainter.errors import InputError

# Width of the first block and number of blocks -> what else differs between the published sizes.
_TRUNKS: dict[tuple[int, int], dict[str, Any]] = {
    (96, 12): {"blocks_per_stage": [1, 2, 7, 2], "global_attention_blocks": [5, 7, 9]},
    (96, 16): {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    (112, 24): {
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_positional_embedding_background_size": [14, 14],
    },
    (144, 48): {
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
_SIZES = "tiny, small, base_plus or large"

# What a name begins with, and what that becomes.
_PLACES = (
    ("image_encoder.trunk.", "vision_encoder.backbone."),
    ("image_encoder.neck.", "vision_encoder.neck."),
    ("sam_prompt_encoder.", "prompt_encoder."),
    ("sam_mask_decoder.", "mask_decoder."),
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    ("obj_ptr_proj.", "object_pointer_proj."),
    ("obj_ptr_tpos_proj.", "temporal_positional_encoding_projection_layer."),
)
_HEADS = r"(iou_prediction_head|pred_obj_score_head|object_pointer_proj|output_hypernetworks_mlps\.\d+)"
# Patterns of what is left, each applied once, in this order.
_PARTS: tuple[tuple[str, str], ...] = (
    (r"patch_embed\.proj\.", r"patch_embed.projection."),
    (r"neck\.convs\.(\d+)\.conv\.", r"neck.convs.\1."),
    # Perceptrons of two layers, and of three.
    (r"mlp\.layers\.0\.", r"mlp.proj_in."),
    (r"mlp\.layers\.1\.", r"mlp.proj_out."),
    (_HEADS + r"\.layers\.0\.", r"\1.proj_in."),
    (_HEADS + r"\.layers\.1\.", r"\1.layers.0."),
    (_HEADS + r"\.layers\.2\.", r"\1.proj_out."),
    (r"pe_layer\.positional_encoding_gaussian_matrix", r"shared_embedding.positional_embedding"),
    (r"mask_downscaling\.0\.", r"mask_embed.conv1."),
    (r"mask_downscaling\.1\.", r"mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", r"mask_embed.conv2."),
    (r"mask_downscaling\.4\.", r"mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", r"mask_embed.conv3."),
    (r"output_upscaling\.0\.", r"upscale_conv1."),
    (r"output_upscaling\.1\.", r"upscale_layer_norm."),
    (r"output_upscaling\.3\.", r"upscale_conv2."),
    (r"norm_final_attn\.", r"layer_norm_final_attn."),
    (r"mask_downsampler\.encoder\.12\.", r"mask_downsampler.final_conv."),
    (r"^memory_encoder\.out_proj\.", r"memory_encoder.projection."),
    (r"out_proj\.", r"o_proj."),
    (r"pix_feat_proj\.", r"feature_projection."),
    (r"\.fuser\.", r".memory_fuser."),
    (r"\.dwconv\.", r".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.gamma$", r".scale"),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
)
_POINTS = "prompt_encoder.point_embed.weight"
_SHARED = "shared_image_embedding.positional_embedding"


def transformers_name(name: str) -> str:
    """A tensor's name in transformers' `Sam2VideoModel`; `sam_prompt_encoder.point_embeddings.N` aside."""
    place = next((place for place in _PLACES if name.startswith(place[0])), ("", ""))
    name = place[1] + name[len(place[0]) :]
    for pattern, becomes in _PARTS:
        name = re.sub(pattern, becomes, name)
    # Convolutions and norms of the mask downsampler stand in one list, with activations between them.
    found = re.match(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.", name)
    if found:
        layer, part = divmod(int(found[1]), 3)
        kind = ("conv", "layer_norm")[part]
        name = f"memory_encoder.mask_downsampler.layers.{layer}.{kind}.{name[found.end() :]}"
    return name


def convert_original(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SAM 2's own tensors under transformers' names."""
    points: dict[int, torch.Tensor] = {}
    out: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        point = re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight", name)
        if point:
            points[int(point[1])] = tensor
        else:
            out[transformers_name(name)] = tensor
    if points:
        out[_POINTS] = torch.cat([points[k] for k in sorted(points)])
    position = out.get("prompt_encoder.shared_embedding.positional_embedding")
    if position is not None:
        out[_SHARED] = position
    return out


def original_config(shapes: Mapping[str, tuple[int, ...]]) -> Sam2VideoConfig:
    """The architecture that tensors of these names and shapes belong to; ValueError where it is no published one."""
    width = shapes.get("image_encoder.trunk.patch_embed.proj.weight", (0,))[0]
    blocks = {int(found[1]) for name in shapes if (found := re.match(r"image_encoder\.trunk\.blocks\.(\d+)\.", name))}
    trunk = _TRUNKS.get((width, len(blocks)))
    if trunk is None:
        raise ValueError(f"{len(blocks)} blocks {width} wide")
    widths = [width, 2 * width, 4 * width, 8 * width]
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": width, "embed_dim_per_stage": widths, **trunk}
    vision = {"model_type": "sam2_vision_model", "backbone_config": backbone, "backbone_channel_list": widths[::-1]}
    return Sam2VideoConfig(
        vision_config=vision,
        enable_temporal_pos_encoding_for_object_pointers="obj_ptr_tpos_proj.weight" in shapes,
        enable_occlusion_spatial_embedding="no_obj_embed_spatial" in shapes,
    )


def load_original(path: Path) -> Sam2VideoModel:
    """The model of one of SAM 2's own `.pt` files, float32, on the CPU.

    Raises:
        InputError: it is no such checkpoint, or tensors are missing, unknown or of another shape.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = content["model"]
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"expected a checkpoint of SAM 2 ({_SIZES}), got something else ({reason}): {path}") from None
    try:
        config = original_config(shapes)
    except ValueError as error:
        raise InputError(f"expected a checkpoint of SAM 2 ({_SIZES}), got {error}: {path}") from None
    with torch.device("meta"):
        model = Sam2VideoModel(config)
    found, wanted = convert_original(tensors), model.state_dict()
    wrong = [*(wanted.keys() ^ found.keys())]
    wrong += [name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape]
    if wrong:
        raise InputError(
            f"expected the {len(wanted)} tensors of SAM 2, {len(wrong)} are missing, unknown or of another shape "
            f"({', '.join(sorted(wrong)[:3])}): {path}"
        )
    return filled_model(config, {name: tensor.float() for name, tensor in found.items()})


def filled_model(config: Sam2VideoConfig, tensors: Mapping[str, torch.Tensor]) -> Sam2VideoModel:
    """A model with these tensors as its weights; what a checkpoint does not hold is computed from the config."""
    model = Sam2VideoModel(config).eval()
    model.load_state_dict(tensors, assign=True)
    return model
