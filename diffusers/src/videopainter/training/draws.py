"""Every random number of a training sample, as a function of (seed, sample key) alone.

So the same samples come out whatever the number of workers and processes, a resumed run needs no random state to go on
exactly where it was, and a cache can hold what an epoch would have drawn.

One exception: whether a step learns from previous clips (`learns_from_previous`) is a function of (seed, optimizer
step). It decides how often the model is called, and with sharded weights (ZeRO-3, FSDP) every call needs all processes:
one that decided by its own rows would leave the others waiting for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from videopainter.data.training.sample_order import SampleKey

# One stream of random numbers per purpose.
_NOISE, _IMAGE_KEPT, _FIRST_FRAME, _PREVIOUS, _FROM_PREVIOUS = 101, 102, 103, 104, 105


def noise_and_timestep(
    seed: int, key: SampleKey, shape: tuple[int, ...], draw_time: Callable[[torch.Generator], int]
) -> tuple[torch.Tensor, int]:
    """Diffusion noise of `shape` (standard normal, float32, CPU) and a timestep, as the process draws it."""
    generator = _generator(seed, _NOISE, key)
    timestep = draw_time(generator)
    return torch.randn(shape, generator=generator), timestep


def keeps_image(seed: int, key: SampleKey, dropout: float) -> bool:
    """Whether the backbone is shown the image condition; dropped (all zeros) with probability `dropout`."""
    return float(torch.rand((1,), generator=_generator(seed, _IMAGE_KEPT, key))) >= dropout


def learns_from_previous(seed: int, step: int, probability: float) -> bool:
    """Whether the samples of an optimizer step learn from the clips before them: the same on all processes."""
    return float(torch.rand((1,), generator=_generator_of(seed, _FROM_PREVIOUS, step))) < probability


def previous_clip(
    seed: int, key: SampleKey, shape: tuple[int, ...], draw_time: Callable[[torch.Generator], int]
) -> tuple[torch.Tensor, int]:
    """Noise (`shape`) and timestep of the clip before a sample."""
    generator = _generator(seed, _PREVIOUS, key)
    torch.rand((1,), generator=generator)  # no longer used; without it all numbers after it would be others
    timestep = draw_time(generator)
    return torch.randn(shape, generator=generator), timestep


def first_frame_noise(seed: int, key: SampleKey, shape: tuple[int, ...]) -> tuple[float, torch.Tensor]:
    """σ = exp(N(−3, 0.5)) and standard normal noise of `shape`, as CogVideoX adds it to the image condition."""
    generator = _generator(seed, _FIRST_FRAME, key)
    sigma = math.exp(-3.0 + 0.5 * float(torch.randn((1,), generator=generator)))
    return sigma, torch.randn(shape, generator=generator)


def _generator(seed: int, purpose: int, key: SampleKey) -> torch.Generator:
    return _generator_of(seed, purpose, key.epoch, key.row, int(key.single))


def _generator_of(*words_of_seed: int) -> torch.Generator:
    words = np.random.SeedSequence(words_of_seed).generate_state(1, np.uint64)
    # torch takes 64 bits, signed or not; 63 are enough.
    return torch.Generator().manual_seed(int(words[0]) >> 1)
