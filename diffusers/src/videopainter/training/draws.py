"""Every random number of a training sample, as a function of (seed, sample key) alone.

So the same samples come out whatever the number of workers and processes, a resumed run needs no random state to go on
exactly where it was, and a cache can hold what an epoch would have drawn.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from videopainter.data.sample_order import SampleKey

# One stream of random numbers per purpose.
_NOISE, _IMAGE_KEPT, _FIRST_FRAME, _PREVIOUS = 101, 102, 103, 104


def noise_and_timestep(
    seed: int, key: SampleKey, shape: tuple[int, ...], num_train_timesteps: int
) -> tuple[torch.Tensor, int]:
    """Diffusion noise of `shape` (standard normal, float32, CPU) and a timestep, uniform below num_train_timesteps."""
    generator = _generator(seed, _NOISE, key)
    timestep = int(torch.randint(num_train_timesteps, (1,), generator=generator))
    return torch.randn(shape, generator=generator), timestep


def keeps_image(seed: int, key: SampleKey, dropout: float) -> bool:
    """Whether the backbone is shown the image condition; dropped (all zeros) with probability `dropout`."""
    return float(torch.rand((1,), generator=_generator(seed, _IMAGE_KEPT, key))) >= dropout


def previous_clip(
    seed: int, key: SampleKey, probability: float, shape: tuple[int, ...], timesteps: int
) -> tuple[bool, torch.Tensor, int]:
    """Whether a sample learns from the clip before it, and that clip's noise (`shape`) and timestep (< `timesteps`)."""
    generator = _generator(seed, _PREVIOUS, key)
    wanted = float(torch.rand((1,), generator=generator)) < probability
    timestep = int(torch.randint(timesteps, (1,), generator=generator))
    return wanted, torch.randn(shape, generator=generator), timestep


def first_frame_noise(seed: int, key: SampleKey, shape: tuple[int, ...]) -> tuple[float, torch.Tensor]:
    """σ = exp(N(−3, 0.5)) and standard normal noise of `shape`, as CogVideoX adds it to the image condition."""
    generator = _generator(seed, _FIRST_FRAME, key)
    sigma = math.exp(-3.0 + 0.5 * float(torch.randn((1,), generator=generator)))
    return sigma, torch.randn(shape, generator=generator)


def _generator(seed: int, purpose: int, key: SampleKey) -> torch.Generator:
    words = np.random.SeedSequence((seed, purpose, key.epoch, key.row, int(key.single))).generate_state(1, np.uint64)
    # torch takes 64 bits, signed or not; 63 are enough.
    return torch.Generator().manual_seed(int(words[0]) >> 1)
