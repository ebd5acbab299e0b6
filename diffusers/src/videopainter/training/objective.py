"""What is minimised: the denoising loss of the public release, on what the pipeline's own functions make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from videopainter.models.backbones.denoiser import Conditions
from videopainter.models.backbones.noise import send
from videopainter.models.backbones.protocol import Backbone
from videopainter.models.id_resample import ClipMemory
from videopainter.training.draws import keeps_image, learns_from_previous, noise_and_timestep, previous_clip
from videopainter.training.encoding import EncodedBatch
from videopainter.training.options import AdapterOptions, ConditionOptions


class Losses(NamedTuple):
    """Mean of the process's errors over everything, and over the hole with zeros elsewhere."""

    full: torch.Tensor
    masked: torch.Tensor


class Objective:
    """Noises a batch, asks the model, compares.

    Args:
        backbone: The adapter of its family: noise, timesteps, errors, image condition.
        scheduler: The backbone's own.
        options: Weight of the masked loss and dropout of the image condition.
        adapter: Of an ID adapter's training: how often a clip learns from the one before it.
    """

    def __init__(
        self, backbone: Backbone, scheduler: Any, options: ConditionOptions, adapter: AdapterOptions | None = None
    ) -> None:
        self.backbone, self.process, self.options = backbone, backbone.process(scheduler), options
        self.prev_clip_prob = adapter.prev_clip_prob if adapter is not None else 0.0
        self.prev_clip_weight = adapter.prev_clip_weight if adapter is not None else 0.0

    def draw(self, keys: Sequence[Any], shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise (B, *shape) and timesteps (B,) of these samples, on the CPU."""
        pairs = [noise_and_timestep(seed, key, shape, self.process.draw_time) for key in keys]
        return torch.stack([noise for noise, _ in pairs]), torch.tensor([t for _, t in pairs])

    def training_losses(self, model: Callable[..., Any], batch: EncodedBatch, seed: int, step: int = 0) -> Losses:
        """Losses with the samples' own noise, timesteps and image dropout; `step`: of the optimizer, from 0."""
        batch, memory = self._after_previous(model, batch, seed, step)
        noise, timesteps = self.draw(batch.keys, tuple(batch.latents.shape[1:]), seed)
        kept = torch.tensor([keeps_image(seed, key, self.options.noised_image_dropout) for key in batch.keys])
        device = batch.latents.device
        drawn = (send(tensor, device) for tensor in (noise, timesteps, kept))
        return self.loss(model, batch, *drawn, memory)

    @torch.no_grad()
    def _after_previous(
        self, model: Callable[..., Any], batch: EncodedBatch, seed: int, step: int
    ) -> tuple[EncodedBatch, ClipMemory | None]:
        """The batch and no memory; or, in `prev_clip_prob` of the steps, its second half and the first half's memory.

        As inference hands it on: from a pass at the little noise of a last denoising step.
        """
        frames = batch.latents.shape[1]
        if frames < 2 or not learns_from_previous(seed, step, self.prev_clip_prob):
            return batch, None
        pixels = self.backbone.facts.image_from_pixels
        first, second = split_batch(batch, frames // 2, from_pixels=pixels)
        shape, draw_late = tuple(first.latents.shape[1:]), partial(self.process.draw_time, late=True)
        drawn = [previous_clip(seed, key, shape, draw_late) for key in batch.keys]
        device = batch.latents.device
        noise = send(torch.stack([noise for noise, _ in drawn]), device)
        timesteps = send(torch.tensor([t for _, t in drawn]), device)
        noisy = self.process.noised(first.latents.float(), noise, timesteps)
        conditions = self._conditions(first, noisy)
        return second, self._predict(model, first, conditions, noisy, timesteps, remember=True)

    def total(self, losses: Losses) -> torch.Tensor:
        """The scalar to minimise."""
        return losses.full + self.options.inpainting_loss_weight * losses.masked

    def loss(
        self,
        model: Callable[..., torch.Tensor],
        batch: EncodedBatch,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        image_kept: torch.Tensor | None = None,
        memory: ClipMemory | None = None,
    ) -> Losses:
        """Losses of given noise and timesteps.

        Args:
            model: An `InpaintingModel`, bare or wrapped.
            batch: On the model's device.
            noise: (B, T, 16, h, w), standard normal.
            timesteps: (B,) int64.
            image_kept: (B,) bool; False hides the image condition. None: all are kept.
            memory: What the clip before hands on (ID adapter).
        """
        clean = batch.latents.float()
        noisy = self.process.noised(clean, noise, timesteps)
        conditions = self._conditions(batch, noisy, image_kept)
        output = self._predict(model, batch, conditions, noisy, timesteps, memory)
        error = self.process.errors(output, noisy, clean, noise, timesteps)
        known = self.backbone.known(conditions.image_latents)
        if known is not None:  # nobody asks what the model says there
            error = error * (1 - known.to(error))
        return Losses(error.mean(), (error * (batch.mask > 0)).mean())

    def _conditions(
        self, batch: EncodedBatch, noisy: torch.Tensor, image_kept: torch.Tensor | None = None
    ) -> Conditions:
        """What the clips are denoised with; of an image that is not kept all zeros."""
        image, embeds = self.backbone.image_condition(batch.first_latent, noisy), batch.image_embeds
        if image_kept is not None:
            image = None if image is None else image * image_kept.view(-1, 1, 1, 1, 1).to(image)
            embeds = None if embeds is None else embeds * image_kept.view(-1, 1, 1).to(embeds)
        return Conditions(
            masked_latents=batch.masked_latents,
            mask=batch.mask.to(batch.masked_latents),
            image_latents=image,
            image_embeds=embeds,
        )

    def _predict(
        self,
        model: Callable[..., torch.Tensor],
        batch: EncodedBatch,
        conditions: Conditions,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        memory: ClipMemory | None = None,
        *,
        remember: bool = False,
    ) -> Any:
        """The model's output (B, T, C, h, w), or the clip's memory."""
        if remember:
            return model(noisy, conditions, batch.prompt_embeds, timesteps, remember=True)
        weight = self.prev_clip_weight if memory is not None else 0.0
        return model(noisy, conditions, batch.prompt_embeds, timesteps, memory, weight)


def split_batch(batch: EncodedBatch, frames: int, *, from_pixels: bool = False) -> tuple[EncodedBatch, EncodedBatch]:
    """The first `frames` latent frames of every clip, and the rest, which then begins with a clean image of its own.

    Args:
        from_pixels: Whether that is the batch's own second image, or the clip's latent there.
    """

    def part(chosen: slice, first_latent: torch.Tensor | None, embeds: torch.Tensor | None) -> EncodedBatch:
        return replace(
            batch,
            latents=batch.latents[:, chosen],
            masked_latents=batch.masked_latents[:, chosen],
            mask=batch.mask[:, chosen],
            first_latent=first_latent,
            image_embeds=embeds,
        )

    handed_on = None if batch.first_latent is None else batch.latents[:, frames : frames + 1]
    if from_pixels:
        handed_on = batch.second_latent
    first = part(slice(0, frames), batch.first_latent, batch.image_embeds)
    return first, part(slice(frames, None), handed_on, batch.second_embeds)
