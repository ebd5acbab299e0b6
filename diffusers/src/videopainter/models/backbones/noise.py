"""Noise is drawn where its generator lives, and travels to the device without the host waiting for it."""

from __future__ import annotations

import torch
from diffusers.utils.torch_utils import randn_tensor


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on the device; from page-locked memory, or the host would wait for all that runs there."""
    return tensor.to(device) if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def draw_like(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Standard normal noise of a tensor's shape, device and dtype."""
    if generator is None or generator.device.type != "cpu":
        return randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return send(torch.randn(like.shape, generator=generator, dtype=like.dtype), like.device)


def pad_front(x: torch.Tensor, count: int) -> torch.Tensor:
    """(B, T, ...) with `count` copies of the first latent in front."""
    return torch.cat([x[:, :1]] * count + [x], dim=1) if count else x
