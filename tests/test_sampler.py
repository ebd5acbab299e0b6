"""The sampler computes what upstream's schedulers compute, number by number."""

import pytest
import torch
from conftest import make_scheduler

from videopainter.models.backbones.cogvideox.sampler import Sampler
from videopainter.pipelines.settings import InpaintSettings

SHAPE = (1, 3, 16, 4, 6)


def outputs(count):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def upstream(kind, settings, dtype):
    """Latents after every step, by upstream's own `step` with timesteps as tensors."""
    scheduler = make_scheduler(kind)
    scheduler.set_timesteps(settings.num_inference_steps)
    timesteps = scheduler.timesteps[-settings.num_denoising_steps :]
    generator = torch.Generator().manual_seed(6)
    latents, previous, result = torch.randn(SHAPE, generator=generator, dtype=dtype), None, []
    for step, (t, output) in enumerate(zip(timesteps, outputs(len(timesteps)))):
        if kind == "dpm":
            before = timesteps[step - 1] if step else None
            latents, previous = scheduler.step(
                output, previous, t, before, latents, generator=generator, return_dict=False
            )
        else:
            latents = scheduler.step(output, t, latents, return_dict=False)[0]
        latents = latents.to(dtype)
        result.append(latents)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["dpm", "ddim"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_steps_equal_upstreams(kind, strength, dtype):
    settings = InpaintSettings(num_inference_steps=6, strength=strength)
    generator = torch.Generator().manual_seed(6)
    latents = torch.randn(SHAPE, generator=generator, dtype=dtype)
    sampler = Sampler(make_scheduler(kind), 6, settings.num_denoising_steps, torch.device("cpu"), generator)
    expected = upstream(kind, settings, dtype)
    assert len(sampler) == len(expected)
    for step, output in enumerate(outputs(len(sampler))):
        latents = sampler.step(step, output, latents).to(dtype)
        assert torch.equal(latents, expected[step]), step


def test_noise_level_before_each_step():
    scheduler = make_scheduler()
    sampler = Sampler(scheduler, 4, 4, torch.device("cpu"))
    clean, noise = outputs(2)
    for step, t in enumerate(scheduler.timesteps):
        assert torch.equal(sampler.noised(clean, noise, step), make_scheduler().add_noise(clean, noise, t[None]))
    assert torch.equal(sampler.noised(clean, noise, 4), clean)


def test_noise_levels_are_exact_in_half_precision():
    """Upstream takes ᾱ in the latents' type: the least noise is then none."""
    sampler = Sampler(make_scheduler(), 1000, 1000, torch.device("cpu"))
    clean, noise = torch.zeros(SHAPE), torch.ones(SHAPE)
    for step in (0, 500, 900, 980, 999):
        exact = sampler.noised(clean, noise, step)
        half = sampler.noised(clean.bfloat16(), noise.bfloat16(), step)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), exact, rtol=2**-8, atol=0)
