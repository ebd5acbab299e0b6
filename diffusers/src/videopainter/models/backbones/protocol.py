"""What is asked of a family of backbones. Loss and sampler ask the same object, so that they cannot disagree.

A family is two classes: facts, which a checkpoint's config answers without torch, and the adapter, which computes.
Latents are (B, T, C, h, w) everywhere outside of an adapter, whatever layout its models take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch

    from videopainter.models.backbones.costs import MemoryCosts
    from videopainter.models.backbones.grid import LatentGrid
    from videopainter.models.config_values import FamilyConfigs
    from videopainter.models.id_resample import IDResample


class Facts(Protocol):
    """What the transformer's config says; see `CogVideoXFacts`."""

    family: str
    grid: LatentGrid
    schedulers: Mapping[str, str]  # name of the flag -> class of diffusers
    branch_class: str
    blocks: str  # attribute that holds the backbone's blocks, and what their weights' names begin with
    forms: Sequence[str]  # of ID resampling
    tile: tuple[int, int]  # height and width of the VAE's tiles
    config: Mapping[str, Any]
    shared_config: Sequence[str]  # what branch and backbone must have alike
    dynamic_guidance: bool  # whether guidance may grow over the steps
    num_train_timesteps: int

    @property
    def width(self) -> int:
        """Numbers in a token."""
        ...

    @property
    def num_layers(self) -> int:
        """Blocks of the backbone."""
        ...

    @property
    def costs(self) -> MemoryCosts:
        """Device memory beside the weights."""
        ...

    def vae_channels(self, config: Mapping[str, Any]) -> int:
        """Channels of a VAE at full resolution, from its config."""
        ...

    def scheduler_options(self, config: Mapping[str, Any], name: str) -> dict[str, Any]:
        """What the scheduler of this name takes beside a checkpoint's scheduler config, which may be another's."""
        ...

    @property
    def pipeline(self) -> str:
        """Class in `pipelines/inpaint.py`."""
        ...

    @property
    def parts(self) -> Sequence[str]:
        """Subfolders of a checkpoint."""
        ...

    @property
    def foreign_parts(self) -> Sequence[str]:
        """Those of checkpoints that are of the family, but not supported."""
        ...

    @staticmethod
    def configs_for(config: Mapping[str, Any]) -> FamilyConfigs:
        """What this transformer's `config.json`, not checked yet, and those of the other parts may say."""
        ...

    @property
    def image_conditioned(self) -> bool:
        """Whether it takes an image condition."""
        ...

    @property
    def image_from_pixels(self) -> bool:
        """Whether its image is always a frame of pixels; else a clip's own latents serve where it goes on."""
        ...

    def image_latents(self, latent_frames: int) -> int:
        """How many latents an image condition is made of, for a clip of so many."""
        ...

    @property
    def noised_images(self) -> bool:
        """Whether it was trained with noise on images."""
        ...

    @property
    def text_tokens(self) -> int:
        """Length of prompt embeddings."""
        ...

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width that it was trained on; their area is what a video is worked at."""
        ...


class Codec(Protocol):
    """A VAE: pixels (B, 3, F, H, W) in [−1, 1] to latents in the backbone's scale, and back."""

    device: torch.device

    @property
    def dtype(self) -> torch.dtype: ...

    def encode(self, video_BCTHW: torch.Tensor) -> torch.Tensor: ...

    def as_image_condition(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of an image in the scale that the backbone's image condition has."""
        ...

    def decode_stream(self, latents: Iterable[torch.Tensor], num_latents: int) -> Iterator[torch.Tensor]:
        """Pixels (1, 3, t, H, W) piece by piece, equal to decoding all at once."""
        ...

    def tile(self) -> None:
        """Work in tiles from now on: less memory."""
        ...


class Steps(Protocol):
    """The noise levels of one window and the way from one to the next; the host never waits for the device."""

    latent_dtype: torch.dtype | None  # of latents between steps; None: the models'
    values: list[int]  # timesteps on the host, largest first
    timesteps: torch.Tensor  # the same on the device

    def __len__(self) -> int: ...

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """What pure noise is before the first step."""
        ...

    def model_input(self, step: int, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the model takes them at `step`."""
        ...

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents at the noise level before `step`; clean ones after the last."""
        ...

    def step(self, step: int, output: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Latents after `step`, given the model's output there."""
        ...


class Process(Protocol):
    """The diffusion: how noise is added, what the model is to say, how a sample is drawn."""

    def draw_time(self, generator: torch.Generator, *, late: bool = False) -> int:
        """A timestep of training; `late`: with as little noise as at a window's last steps."""
        ...

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor: ...

    def errors(
        self,
        output: torch.Tensor,
        noisy: torch.Tensor,
        clean: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """Squared and weighted error of every number of the model's output: the loss is its mean."""
        ...

    def steps(
        self, num_inference_steps: int, last: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Steps:
        """The `last` steps of `num_inference_steps`."""
        ...

    def dynamic_guidance(self, scale: float, num_inference_steps: int, t: float) -> float:
        """Guidance that grows over the steps; `scale` where the family has no such one."""
        ...


class EncodedImage(NamedTuple):
    """An image as a backbone's condition is made of it: latents (B, T', C, h, w), and embeddings (B, N, E) where the
    backbone sees it through an image encoder, too."""

    latents: torch.Tensor
    embeds: torch.Tensor | None = None


class Classes(NamedTuple):
    """What a checkpoint's parts are loaded as."""

    transformer: type
    branch: type
    vae: type
    text_encoder: type


class Backbone(Protocol):
    """The adapter of a family; see `CogVideoX`."""

    @property
    def classes(self) -> Classes: ...

    @property
    def facts(self) -> Facts: ...

    @property
    def grid(self) -> LatentGrid: ...

    def process(self, scheduler: Any) -> Process: ...

    def sampling_scheduler(self, scheduler: Any) -> Any:
        """The noise schedule of training in the scheduler that inference uses by default."""
        ...

    def embed_text(
        self, tokenizer: Any, text_encoder: Any, text: str, max_length: int, device: torch.device
    ) -> torch.Tensor:
        """Embeddings (1, S, E) of one text, padded to `max_length` tokens and cut there."""
        ...

    def positions(self, latents: torch.Tensor) -> Any:
        """Position tables for latents of this size, on their device."""
        ...

    def encode_image(
        self,
        codec: Codec,
        image_encoder: Callable[[torch.Tensor], torch.Tensor] | None,
        frame_BCTHW: torch.Tensor,
        num_frames: int,
    ) -> EncodedImage:
        """What the image condition of a clip is made of.

        Args:
            image_encoder: Frames (B, 3, 1, H, W) to embeddings; None where the backbone has none.
            frame_BCTHW: (B, 3, 1, H, W) in [−1, 1].
            num_frames: Of the clip.
        """
        ...

    def image_condition(self, first_latent: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
        """The image condition for latents like `like`, from `encode_image`'s latents or a clip's own one (B, 1, C, h,
        w); of no image what times 0 makes of any, or None where that is the same. None for T2V backbones."""
        ...

    def known(self, image_latents: torch.Tensor | None) -> torch.Tensor | None:
        """Which latents an image condition says outright (B, T, 1, h, w), 1 = known; None: it says none so."""
        ...

    def with_known(self, latents: torch.Tensor, image_latents: torch.Tensor | None) -> torch.Tensor:
        """Latents (B, T, C, h, w) with the known ones in their places."""
        ...

    def predict(
        self,
        transformer: Any,
        branch: Any,
        noisy: torch.Tensor,
        image_latents: torch.Tensor | None,
        branch_cond: torch.Tensor,
        prompt_embeds: torch.Tensor,
        timestep: torch.Tensor,
        positions: Any,
        *,
        background: torch.Tensor | None,
        image_embeds: torch.Tensor | None = None,
        add_first: bool = False,
        id_resample: IDResample | None = None,
        conditioning_scale: float = 1.0,
    ) -> torch.Tensor:
        """One pass of context encoder (None: without) and backbone.

        Args:
            noisy: (B, T, C, h, w).
            image_latents: As `image_condition` gives them.
            image_embeds: (B, N, E), of `encode_image`; zeros hide the image. None: without.
            branch_cond: Masked-video latents and mask (B, T, C + 1, h, w).
            prompt_embeds: (B, S, E).
            timestep: (B,).
            background: Boolean (B, L), where branch features are added; None: everywhere.

        Returns:
            The model output (B, T, C, h, w).
        """
        ...
