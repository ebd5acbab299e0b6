"""Wan's diffusion: flow matching on straight paths from noise to clean, the velocity noise − clean as target."""

from __future__ import annotations

from typing import Any

import torch

from videopainter.models.backbones.wan_video.sampler import FlowSampler


class WanProcess:
    """One schedule for loss and sampler.

    Args:
        scheduler: The backbone's own; UniPC on flow sigmas, or Euler's steps of flow matching.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.num_train_timesteps: int = scheduler.config.num_train_timesteps

    @property
    def shift(self) -> float:
        """How much of the time a shifted schedule spends on noise: σ → s·σ / (1 + (s − 1)·σ)."""
        config = self.scheduler.config
        return float(config.get("flow_shift") or config.get("shift") or 1.0)

    def draw_time(self, generator: torch.Generator, *, late: bool = False) -> int:
        """A timestep 1000·σ, uniform before the sampler's own shift; `late`: of the last fifth of its steps."""
        u = float(torch.rand((), generator=generator, dtype=torch.float64)) * (0.2 if late else 1.0)
        sigma = self.shift * u / (1 + (self.shift - 1) * u)
        return max(1, round(sigma * self.num_train_timesteps))

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """(1 − σ)·clean + σ·noise, (B, ...), σ = t / 1000; timesteps (B,)."""
        sigma = (timesteps.to(clean) / self.num_train_timesteps).view(-1, *[1] * (clean.ndim - 1))
        return (1 - sigma) * clean + sigma * noise

    def errors(
        self,
        output: torch.Tensor,
        noisy: torch.Tensor,
        clean: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """(v̂ − v)² of every number, v = noise − clean: (B, T, C, h, w) in float32."""
        return (output.float() - (noise - clean)) ** 2

    def steps(
        self, num_inference_steps: int, last: int, device: torch.device, generator: torch.Generator | None = None
    ) -> FlowSampler:
        """The `last` steps of `num_inference_steps` on one window; they draw no noise."""
        return FlowSampler(self.scheduler, num_inference_steps, last, device)

    def dynamic_guidance(self, scale: float, num_inference_steps: int, t: float) -> float:
        """`scale`: Wan is guided alike at every step."""
        return scale
