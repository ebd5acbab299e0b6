"""Training samples and captions as the models see them.

The latent cache stores what these functions return; training on the fly calls them at every step. The pixels
go through the pipeline's own functions, so that training and inference cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers.integrations import deepspeed as hf_deepspeed

from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSample
from videopainter.models.backbones.protocol import Backbone, Codec
from videopainter.models.backbones.registry import codec_of, facts_of
from videopainter.models.backbones.wan_video.image_encoder import ImageEncoder
from videopainter.models.checkpoint_files import read_config
from videopainter.pipelines.conditioning import encode_clips, to_video_tensor
from videopainter.pipelines.loading import load_image_encoder, load_text_encoder, load_vae
from videopainter.training.draws import first_frame_noise


@dataclass
class EncodedPixels:
    """A batch of samples after the VAE; T = (F−1)/4+1 latents of h×w, scaled by the VAE's factor."""

    keys: list[SampleKey]
    latents: torch.Tensor  # (B, T, 16, h, w), clean
    masked_latents: torch.Tensor  # (B, T, 16, h, w), of the video whose hole is filled
    mask: torch.Tensor  # (B, T, 1, h, w), nearest neighbour, 1 = hole
    # Of the first frame (with noise, for some families), as `Backbone.encode_image` gives it: latents (B, 1 or T, 16,
    # h, w) and embeddings (B, N, E); None: backbones without.
    first_latent: torch.Tensor | None
    image_embeds: torch.Tensor | None = field(default=None, kw_only=True)
    # Of the frame that the clip's second half begins with, where its latents cannot stand in.
    second_latent: torch.Tensor | None = field(default=None, kw_only=True)
    second_embeds: torch.Tensor | None = field(default=None, kw_only=True)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same with all tensors on a device, in a dtype (None: as they are)."""
        # Only towards a GPU: a copy to the CPU that does not wait may be read before it is there.
        overlap = device is not None and torch.device(device).type == "cuda"
        return self._map(lambda tensor: tensor.to(device=device, dtype=dtype, non_blocking=overlap))

    def pin_memory(self) -> Self:
        """The same in page-locked memory (what DataLoader's `pin_memory` calls)."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        tensors = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "keys"}
        return replace(self, **{name: None if t is None else change(t) for name, t in tensors.items()})

    def with_prompts(self, prompt_embeds: torch.Tensor) -> EncodedBatch:
        """A whole batch, with prompt embeddings (B, S, E)."""
        tensors = {each.name: getattr(self, each.name) for each in fields(self)}
        return EncodedBatch(**tensors, prompt_embeds=prompt_embeds)


@dataclass
class EncodedBatch(EncodedPixels):
    """All that a training step needs beside its own draws (noise, timesteps, dropouts)."""

    prompt_embeds: torch.Tensor  # (B, S, E)


@torch.no_grad()
def encode_pixels(
    vae: Any,
    samples: Sequence[TrainingSample],
    *,
    seed: int,
    hole_fill: float = 0.0,
    images: ImageConditioning | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> EncodedPixels:
    """Encode a batch: one pass of the VAE for the videos, one for the masked videos, one for the noised first frames.

    On one CPU thread PyTorch convolves a batch of one by another algorithm than a larger one: latents then differ by
    rounding (2e-6). With `vae.enable_slicing()` every sample goes through alone, and nothing depends on its batch.

    Args:
        samples: All of one size: frames uint8 (F, H, W, 3), masks bool (F, H, W).
        seed: Of the noise on first frames (`draws.first_frame_noise`).
        hole_fill: What holes are filled with, in [−1, 1].
        images: How first frames become a condition; None: the backbone takes none.
        device: Where the VAE runs; None: where it lies.
        dtype: Of the tensors returned; None: the VAE's.
    """
    codec = codec_of(vae, device)
    dtype = dtype or codec.dtype
    video = torch.cat([to_video_tensor(sample.frames) for sample in samples])
    mask = torch.from_numpy(np.stack([sample.masks for sample in samples]))[:, None].float()
    clips = encode_clips(codec, video, mask, hole_fill)
    keys = [sample.key for sample in samples]
    conditions = {"first_latent": None} if images is None else images.encode(codec, video, keys, seed, dtype)
    # As a cache gives them back: sums over tensors laid out otherwise round otherwise.
    latents, masked = clips.latents.to(dtype).contiguous(), clips.masked_latents.to(dtype).contiguous()
    return EncodedPixels(keys, latents, masked, clips.mask.to(latents), **conditions)


@dataclass(frozen=True)
class ImageConditioning:
    """How the image condition of samples is encoded.

    Args:
        backbone: That takes images.
        encoder: Its image encoder; None: it has none.
        halves: Whether clips are cut in halves, of which the second begins with an image of its own.
    """

    backbone: Backbone
    encoder: ImageEncoder | None = None
    halves: bool = True

    @classmethod
    def of(cls, backbone: Backbone, encoder: ImageEncoder | None = None, *, halves: bool = True) -> Self | None:
        """None for a backbone that takes no images."""
        return cls(backbone, encoder, halves) if backbone.facts.image_conditioned else None

    def encode(
        self, codec: Codec, video_BCTHW: torch.Tensor, keys: Sequence[SampleKey], seed: int, dtype: torch.dtype
    ) -> dict[str, torch.Tensor | None]:
        """The fields of `EncodedPixels` that have to do with images."""
        facts, frames = self.backbone.facts, video_BCTHW.shape[2]
        if facts.image_from_pixels and frames == 1:
            return {"first_latent": None}  # the image would be the answer
        first = noised_first_frames(video_BCTHW, keys, seed) if facts.noised_images else video_BCTHW[:, :, :1]
        fields = self._encoded(codec, first, frames, ("first_latent", "image_embeds"), dtype)
        if facts.image_from_pixels and self.halves:
            start = facts.grid.latent_frames(frames) // 2 * facts.grid.temporal
            second = video_BCTHW[:, :, start : start + 1]
            fields |= self._encoded(codec, second, frames - start, ("second_latent", "second_embeds"), dtype)
        return fields

    def _encoded(
        self, codec: Codec, frame: torch.Tensor, frames: int, names: tuple[str, str], dtype: torch.dtype
    ) -> dict[str, torch.Tensor | None]:
        image = self.backbone.encode_image(codec, self.encoder, frame, frames)
        # As a cache gives them back.
        tensors = (None if x is None else x.to(dtype).contiguous() for x in image)
        return dict(zip(names, tensors, strict=True))


def noised_first_frames(video_BCTHW: torch.Tensor, keys: Sequence[SampleKey], seed: int) -> torch.Tensor:
    """First frames (B, 3, 1, H, W) plus each sample's own noise; not clamped, as CogVideoX was trained."""
    noised = []
    for frame, key in zip(video_BCTHW[:, :, :1], keys, strict=True):
        sigma, noise = first_frame_noise(seed, key, tuple(frame.shape))
        noised.append(frame + sigma * noise.to(frame))
    return torch.stack(noised)


@torch.no_grad()
def encode_captions(
    backbone: Backbone,
    tokenizer: Any,
    text_encoder: Any,
    captions: Sequence[str],
    max_length: int,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Embeddings (B, S, E) of captions, padded to `max_length` tokens and cut there, as the backbone's family has them.

    Each different caption is encoded once and alone: what it gives depends on no other.
    """
    device = torch.device(device) if device is not None else text_encoder.device
    embeds = {
        caption: backbone.embed_text(tokenizer, text_encoder, caption, max_length, device)
        for caption in dict.fromkeys(captions)
    }
    return torch.cat([embeds[caption] for caption in captions])


def frozen_vae(model_path: str | Path, dtype: torch.dtype, *, slicing: bool = False, tiling: bool = False) -> Any:
    """A checkpoint's VAE, frozen, on the CPU.

    Args:
        slicing: Encode one sample of a batch at a time.
        tiling: Encode large frames in overlapping tiles: less memory, slightly other latents.
    """
    vae = load_vae(model_path, dtype).requires_grad_(False)
    if slicing:
        vae.enable_slicing()
    if tiling:
        codec_of(vae).tile()
    return vae


def frozen_image_encoder(
    model_path: str | Path, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> ImageEncoder | None:
    """A checkpoint's frozen image encoder; None where its backbone sees no images through one."""
    if "image_encoder" not in facts_of(read_config(Path(model_path) / "transformer")).parts:
        return None
    with _not_partitioned():
        processor, encoder = load_image_encoder(model_path, dtype)
    return ImageEncoder(processor, encoder.requires_grad_(False).to(device))


def frozen_text_encoder(model_path: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """A checkpoint's (tokenizer, frozen text encoder), on the CPU."""
    with _not_partitioned():
        tokenizer, encoder = load_text_encoder(model_path, dtype)
    return tokenizer, encoder.requires_grad_(False)


@contextmanager
def _not_partitioned() -> Iterator[None]:
    """Under ZeRO-3 transformers shares out whatever it loads; what no engine runs must be whole on every process."""
    reference = hf_deepspeed._hf_deepspeed_config_weak_ref
    config = None if reference is None else reference()
    hf_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            hf_deepspeed.set_hf_deepspeed_config(config)
