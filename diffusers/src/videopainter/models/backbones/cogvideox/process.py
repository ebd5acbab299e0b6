"""CogVideoX's diffusion: v-prediction on 1000 timesteps with zero terminal SNR, and the release's loss."""

from __future__ import annotations

import math
from typing import Any

import torch

from videopainter.models.backbones.cogvideox.sampler import Sampler


class CogVideoXProcess:
    """One schedule for loss and sampler. Args: `scheduler`, the backbone's own (CogVideoX DPM or DDIM)."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.num_train_timesteps: int = scheduler.config.num_train_timesteps

    def draw_time(self, generator: torch.Generator, *, late: bool = False) -> int:
        """A timestep, uniform over all; `late`: over the fifth with the least noise."""
        count = self.num_train_timesteps // 5 if late else self.num_train_timesteps
        return int(torch.randint(count, (1,), generator=generator))

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """√ᾱ·clean + √(1−ᾱ)·noise, (B, ...); timesteps (B,)."""
        return self.scheduler.add_noise(clean, noise, timesteps)

    def errors(
        self,
        output: torch.Tensor,
        noisy: torch.Tensor,
        clean: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """w·(x̂ − x)² of every number, w = 1/(1−ᾱ): (B, T, 16, h, w) in float32.

        x̂ = √ᾱ·noisy − √(1−ᾱ)·v, so this is the plain error of the velocity v, in the release's form.
        """
        clean_prediction = self.scheduler.get_velocity(output.float(), noisy, timesteps)
        alpha_bar = self.scheduler.alphas_cumprod.to(clean)[timesteps].view(-1, 1, 1, 1, 1)
        return (clean_prediction - clean) ** 2 / (1.0 - alpha_bar)

    def steps(
        self, num_inference_steps: int, last: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Sampler:
        """The `last` steps of `num_inference_steps` on one window."""
        return Sampler(self.scheduler, num_inference_steps, last, device, generator)

    def dynamic_guidance(self, scale: float, num_inference_steps: int, t: float) -> float:
        """1 + g·(1 − cos(π·((S − t)/S)^5))/2, with t the timestep's value, as upstream CogVideoX does."""
        return 1 + scale * (1 - math.cos(math.pi * ((num_inference_steps - t) / num_inference_steps) ** 5.0)) / 2
