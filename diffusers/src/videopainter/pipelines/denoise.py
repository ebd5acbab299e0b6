"""Denoising of one window: noise and conditions in, latents out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor

from videopainter.models.id_resample import ClipMemory, HoleTokens, IDResample
from videopainter.models.transformer import token_mask
from videopainter.pipelines.conditioning import WindowConditions, rotary_embedding
from videopainter.pipelines.sampler import Sampler
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.step_cache import reset_step_caches


@dataclass
class WindowRun:
    """What a window's denoising needs beside its conditions and what it leaves behind."""

    prompt_embeds: torch.Tensor  # (1, S, E), or (2, S, E) negative first under guidance
    generator: torch.Generator | None = None
    noise: torch.Tensor | None = None  # (1, T, 16, h, w); drawn from `generator` when None
    form: str | None = None  # of ID resampling; None: off
    previous: ClipMemory | None = None
    remember: bool = False
    on_step: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None  # (step, t, latents) -> latents
    interrupted: Callable[[], bool] = lambda: False


class Interrupted(Exception):
    """The caller asked to stop; windows that were finished before are kept."""


@torch.no_grad()
def denoise_window(
    pipe: Any, conditions: WindowConditions, settings: InpaintSettings, run: WindowRun
) -> tuple[torch.Tensor, ClipMemory | None]:
    """Denoise one window.

    Returns:
        Latents (1, T, 16, h, w), and the memory for the next window where `run.remember` asks for it.
    """
    num_latents = conditions.video_latents.shape[1]
    conditions, added = _pad_for_patches(conditions, pipe.transformer.config.patch_size_t)
    noise = _initial_noise(conditions, run, added)
    original = conditions.video_latents
    sampler = Sampler(pipe.scheduler, settings, original.device, run.generator)
    latents = sampler.noised(original, noise, 0) if settings.strength < 1 else noise * pipe.scheduler.init_noise_sigma
    kept = conditions.mask if settings.kept_latents == "nearest" else conditions.touched
    predict = _Predictor(pipe, conditions, settings, run)
    cached = (pipe.transformer, pipe.branch)
    reset_step_caches(cached)

    for step, t in enumerate(sampler.values):  # from here on the host must not wait for the device
        if run.interrupted():
            raise Interrupted
        remember = run.remember and step == len(sampler) - 1
        if remember:
            reset_step_caches(cached)  # what the blocks hand on must be computed, not left out
        pipe._current_timestep = t
        timestep = sampler.timesteps[step]
        output = predict(latents, t, timestep, remember=remember)
        latents = sampler.step(step, output, latents)
        if settings.replace_gt:
            # Outside the hole the original, at the next timestep's noise level
            latents = torch.where(kept > 0, latents, sampler.noised(original, noise, step + 1).to(latents.dtype))
        latents = latents.to(original.dtype)
        if run.on_step is not None:
            latents = run.on_step(step, timestep, latents)
    pipe._current_timestep = None
    reset_step_caches(cached)  # gigabytes, which decoding may need
    return latents[:, -num_latents:], predict.memory


def dynamic_guidance(scale: float, num_inference_steps: int, t: float) -> float:
    """1 + g·(1 − cos(π·((S − t)/S)^5))/2, with t the timestep's value, as upstream CogVideoX does."""
    return 1 + scale * (1 - math.cos(math.pi * ((num_inference_steps - t) / num_inference_steps) ** 5.0)) / 2


def _pad_for_patches(conditions: WindowConditions, patch_size_t: int | None) -> tuple[WindowConditions, int]:
    """CogVideoX 1.5 joins latent frames in pairs: odd windows get a copy of their first latent in front."""
    added = -conditions.video_latents.shape[1] % (patch_size_t or 1)
    if not added:
        return conditions, 0

    padded = replace(
        conditions,
        video_latents=pad_frames(conditions.video_latents, added),
        masked_latents=pad_frames(conditions.masked_latents, added),
        mask=pad_frames(conditions.mask, added),
        touched=pad_frames(conditions.touched, added),
        image_latents=None if conditions.image_latents is None else pad_frames(conditions.image_latents, added),
    )
    return padded, added


def pad_frames(x: torch.Tensor, added: int) -> torch.Tensor:
    """(B, T, ...) with `added` copies of the first latent frame in front."""
    return torch.cat([x[:, :1]] * added + [x], dim=1) if added else x


