"""What a Wan checkpoint's config says, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from videopainter.models.backbones.costs import MemoryCosts
from videopainter.models.backbones.grid import LatentGrid
from videopainter.models.backbones.wan_video.configs import (
    CHANNELS_2_2,
    FLOW_SCHEDULERS,
    IMAGE_PARTS,
    SPATIAL_2_2,
    WAN_2_2_CONFIGS,
    WAN_BLOCKS,
    WAN_BRANCH,
    WAN_CONFIGS,
)
from videopainter.models.config_values import FamilyConfigs

# Height and width that Wan 2.1's 1.3B was trained on, and the smaller of the 14B's two sizes.
TRAINED_SIZE = (480, 832)
TRAINED_SIZE_2_2 = (704, 1280)
_VAE_CHANNELS = 96
# Of Wan 2.2's 5B: a step's peak lies in the modulation of every token. Where the VAE's tiles are 256 pixels for the
# decoder, they are 512 for the encoder, which upstream lets count pairs of pixels as one.
COSTS_2_2 = MemoryCosts(
    encode=3_745,
    decode=10_820,
    tiled_decode=10_820,
    encode_large=3_745,
    large=math.inf,
    encode_frame=6.3,
    encode_tile=2,
    tiled_whole=790,
    channels=256,
    step=34.8,
    exact=(math.inf, 0.0),
    compact={1: (33.3, 3.0), 2: (33.3, 3.0)},
)
_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")


class WanFacts:
    """Facts of one backbone.

    Args:
        config: Of the transformer: its `config.json`, or a loaded model's.
    """

    family = "Wan"
    schedulers: Mapping[str, str] = FLOW_SCHEDULERS
    branch_class = WAN_BRANCH
    # Of branch and backbone: what must be alike for features to fit.
    shared_config: Sequence[str] = (
        "num_attention_heads",
        "attention_head_dim",
        "out_channels",
        "patch_size",
        "text_dim",
    )
    dynamic_guidance = False
    blocks = WAN_BLOCKS
    # Of ID resampling: zero keys in the softmax are the public release's, and no Wan was trained with them.
    forms: Sequence[str] = ("compact",)
    num_train_timesteps = 1000
    # A latent inside a clip holds four frames, the first one: Wan was never shown the former as an image.
    image_from_pixels = True
    noised_images = False
    # Height and width of the VAE's tiles, upstream's.
    tile: tuple[int, int] = (256, 256)

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        patch_t, patch, _ = config.get("patch_size", (1, 2, 2))
        channels = config.get("out_channels") or 16
        # Tokens of the image have a time of their own, 0 (`expand_timesteps`); else it lies beside the latents.
        self.times_of_tokens = channels == CHANNELS_2_2
        spatial = SPATIAL_2_2 if self.times_of_tokens else 8
        self.grid = LatentGrid(temporal=4, spatial=spatial, patch=patch, patch_t=patch_t, channels=channels)

    @property
    def width(self) -> int:
        """Numbers in a token."""
        return self.config["num_attention_heads"] * self.config["attention_head_dim"]

    @property
    def num_layers(self) -> int:
        return self.config["num_layers"]

    @property
    def costs(self) -> MemoryCosts:
        """A step's peak lies in the attention, or in the feed-forward where that is wide, as in the 1.3B."""
        if self.times_of_tokens:
            return COSTS_2_2
        wide = self.config["ffn_dim"] / self.width
        return MemoryCosts(
            encode=7_460,
            decode=10_160,
            tiled_decode=10_160,
            encode_large=7_460,
            large=math.inf,
            encode_frame=0.4,
            tiled_whole=790,
            channels=_VAE_CHANNELS,
            step=max(15.35, 8.15 + 2 * wide),
            exact=(math.inf, 0.0),  # there is no such form
            compact={1: (12.5, 6.0), 2: (12.5, 6.0)},
        )

    def vae_channels(self, config: Mapping[str, Any]) -> int:
        """Channels of a VAE at full resolution, from its config: of the decoder, which has more where they differ."""
        return config.get("decoder_base_dim") or config.get("base_dim", _VAE_CHANNELS)

    def scheduler_options(self, config: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The shift of the noise levels, which each of the schedulers calls otherwise."""
        shift = config.get("flow_shift") or config.get("shift") or 1.0
        if name == "euler":
            return {"shift": shift}
        return {"flow_shift": shift, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}

    @staticmethod
    def configs_for(config: Mapping[str, Any]) -> FamilyConfigs:
        """Wan 2.2's 5B has a VAE of its own."""
        return WAN_2_2_CONFIGS if config.get("out_channels") == CHANNELS_2_2 else WAN_CONFIGS

    @property
    def pipeline(self) -> str:
        """Class in `pipelines/inpaint.py`."""
        beside = self.image_conditioned and not self.times_of_tokens
        return "VideoPainterWanImageToVideoPipeline" if beside else "VideoPainterWanPipeline"

    @property
    def parts(self) -> Sequence[str]:
        """Subfolders of a checkpoint."""
        return *_PARTS, *(IMAGE_PARTS if self.sees_images else ())

    @property
    def foreign_parts(self) -> Sequence[str]:
        """The second of Wan 2.2's two experts, and an image encoder that the transformer would not ask."""
        return "transformer_2", *(() if self.sees_images else IMAGE_PARTS[:1])

    @property
    def image_conditioned(self) -> bool:
        """Whether it takes an image: beside the noisy latents with a mask (I2V), or as the first of them (2.2's 5B)."""
        return self.times_of_tokens or self.config.get("in_channels", 16) > self.grid.channels

    def image_latents(self, latent_frames: int) -> int:
        """All: of the frame, and of grey ones behind it. Where it is the first latent: one."""
        return 1 if self.times_of_tokens else latent_frames

    @property
    def sees_images(self) -> bool:
        """Whether its blocks attend to embeddings of the image, too: Wan 2.1's do, 2.2's do not."""
        return self.config.get("image_dim") is not None

    @property
    def text_tokens(self) -> int:
        """Length that prompts are padded to and cut at."""
        return 512

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels; no config of Wan tells them."""
        return TRAINED_SIZE_2_2 if self.times_of_tokens else TRAINED_SIZE
