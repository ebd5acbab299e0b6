"""Denoising of one window: noise and conditions in, latents out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor

from videopainter.errors import Interrupted
from videopainter.models.backbones.denoiser import CACHE_CONTEXT, Denoiser
from videopainter.models.backbones.leading import LeadingDenoiser
from videopainter.models.backbones.noise import pad_front
from videopainter.models.backbones.protocol import Process, Steps
from videopainter.models.id_resample import ClipMemory
from videopainter.pipelines.conditioning import WindowConditions
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.step_cache import reset_step_caches


@dataclass
class WindowRun:
    """What a window's denoising needs beside its conditions and what it leaves behind."""

    prompt_embeds: torch.Tensor  # (1, S, E), or (2, S, E) negative first under guidance
    generator: torch.Generator | None = None
    noise: torch.Tensor | None = None  # (1, T, C, h, w); drawn from `generator` when None
    form: str | None = None  # of ID resampling; None: off
    previous: ClipMemory | None = None
    remember: bool = False
    on_step: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None  # (step, t, latents) -> latents
    interrupted: Callable[[], bool] = lambda: False


@torch.no_grad()
def denoise_window(
    pipe: Any, conditions: WindowConditions, settings: InpaintSettings, run: WindowRun
) -> tuple[torch.Tensor, ClipMemory | None]:
    """Denoise one window.

    Returns:
        Latents (1, T, C, h, w), and the memory for the next window where `run.remember` asks for it.
    """
    # 1. Latents in front fill the first patches; they are denoised with the others and cut off at the end
    num_latents = conditions.video_latents.shape[1]
    added = pipe.backbone.grid.missing(num_latents)
    conditions = conditions.pad_front(added)
    original = conditions.video_latents
    kept = conditions.mask if settings.kept_latents == "nearest" else conditions.touched

    # 2. Noise
    noise = _initial_noise(conditions, run, added)
    process = pipe.backbone.process(pipe.scheduler)
    steps = process.steps(settings.num_inference_steps, settings.num_denoising_steps, original.device, run.generator)
    latents = steps.noised(original, noise, 0) if settings.strength < 1 else steps.start(noise)
    between = steps.latent_dtype or original.dtype

    # 3. Steps; in them the host must not wait for the device
    predict = _Predictor(pipe, process, steps, conditions, settings, run)
    cached = (pipe.transformer, pipe.branch)
    reset_step_caches(cached)
    try:
        for step, t in enumerate(steps.values):
            if run.interrupted():
                raise Interrupted
            remember = run.remember and step == len(steps) - 1
            if remember:
                reset_step_caches(cached)  # what the blocks hand on must be computed, not left out
            pipe._current_timestep = t
            latents = steps.step(step, predict(latents, step, remember=remember), latents)
            if settings.replace_gt:
                # Outside the hole the original, at the next timestep's noise level
                latents = torch.where(kept > 0, latents, steps.noised(original, noise, step + 1).to(latents.dtype))
            latents = latents.to(between)
            if run.on_step is not None:
                latents = run.on_step(step, steps.timesteps[step], latents)
    finally:
        # Gigabytes, which decoding may need; so do the finished windows of a run that was stopped, or the next clip.
        pipe._current_timestep = None
        reset_step_caches(cached)
    latents = pipe.backbone.with_known(latents, conditions.image_latents)
    return latents[:, -num_latents:].to(original.dtype), predict.memory


def _initial_noise(conditions: WindowConditions, run: WindowRun, added: int) -> torch.Tensor:
    like = conditions.video_latents
    if run.noise is None:
        return randn_tensor(like.shape, generator=run.generator, device=like.device, dtype=like.dtype)
    noise = run.noise.to(like)
    if added and noise.shape[1] == like.shape[1] - added:
        noise = pad_front(noise, added)
    if noise.shape != like.shape:
        raise ValueError(f"latents: expected noise of shape {tuple(like.shape)}, got {tuple(noise.shape)}")
    return noise


def _denoiser(pipe: Any, **options: Any) -> Denoiser:
    if pipe.token_group is not None:
        return LeadingDenoiser(pipe.token_group, pipe, **options)
    return Denoiser(pipe.transformer, pipe.branch, **options)


class _Predictor:
    """The guided model output of one window: what does not change over the steps is made once."""

    def __init__(
        self,
        pipe: Any,
        process: Process,
        steps: Steps,
        conditions: WindowConditions,
        settings: InpaintSettings,
        run: WindowRun,
    ) -> None:
        self.process, self.steps, self.settings, self.run = process, steps, settings, run
        self.denoiser = _denoiser(
            pipe,
            mask_add=settings.mask_add,
            add_first=settings.add_first,
            form=run.form,
            conditioning_scale=settings.conditioning_scale,
        )
        self.batch = 2 if settings.guidance else 1
        self.clip = self.denoiser.prepare(conditions.map(self._double))
        self.dtype = conditions.video_latents.dtype
        self.previous = None if run.previous is None else self.denoiser.take_over(run.previous, self.clip)
        self.memory: ClipMemory | None = None

    def _double(self, x: torch.Tensor) -> torch.Tensor:
        return x.expand(self.batch, *x.shape[1:])

    def __call__(self, latents: torch.Tensor, step: int, *, remember: bool) -> torch.Tensor:
        """Guided output (1, T, C, h, w) in float32 at a step; the one that remembers is the last."""
        previous = self.previous
        if remember and previous is not None:
            previous, self.previous = replace(previous, used_once=True), None
        with self.denoiser.transformer.cache_context(CACHE_CONTEXT):
            output, memory = self.denoiser(
                self._double(self.steps.model_input(step, latents).to(self.dtype)),
                self.clip,
                self.run.prompt_embeds,
                self.steps.timesteps[step].expand(self.batch),
                previous=previous,
                prev_clip_weight=self.settings.prev_clip_weight,
                remember=remember,
            )
        if memory is not None:
            self.memory = memory
        return self._guide(output.float(), self.steps.values[step])

    def _guide(self, output: torch.Tensor, t: int) -> torch.Tensor:
        if not self.settings.guidance:
            return output
        scale = self.settings.guidance_scale
        if self.settings.use_dynamic_cfg:
            scale = self.process.dynamic_guidance(scale, self.settings.num_inference_steps, t)
        unconditional, conditional = output.chunk(2)
        return unconditional + scale * (conditional - unconditional)