def model_prediction(
    transformer: Any,
    branch: Any,
    noisy: torch.Tensor,
    image_latents: torch.Tensor | None,
    branch_cond: torch.Tensor,
    prompt_embeds: torch.Tensor,
    timestep: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    background: torch.Tensor | None,
    add_first: bool = False,
    id_resample: IDResample | None = None,
    conditioning_scale: float = 1.0,
) -> torch.Tensor:
    """One pass of context encoder (None: without) and backbone; training and inference call this.

    Args:
        noisy: (B, T, 16, h, w).
        image_latents: (B, T, 16, h, w), for I2V backbones.
        branch_cond: Masked-video latents and mask (B, T, 17, h, w).
        prompt_embeds: (B, S, E).
        timestep: (B,).
        background: Boolean (B, L), where branch features are added; None: everywhere.

    Returns:
        The model output (B, T, 16, h, w).
    """
    ofs = noisy.new_full((1,), 2.0) if transformer.config.ofs_embed_dim else None
    common = {"timestep": timestep, "image_rotary_emb": rotary, "ofs": ofs}
    features = None
    if branch is not None:
        features = branch(noisy, prompt_embeds, branch_cond, conditioning_scale=conditioning_scale, **common)
    return transformer(
        noisy if image_latents is None else torch.cat([noisy, image_latents], dim=2),
        prompt_embeds,
        branch_features=features,
        background_mask=background,
        add_first=add_first,
        id_resample=id_resample,
        return_dict=False,
        **common,
    )[0]


def _initial_noise(conditions: WindowConditions, run: WindowRun, added: int) -> torch.Tensor:
    like = conditions.video_latents
    if run.noise is None:
        return randn_tensor(like.shape, generator=run.generator, device=like.device, dtype=like.dtype)
    noise = run.noise.to(like)
    if added and noise.shape[1] == like.shape[1] - added:
        noise = pad_frames(noise, added)
    if noise.shape != like.shape:
        raise ValueError(f"latents: expected noise of shape {tuple(like.shape)}, got {tuple(noise.shape)}")
    return noise


class _Predictor:
    """The guided model output of one window: what does not change over the steps is made once."""

    def __init__(self, pipe: Any, conditions: WindowConditions, settings: InpaintSettings, run: WindowRun) -> None:
        self.pipe, self.settings, self.run = pipe, settings, run
        self.batch = 2 if settings.guidance else 1
        config = pipe.transformer.config
        latents = conditions.video_latents
        self.rotary = rotary_embedding(config, *latents.shape[-2:], latents.shape[1], latents.device)
        hole = token_mask(conditions.mask, config.patch_size, config.patch_size_t).expand(self.batch, -1)
        self.background = ~hole if settings.mask_add else None
        self.hole = HoleTokens.from_mask(hole) if run.form else None
        # Once per window: gigabytes at full size, and a store keeps them in main memory.
        self.previous = None if run.previous is None else run.previous.to(latents.device, latents.dtype)
        self.branch_cond = self._double(conditions.branch_cond)
        self.image_latents = None if conditions.image_latents is None else self._double(conditions.image_latents)
        self.memory: ClipMemory | None = None

    def _double(self, x: torch.Tensor) -> torch.Tensor:
        return x.expand(self.batch, *x.shape[1:])

    def __call__(self, latents: torch.Tensor, t: int, timestep: torch.Tensor, *, remember: bool) -> torch.Tensor:
        """Guided output (1, T, 16, h, w) in float32 at timestep t; `timestep` is the same on the device."""
        transformer = self.pipe.transformer
        noisy = self._double(self.pipe.scheduler.scale_model_input(latents, t))
        resample = self._resample(remember)
        with transformer.cache_context("cond_uncond"):
            output = model_prediction(
                transformer,
                self.pipe.branch,
                noisy,
                self.image_latents,
                self.branch_cond,
                self.run.prompt_embeds,
                timestep.expand(self.batch),
                self.rotary,
                background=self.background,
                add_first=self.settings.add_first,
                id_resample=resample,
                conditioning_scale=self.settings.conditioning_scale,
            ).float()
        if remember and resample is not None:
            self.memory = resample.finished_memory()
        return self._guide(output, t)

    def _resample(self, remember: bool) -> IDResample | None:
        if self.hole is None or self.run.form is None:
            return None
        return IDResample(
            self.hole,
            self.run.form,
            previous=self.previous,
            prev_clip_weight=self.settings.prev_clip_weight,
            remember=remember,
        )

    def _guide(self, output: torch.Tensor, t: int) -> torch.Tensor:
        if not self.settings.guidance:
            return output
        scale = self.settings.guidance_scale
        if self.settings.use_dynamic_cfg:
            scale = dynamic_guidance(scale, self.settings.num_inference_steps, t)
        unconditional, conditional = output.chunk(2)
        return unconditional + scale * (conditional - unconditional)
