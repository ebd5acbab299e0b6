"""Wan's memory figures: never below what is counted on the real modules at the published sizes, and near it."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch._subclasses.fake_tensor import FakeTensorMode

from videopainter.models.backbones.cogvideox.published import default_dtype, without_storage
from videopainter.models.backbones.wan_video import decoder
from videopainter.models.backbones.wan_video.adapter import Wan
from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.backbones.wan_video.codec import WanCodec
from videopainter.models.backbones.wan_video.facts import WanFacts
from videopainter.models.backbones.wan_video.transformer import VideoPainterWanTransformer3DModel
from videopainter.models.id_resample import ClipMemory, HoleTokens, IDResample
from videopainter.models.live_bytes import LiveBytes, fused_attention, weights_of
from videopainter.pipelines.memory import ModelSizes, Workload, decode_bytes, encode_bytes, step_bytes

# Wan-AI/Wan2.1-T2V-1.3B-Diffusers, -14B-Diffusers and Wan2.1-I2V-14B-480P-Diffusers; what they leave out is the class's
# default.
PUBLISHED = {
    "1.3B": {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30},
    "14B": {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40},
}
# Wan-AI/Wan2.2-TI2V-5B-Diffusers.
PUBLISHED["5B"] = {"num_attention_heads": 24, "attention_head_dim": 128, "ffn_dim": 14336, "num_layers": 30}
PUBLISHED["5B"] |= {"in_channels": 48, "out_channels": 48}
VAE_2_2 = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2}
VAE_2_2 |= {"in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
VAE_2_2 |= {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}
VAES = {"1.3B": {}, "5B": VAE_2_2}
PUBLISHED["14B I2V"] = {**PUBLISHED["14B"], "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}


def sizes_of(name, **changes):
    facts = WanFacts({"out_channels": 16, "patch_size": (1, 2, 2), **PUBLISHED[name]})
    sizes = ModelSizes(text_encoder=0, transformer=0, vae=0, width=facts.width, text_tokens=facts.text_tokens)
    channels = facts.vae_channels(VAES.get(name, {}))
    return replace(sizes, costs=facts.costs, channels=channels, tile=facts.tile, grid=facts.grid, **changes)


def in_half_precision(build):
    with torch.device("meta"), default_dtype(torch.bfloat16):
        model = build()
    return model.to(torch.bfloat16)


def close_above(figure, counted, most):
    assert counted <= figure <= most * counted, f"{figure / counted:.3f} of what is counted"


# Few frames in tiles: the room for 48 of them is not used.
@pytest.mark.parametrize("tiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["1.3B", "5B"])
def test_the_vae(name, tiled, monkeypatch):
    vae, grid = in_half_precision(lambda: AutoencoderKLWan(**VAES[name])), sizes_of(name).grid
    height, width, frames, most = (272, 512, 9, 1.02) if tiled else (240, 416, 9, 1.02)
    if tiled and name == "5B":
        height = 544
    work = Workload(height=height, width=width, num_frames=frames)
    with FakeTensorMode(), torch.no_grad():
        without_storage(vae)
        if tiled:
            WanCodec(vae).tile()
        video = torch.empty(1, 3, frames, height, width, dtype=torch.bfloat16)
        with LiveBytes([*weights_of(vae), video]) as memory:
            vae.encode(video)
        close_above(encode_bytes(sizes_of(name), work, tiling=tiled), memory.peak, most)
        memory = LiveBytes(weights_of(vae))

        def moved(entry, device):
            if not tiled or not isinstance(entry, torch.Tensor):
                return entry
            stand_in = torch.empty_like(entry)
            memory.leave(stand_in)
            return stand_in

        monkeypatch.setattr(decoder, "_moved", moved)
        with memory:
            size = 1, grid.channels, 1, height // grid.spatial, width // grid.spatial
            latents = (torch.empty(*size, dtype=torch.bfloat16) for _ in range(3))
            assert sum(1 for _ in decoder.StreamedDecoder(vae, torch.device("cpu")).decode(latents)) == (
                1 if tiled else 3
            )
    close_above(
        decode_bytes(sizes_of(name), work, tiling=tiled),
        memory.peak,
        (1.6 if name == "5B" else 1.18) if tiled else 1.02,
    )


@pytest.mark.parametrize(
    ("name", "form", "share", "hands_on", "guidance"),
    [
        ("1.3B", None, 0.0, False, True),
        ("1.3B", "compact", 1.0, True, False),
        ("14B", None, 0.0, False, False),
        ("14B", "compact", 0.5, True, True),
        ("14B", "compact", 1.0, False, True),
        ("5B", None, 0.0, False, True),
        ("5B", "compact", 1.0, True, False),
        ("14B I2V", None, 0.0, False, True),
        ("14B I2V", "compact", 0.5, True, False),
    ],
)
def test_a_step(name, form, share, hands_on, guidance):
    blocks, batch = 2, 2 if guidance else 1
    work = Workload(height=480, width=832, num_frames=33, guidance=guidance)
    work = replace(work, form=form, hole_share=share, hands_on=hands_on)
    figure = step_bytes(sizes_of(name, num_layers=blocks), work)
    close_above(figure, counted_step({**PUBLISHED[name], "num_layers": blocks}, work, batch), 1.13)


def counted_step(config, work, batch):
    backbone = in_half_precision(lambda: VideoPainterWanTransformer3DModel(**config))
    known = {name: value for name, value in config.items() if name in WanBranchModel._get_init_keys(WanBranchModel)}
    branch = in_half_precision(lambda: WanBranchModel(**{**known, "num_layers": 2}))
    grid = WanFacts(config).grid
    latents, (height, width) = grid.latent_frames(work.num_frames), grid.latent_size(work.height, work.width)
    tokens, options = latents * height * width // 4, {"dtype": torch.bfloat16}
    with FakeTensorMode(), torch.no_grad(), fused_attention():
        for model in (backbone, branch):
            without_storage(model).set_attention_backend("native")
        with LiveBytes(weights_of(backbone, branch)) as memory:

            def draw(channels):
                return torch.empty(1, latents, channels, height, width, **options).expand(batch, -1, -1, -1, -1)

            noisy, condition = draw(grid.channels), draw(grid.channels + 1)
            images = {"image_latents": None}
            if "image_dim" in config:
                images = {"image_latents": draw(20), "image_embeds": torch.empty(batch, 257, 1280, **options)}
            elif grid.channels == 48:
                images = {"image_latents": draw(49)}
            hole = HoleTokens(torch.zeros(batch, int(tokens * work.hole_share), dtype=torch.int64), None)
            hidden = [
                torch.empty(*hole.index.shape, Wan(backbone.config).facts.width, **options)
                for _ in range(config["num_layers"])
                if work.hands_on
            ]
            resample = None
            if work.form:
                previous = ClipMemory(hole, hidden, used_once=True) if work.hands_on else None
                resample = IDResample(hole, work.form, previous, 0.5 if previous else 0.0, work.hands_on)
            del hidden
            output = Wan(backbone.config).predict(
                backbone,
                branch,
                noisy,
                branch_cond=condition,
                prompt_embeds=torch.empty(batch, 512, 4096, **options),
                timestep=torch.full((batch,), 500),
                positions=(torch.empty(1, tokens, 1, 128), torch.empty(1, tokens, 1, 128)),
                background=torch.ones(batch, tokens, dtype=torch.bool),
                id_resample=resample,
                **images,
            )
            output.float().chunk(batch)
        return memory.peak
