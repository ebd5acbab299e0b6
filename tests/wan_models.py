"""Small Wan models with random weights, and a checkpoint of them in the published layout."""

import shutil
from pathlib import Path

import torch
from conftest import TEXT_DIM, TINY
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.backbones.wan_video.transformer import VideoPainterWanTransformer3DModel
from videopainter.pipelines.inpaint import VideoPainterWanImageToVideoPipeline, VideoPainterWanPipeline

CONFIG = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": TEXT_DIM,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 4,
    "rope_max_seq_len": 64,
}
# Wan 2.1's scheduler at 480p.
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0, "num_train_timesteps": 1000}


def make_transformer(cls=VideoPainterWanTransformer3DModel, **changes):
    torch.manual_seed(0)
    return cls(**{**CONFIG, **changes}).eval()


def make_branch(transformer, *, trained=True, **options):
    """A branch of two layers; `trained`: its features are not zero."""
    branch = WanBranchModel.from_transformer(transformer, num_layers=2, **options).eval()
    torch.manual_seed(1)
    if trained:
        for layer in branch.branch_blocks:
            torch.nn.init.normal_(layer.weight, std=0.2)
        torch.nn.init.normal_(branch.patch_embedding.weight[:, -1:], std=0.2)
    return branch


def make_vae():
    torch.manual_seed(2)
    statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 2.0, 0.8, 1.1]}
    return AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, **statistics).eval()


def make_scheduler(kind="unipc"):
    return UniPCMultistepScheduler(**FLOW) if kind == "unipc" else FlowMatchEulerDiscreteScheduler(shift=3.0)


def make_pipeline(transformer=None, scheduler="unipc", with_branch=True):
    """A pipeline without text encoder: it takes prompt embeddings."""
    transformer = transformer or make_transformer()
    branch = make_branch(transformer) if with_branch else None
    pipe = VideoPainterWanPipeline(None, None, make_vae(), transformer, make_scheduler(scheduler), branch)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# As Wan 2.1's image-to-video models: a mask of four frames and the image's latents beside the noisy ones, and CLIP.
IMAGE_TO_VIDEO = {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}


def make_image_encoder():
    """(processor, encoder): five tokens to an image."""
    torch.manual_seed(4)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    encoder = CLIPVisionModel(CLIPVisionConfig(image_size=28, patch_size=14, **size)).eval()
    return CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}), encoder


def make_image_pipeline(transformer=None, scheduler="unipc", with_branch=True, sees=True):
    """The same with an image-to-video backbone; `sees`: through CLIP, too."""
    changes = IMAGE_TO_VIDEO if sees else {"in_channels": 12}
    transformer = transformer or make_transformer(**changes)
    branch = make_branch(transformer) if with_branch else None
    images = make_image_encoder() if sees else ()
    pipe = VideoPainterWanImageToVideoPipeline(
        None, None, make_vae(), transformer, make_scheduler(scheduler), branch, *images
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


# As Wan 2.2's 5B: a VAE of 48 channels and 16 pixels, of which the transformer has tokens with times of their own.
DENSE = {"in_channels": 48, "out_channels": 48}


def make_dense_vae():
    torch.manual_seed(5)
    statistics = {"latents_mean": torch.randn(48).tolist(), "latents_std": (torch.rand(48) + 0.5).tolist()}
    size = {"base_dim": 4, "decoder_base_dim": 6, "z_dim": 48, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
    kind = {"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
    return AutoencoderKLWan(**size, **kind, **statistics).eval()


def make_dense_pipeline(transformer=None, scheduler="unipc"):
    """The same with a backbone as Wan 2.2's 5B."""
    transformer = transformer or make_transformer(**DENSE)
    parts = None, None, make_dense_vae(), transformer, make_scheduler(scheduler), make_branch(transformer)
    pipe = VideoPainterWanPipeline(*parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_text_encoder(tokenizer):
    torch.manual_seed(3)
    size = {"d_model": TEXT_DIM, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **size)).eval()


def write_checkpoint(folder: Path, kind: str = "t2v") -> Path:
    """What upstream's pipeline writes, and a branch beside it; upstream's classes in its index.

    Args:
        kind: ``t2v``, ``i2v``, or ``ti2v`` (Wan 2.2's 5B).
    """
    shutil.copytree(TINY / "tokenizer", folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    changes = {"t2v": {}, "i2v": IMAGE_TO_VIDEO, "ti2v": DENSE}[kind]
    transformer = make_transformer(**changes)
    upstream = WanTransformer3DModel(**{**CONFIG, **changes})
    upstream.load_state_dict(transformer.state_dict())
    vae = make_dense_vae() if kind == "ti2v" else make_vae()
    parts = tokenizer, make_text_encoder(tokenizer), vae, make_scheduler()
    if kind == "i2v":
        WanImageToVideoPipeline(*parts, *make_image_encoder(), upstream).save_pretrained(folder)
    else:
        WanPipeline(*parts, upstream, expand_timesteps=kind == "ti2v").save_pretrained(folder)
    make_branch(transformer).save_pretrained(folder / "branch")
    return folder
