"""What is minimised: the denoising loss of the public release, on what the pipeline's own functions make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from videopainter.models.id_resample import ClipMemory
from videopainter.pipelines.conditioning import rotary_embedding
from videopainter.pipelines.denoise import pad_frames
from videopainter.pipelines.sampler import send
from videopainter.training.draws import keeps_image, learns_from_previous, noise_and_timestep, previous_clip
from videopainter.training.encoding import EncodedBatch
from videopainter.training.options import AdapterOptions, ConditionOptions


class Losses(NamedTuple):
    """mean(w·(x̂ − x)²) over everything, and over the hole with zeros elsewhere; w = 1 / (1 − ᾱ_t)."""

    full: torch.Tensor
    masked: torch.Tensor


class Objective:
    """Noises a batch, asks the model, compares.

    Args:
        scheduler: The backbone's own (CogVideoX DPM or DDIM): its noise schedule and velocity formula.
        config: The backbone's config.
        options: Weight of the masked loss and dropout of the image condition.
        adapter: Of an ID adapter's training: how often a clip learns from the one before it.
    """

    def __init__(
        self, scheduler: Any, config: Any, options: ConditionOptions, adapter: AdapterOptions | None = None
    ) -> None:
        self.scheduler, self.config, self.options = scheduler, config, options
        self.prev_clip_prob = adapter.prev_clip_prob if adapter is not None else 0.0
        self.prev_clip_weight = adapter.prev_clip_weight if adapter is not None else 0.0
        self.num_train_timesteps: int = scheduler.config.num_train_timesteps

    def draw(self, keys: Sequence[Any], shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise (B, *shape) and timesteps (B,) of these samples, on the CPU."""
        pairs = [noise_and_timestep(seed, key, shape, self.num_train_timesteps) for key in keys]
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
        first, second = split_batch(batch, frames // 2)
        shape, few = tuple(first.latents.shape[1:]), self.num_train_timesteps // 5
        drawn = [previous_clip(seed, key, shape, few) for key in batch.keys]
        device = batch.latents.device
        noise = send(torch.stack([noise for noise, _ in drawn]), device)
        timesteps = send(torch.tensor([t for _, t in drawn]), device)
        noisy = self.scheduler.add_noise(first.latents.float(), noise, timesteps)
        return second, self._predict(model, first, noisy, timesteps, None, remember=True)

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
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        predicted = self._predict(model, batch, noisy, timesteps, image_kept, memory)
        clean_prediction = self.scheduler.get_velocity(predicted.float(), noisy, timesteps)
        alpha_bar = self.scheduler.alphas_cumprod.to(clean)[timesteps].view(-1, 1, 1, 1, 1)
        error = (clean_prediction - clean) ** 2 / (1.0 - alpha_bar)
        return Losses(error.mean(), (error * (batch.mask > 0)).mean())

    def _predict(
        self,
        model: Callable[..., torch.Tensor],
        batch: EncodedBatch,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        image_kept: torch.Tensor | None,
        memory: ClipMemory | None = None,
        *,
        remember: bool = False,
    ) -> Any:
        """Velocity (B, T, 16, h, w), or the clip's memory; CogVideoX 1.5 sees padded latents, as in the pipeline."""
        frames = noisy.shape[1]
        image = self._image_latents(batch, noisy, image_kept)
        cond = torch.cat([batch.masked_latents, batch.mask.to(batch.masked_latents)], dim=2)
        added = -frames % (self.config.patch_size_t or 1)
        noisy, cond = pad_frames(noisy, added), pad_frames(cond, added)
        image = None if image is None else pad_frames(image, added)
        rotary = rotary_embedding(self.config, *noisy.shape[-2:], noisy.shape[1], noisy.device)
        if remember:
            return model(noisy, image, cond, batch.prompt_embeds, timesteps, rotary, remember=True)
        weight = self.prev_clip_weight if memory is not None else 0.0
        return model(noisy, image, cond, batch.prompt_embeds, timesteps, rotary, memory, weight)[:, added:]

    def _image_latents(
        self, batch: EncodedBatch, noisy: torch.Tensor, image_kept: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The first frame's latent in front, zeros behind."""
        if batch.first_latent is None:
            return None
        first = batch.first_latent.to(noisy)
        if image_kept is not None:
            first = first * image_kept.view(-1, 1, 1, 1, 1).to(first)
        return torch.cat([first, torch.zeros_like(noisy[:, first.shape[1] :])], dim=1)


def split_batch(batch: EncodedBatch, frames: int) -> tuple[EncodedBatch, EncodedBatch]:
    """The first `frames` latent frames of every clip, and the rest, which then begins with a clean image of its own."""

    def part(chosen: slice, first_latent: torch.Tensor | None) -> EncodedBatch:
        return replace(
            batch,
            latents=batch.latents[:, chosen],
            masked_latents=batch.masked_latents[:, chosen],
            mask=batch.mask[:, chosen],
            first_latent=first_latent,
        )

    handed_on = None if batch.first_latent is None else batch.latents[:, frames : frames + 1]
    return part(slice(0, frames), batch.first_latent), part(slice(frames, None), handed_on)
