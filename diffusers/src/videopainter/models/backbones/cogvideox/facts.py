"""What a CogVideoX checkpoint's config says, without torch: checks, sizes and memory are known before models load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from videopainter.models.backbones.cogvideox.configs import BLOCKS, BRANCH_CLASS, CONFIGS, SCHEDULERS, latent_channels
from videopainter.models.backbones.costs import MemoryCosts
from videopainter.models.backbones.grid import LatentGrid
from videopainter.models.checkpoint_files import FORMS
from videopainter.models.config_values import FamilyConfigs

# Height and width that CogVideoX 1.5 was trained on and its model card recommends.
SIZE_1_5 = (768, 1360)


# Upstream cuts the VAE's convolutions of larger frames in time, and joins copies.
COGVIDEOX_COSTS = MemoryCosts(
    encode=19_060,
    decode=33_040,
    tiled_decode=33_500,
    encode_large=22_900,
    large=762_000,
    encode_frame=6.3,  # in and out of the encoder
    tiled_whole=640,
    channels=128,
    step=19.2,
    exact=(21.1, 2.05),
    compact={1: (17.9, 4.4), 2: (18.7, 1.5)},
)


class CogVideoXFacts:
    """Facts of one backbone.

    Args:
        config: Of the transformer: its `config.json`, or a loaded model's.
    """

    family = "CogVideoX"
    pipeline = "VideoPainterPipeline"
    parts: Sequence[str] = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    foreign_parts: Sequence[str] = ()
    schedulers: Mapping[str, str] = SCHEDULERS
    branch_class = BRANCH_CLASS
    # Of branch and backbone: what must be alike for features to fit.
    shared_config: Sequence[str] = (
        "num_attention_heads",
        "attention_head_dim",
        "out_channels",
        "patch_size",
        "patch_size_t",
        "text_embed_dim",
    )
    dynamic_guidance = True
    blocks = BLOCKS
    forms: Sequence[str] = FORMS
    num_train_timesteps = 1000
    image_from_pixels = False
    noised_images = True
    costs = COGVIDEOX_COSTS
    # Height and width of the VAE's tiles, upstream's for 480×720.
    tile: tuple[int, int] = (240, 360)

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.grid = LatentGrid(
            temporal=config.get("temporal_compression_ratio", 4),
            spatial=8,
            patch=config.get("patch_size", 2),
            patch_t=config.get("patch_size_t") or 1,
            channels=latent_channels(config),
        )

    @staticmethod
    def configs_for(config: Mapping[str, Any]) -> FamilyConfigs:
        """The same for all."""
        return CONFIGS

    @property
    def is_1_5(self) -> bool:
        """CogVideoX 1.5 joins latent frames in pairs."""
        return self.config.get("patch_size_t") is not None

    @property
    def width(self) -> int:
        """Numbers in a token."""
        return self.config["num_attention_heads"] * self.config["attention_head_dim"]

    @property
    def num_layers(self) -> int:
        return self.config["num_layers"]

    def vae_channels(self, config: Mapping[str, Any]) -> int:
        """Channels of a VAE at full resolution, from its config."""
        return config.get("block_out_channels", [self.costs.channels])[0]

    def scheduler_options(self, config: Mapping[str, Any], name: str) -> dict[str, Any]:
        """None: both schedulers take the same config."""
        return {}

    @property
    def image_conditioned(self) -> bool:
        """Whether the backbone takes image latents (I2V), or not (T2V)."""
        return self.config["in_channels"] > self.grid.channels

    def image_latents(self, latent_frames: int) -> int:
        """One: the frame's own."""
        return 1

    @property
    def text_tokens(self) -> int:
        """Length that prompts are padded to and cut at.

        226 also in the published configs of 1.5, whose model card says 224; diffusers runs it with 226, too.
        """
        return self.config.get("max_text_seq_length", 226)

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels that the backbone was trained on.

        1.0: its config's sample size. 1.5: the config names the largest rotary grid, of which smaller frames see a
        part: 300×300 latents are 2400×2400 pixels, five and a half times what it was trained on.
        """
        height, width = (self.config[f"sample_{side}"] * self.grid.spatial for side in ("height", "width"))
        return SIZE_1_5 if self.is_1_5 and height * width > SIZE_1_5[0] * SIZE_1_5[1] else (height, width)
