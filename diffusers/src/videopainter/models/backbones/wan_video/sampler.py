"""Steps of flow matching on one window, arranged so that the host never waits for the device.

UniPC (arXiv 2302.04867) with its corrector, of order 2, with B(h) = exp(h) − 1, for predictions of clean latents, as
Wan's checkpoints ask for; and Euler's. Upstream's own step makes its coefficients on the device, from numbers that the
host copies there while the device stands still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler


@dataclass(frozen=True)
class _Known:
    """A step that was made: the corrected latents before it, and what the model took for clean there."""

    latents: torch.Tensor
    clean: torch.Tensor
    step: int


class FlowSampler:
    """Timesteps, noise levels and steps of a window; timesteps are 1000·σ.

    Args:
        scheduler: UniPC on flow sigmas, or FlowMatchEulerDiscreteScheduler.
        last: So many of `num_inference_steps` are run, the last ones.
        device: Of the latents.

    Raises:
        ValueError: for a UniPC of another kind than Wan's.
    """

    # As Wan's own pipeline: many small steps, and what the corrector goes back to.
    latent_dtype: torch.dtype | None = torch.float32

    def __init__(self, scheduler: Any, num_inference_steps: int, last: int, device: torch.device) -> None:
        self.scheduler = scheduler
        scheduler.set_timesteps(num_inference_steps)
        first = len(scheduler.timesteps) - last
        self.sigmas: list[float] = scheduler.sigmas.tolist()[first:]  # one more than steps: 0 at the end
        self.values: list[int] = scheduler.timesteps.tolist()[first:]  # largest first
        self.timesteps: torch.Tensor = scheduler.timesteps[first:].to(device)
        self._order = _solver_order(scheduler)
        self._known: list[_Known] = []  # the last two

    def __len__(self) -> int:
        return len(self.values)

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """Pure noise, as it is."""
        return noise

    def model_input(self, step: int, latents: torch.Tensor) -> torch.Tensor:
        """Latents, as they are."""
        return latents

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents at the noise level before `step`; clean ones after the last. In float32."""
        if step == len(self):
            return latents
        sigma = self.sigmas[step]
        return ((1 - sigma) * latents.float() + sigma * noise.float()).to(latents)

    def step(self, step: int, output: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Latents (1, T, C, h, w) after step `step`, given the model's output there; in float32."""
        latents, output = latents.float(), output.float()
        clean = latents - self.sigmas[step] * output
        if self._order is None:  # Euler
            return latents + (self.sigmas[step + 1] - self.sigmas[step]) * output
        if step and self._known:
            latents = self._corrected(clean, step)
        self._known = [*self._known[-1:], _Known(latents, clean, step)]
        return self._predicted(min(self._order, len(self) - step, len(self._known)))

    def _predicted(self, order: int) -> torch.Tensor:
        """The latents at the next noise level, from what is known of this and of the step before."""
        now = self._known[-1]
        h, grow = self._interval(now.step, now.step + 1)
        alpha, sigma = 1 - self.sigmas[now.step + 1], self.sigmas[now.step + 1]
        ahead = sigma / self.sigmas[now.step] * now.latents - alpha * grow * now.clean
        if order == 1:
            return ahead
        before = self._known[-2]
        ratio = (self._half_log(before.step) - self._half_log(now.step)) / h
        return ahead - alpha * grow * 0.5 * (before.clean - now.clean) / ratio

    def _corrected(self, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The latents before `step` once more, now that the model has seen them."""
        last = self._known[-1]
        h, grow = self._interval(last.step, step)
        alpha, sigma = 1 - self.sigmas[step], self.sigmas[step]
        base = sigma / self.sigmas[last.step] * last.latents - alpha * grow * last.clean
        change = clean - last.clean
        # The order that the predictor of that step had.
        if min(self._order or 1, len(self) - last.step, len(self._known)) == 1:
            return base - alpha * grow * 0.5 * change
        before = self._known[-2]
        ratio = (self._half_log(before.step) - self._half_log(last.step)) / h
        past, present = _corrector_weights(h, ratio)
        return base - alpha * grow * (past * (before.clean - last.clean) / ratio + present * change)

    def _half_log(self, step: int) -> float:
        """λ = log(α / σ) of a noise level."""
        sigma = self.sigmas[step]
        return math.inf if sigma == 0 else math.log((1 - sigma) / sigma)

    def _interval(self, start: int, stop: int) -> tuple[float, float]:
        """h = λ_stop − λ_start, and exp(−h) − 1."""
        h = self._half_log(stop) - self._half_log(start)
        return h, math.expm1(-h)


def _corrector_weights(h: float, ratio: float) -> tuple[float, float]:
    """Weights of the past and of the present difference: what integrates lines and parabolas exactly.

    They solve w₁ + w₂ = b₁ and r·w₁ + w₂ = b₂, with b_k = k!·hφ_{k+1}(−h) / B(h) of the paper.
    """
    grow = math.expm1(-h)
    first = grow / -h - 1
    second = first / -h - 0.5
    b1, b2 = first / grow, 2 * second / grow
    past = (b1 - b2) / (1 - ratio)
    return past, b1 - past


def _solver_order(scheduler: Any) -> int | None:
    """1 or 2 for UniPC; None for Euler."""
    if not isinstance(scheduler, UniPCMultistepScheduler):
        return None
    config = scheduler.config
    plain = config.predict_x0 and config.use_flow_sigmas and config.lower_order_final
    if not plain or config.solver_type != "bh2" or config.solver_order > 2 or config.disable_corrector:
        raise ValueError(
            "scheduler: expected UniPC as Wan's checkpoints have it (bh2, order 2, flow sigmas, prediction of clean "
            f"latents), got {config.solver_type}, order {config.solver_order}"
        )
    return config.solver_order
