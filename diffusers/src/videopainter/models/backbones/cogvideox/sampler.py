"""The scheduler's part of denoising one window, arranged so that the host never waits for the device."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler

from videopainter.models.backbones.noise import draw_like


class Sampler:
    """Timesteps, noise levels and steps of a window.

    Timesteps are numbers on the host: upstream's steps ask a device's timestep for its value, several times each.

    Args:
        scheduler: CogVideoX DPM or DDIM.
        last: So many of `num_inference_steps` are run, the last ones.
        device: Of the latents.
        generator: Of the noise that DPM adds at every step.
    """

    latent_dtype: torch.dtype | None = None

    def __init__(
        self,
        scheduler: Any,
        num_inference_steps: int,
        last: int,
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> None:
        self.scheduler, self.generator = scheduler, generator
        scheduler.set_timesteps(num_inference_steps)
        first = len(scheduler.timesteps) - last
        self.values: list[int] = scheduler.timesteps.tolist()[first:]  # largest first
        self.timesteps: torch.Tensor = scheduler.timesteps[first:].to(device)
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)  # as its `add_noise` would, in the first step
        self._previous_x0: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """What pure noise is before the first step."""
        return noise * self.scheduler.init_noise_sigma

    def model_input(self, step: int, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the model takes them at step `step`."""
        return self.scheduler.scale_model_input(latents, self.values[step])

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents at the noise level before step `step`; clean ones after the last.

        In float32: upstream computes with ᾱ in the latents' type. In bfloat16 the noise of 50 steps' levels would be
        up to 1.3 % off, and 0 at the last two of 1000 levels.
        """
        if step == len(self):
            return latents
        return self.scheduler.add_noise(latents.float(), noise.float(), self.timesteps[step : step + 1]).to(latents)

    def step(self, step: int, output: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Latents (1, T, 16, h, w) after step `step`, given the model's output there."""
        t = self.values[step]
        if not isinstance(self.scheduler, CogVideoXDPMScheduler):
            return self.scheduler.step(output, t, latents, return_dict=False)[0]
        before = self.values[step - 1] if step else None
        if self.scheduler.config.prediction_type == "v_prediction":
            return self._dpm(t, before, output, latents)
        stepped: Any = self.scheduler.step
        latents, self._previous_x0 = stepped(
            output, self._previous_x0, t, before, latents, generator=self.generator, return_dict=False
        )
        return latents

    def _dpm(self, t: int, t_back: int | None, output: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """What `CogVideoXDPMScheduler.step` computes, SDE-DPM-Solver++(2M) (arXiv 2211.01095), in its order.

        Upstream's own step draws its noise on the host and copies it while the device stands still.
        """
        scheduler, previous = self.scheduler, self._previous_x0
        following = t - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        alpha = scheduler.alphas_cumprod[t]
        alpha_next = scheduler.alphas_cumprod[following] if following >= 0 else scheduler.final_alpha_cumprod
        alpha_back = scheduler.alphas_cumprod[t_back] if t_back is not None else None
        h, r, _, _ = scheduler.get_variables(alpha, alpha_next, alpha_back)
        scale, drift, *mix = scheduler.get_mult(h, r, alpha, alpha_next, alpha_back)
        spread = (1 - alpha_next) ** 0.5 * (1 - (-2 * h).exp()) ** 0.5

        x0 = alpha**0.5 * latents - (1 - alpha) ** 0.5 * output
        self._previous_x0, direction = x0, x0
        noise = draw_like(latents, self.generator)
        if previous is not None and following >= 0:
            direction = mix[0] * x0 - mix[1] * previous
            noise = draw_like(
                latents, self.generator
            )  # upstream draws twice and uses the second: the same numbers come out
        return scale * latents - drift * direction + spread * noise
