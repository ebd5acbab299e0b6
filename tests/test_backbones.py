"""What the adapter of a family answers: facts of published checkpoints, grids, and one object for loss and sampler."""

import math
import subprocess
import sys

import pytest
import torch
from conftest import TEXT_DIM, TEXT_LENGTH, make_branch, make_scheduler, make_transformer

from videopainter.models.backbones.cogvideox import published
from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.backbones.grid import LatentGrid
from videopainter.models.backbones.registry import backbone_of, facts_of
from videopainter.pipelines.settings import InpaintSettings
from videopainter.training.model import InpaintingModel

V15 = {"patch_size_t": 2, "ofs_embed_dim": 16, "sample_frames": 13}


def facts(name, **changes):
    return facts_of({**published.BACKBONES[name], "_class_name": "CogVideoXTransformer3DModel", **changes})


@pytest.mark.parametrize("name", published.BACKBONES)
def test_published_checkpoints_work_at_the_size_they_were_trained_on(name):
    """1.5's config says 300×300 latents, its largest rotary grid: 2400×2400 pixels would be no working size."""
    expected = (768, 1360) if "1.5" in name else (480, 720)
    assert facts(name).trained_size == expected
    assert facts(name).text_tokens == 226
    assert facts(name).image_conditioned == name.endswith("I2V")
    area = math.prod(expected)
    assert facts(name).grid.working_size(*expected, area) == expected
    assert abs(math.prod(facts(name).grid.working_size(1080, 1920, area)) / area - 1) < 0.05


def test_the_first_configs_of_1_5_say_the_same():
    early = facts("CogVideoX1.5-5B", sample_height=96, sample_width=170)
    assert early.trained_size == (768, 1360)


def test_small_models_of_1_5_keep_their_own_size():
    assert facts("CogVideoX1.5-5B", sample_height=4, sample_width=6).trained_size == (32, 48)


def test_other_families_are_refused_in_one_line():
    with pytest.raises(ValueError, match="got MochiTransformer3DModel"):
        facts_of({"_class_name": "MochiTransformer3DModel"})


def test_facts_and_settings_need_no_torch():
    code = (
        "import sys; from videopainter.models.backbones.registry import facts_of;"
        "from videopainter.models import checks; from videopainter.pipelines import memory, settings, windows;"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_grid_counts_frames_latents_and_tokens():
    grid = LatentGrid(temporal=4, spatial=8, patch=2, patch_t=2)
    assert [grid.is_frame_count(n) for n in (0, 1, 2, 4, 5, 49)] == [False, True, False, False, True, True]
    assert [grid.padded_frames(n) for n in (1, 2, 5, 6, 49)] == [1, 5, 5, 9, 49]
    assert [grid.latent_frames(n) for n in (1, 5, 49)] == [1, 2, 13]
    assert [grid.missing(n) for n in (1, 2, 13)] == [1, 0, 1]
    assert grid.num_tokens(49, 480, 720) == 7 * 30 * 45
    assert grid.frame_counts(49) == "4k+1 (1, 5, 9, ..., 49)"


def test_other_grids_reach_windows_and_sizes():
    """A VAE of 8 frames and 16 pixels (Wan 2.2 has 4 and 16, LTX 8 and 32)."""
    from videopainter.pipelines.windows import plan_windows

    grid = LatentGrid(temporal=8, spatial=16, patch=2)
    plan = plan_windows(40, 17, 9, grid)
    assert [(w.start, w.stop, w.latent_start, w.latent_stop) for w in plan.windows] == [
        (0, 17, 0, 3), (8, 25, 1, 4), (16, 33, 2, 5), (24, 41, 3, 6)
    ]  # fmt: skip
    assert plan.num_latents == 6
    assert grid.working_size(540, 960, 704 * 1280) == (704, 1280)


def conditions(frames, batch=2):
    generator = torch.Generator().manual_seed(1)
    draw = lambda channels: torch.randn(batch, frames, channels, 4, 6, generator=generator)  # noqa: E731
    mask = torch.zeros(batch, frames, 1, 4, 6)
    mask[:, :, :, 1:3, 2:4] = 1
    return draw(16), Conditions(masked_latents=draw(16), mask=mask, image_latents=draw(16))


@pytest.mark.parametrize(("changes", "frames"), [({}, 3), (V15, 3), (V15, 4)], ids=["1.0", "1.5 odd", "1.5"])
@pytest.mark.parametrize("form", [None, "exact", "compact"])
def test_training_asks_what_the_sampler_asks(changes, frames, form):
    """The trained module and the sampler's denoiser give the same output and hand on the same memory."""
    transformer = make_transformer(**changes)
    branch = make_branch(transformer)
    noisy, given = conditions(frames)
    text, times = torch.randn(2, TEXT_LENGTH, TEXT_DIM), torch.tensor([700, 30])
    denoiser, model = Denoiser(transformer, branch, form=form), InpaintingModel(transformer, branch, id_form=form)
    with torch.no_grad():
        output, memory = denoiser(noisy, denoiser.prepare(given), text, times, remember=form is not None)
        assert output.shape == noisy.shape
        torch.testing.assert_close(model(noisy, given, text, times), output)
        if form is not None:
            trained = model(noisy, given, text, times, remember=True)
            for a, b in zip(trained.hidden, memory.hidden, strict=True):
                torch.testing.assert_close(a[:, : b.shape[1]], b)


def test_a_clip_is_prepared_once(monkeypatch):
    """Steps make no positions and count no holes."""
    transformer = make_transformer()
    denoiser = Denoiser(transformer, make_branch(transformer), form="exact")
    noisy, given = conditions(3)
    clip = denoiser.prepare(given)
    monkeypatch.setattr(type(denoiser.backbone), "positions", lambda *_: pytest.fail("positions at a step"))
    with torch.no_grad():
        for time in (700, 30):
            denoiser(noisy, clip, torch.randn(2, TEXT_LENGTH, TEXT_DIM), torch.full((2,), time))


def test_errors_vanish_for_the_true_velocity():
    """Noise, velocity and clean latents fit each other: the loss of a model that knows the answer is zero."""
    process = backbone_of(make_transformer()).process(make_scheduler())
    clean, noise = torch.randn(4, 2, 16, 4, 6), torch.randn(4, 2, 16, 4, 6)
    times = torch.tensor([0, 250, 700, 998])
    alpha = process.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1, 1)
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    noisy = process.noised(clean, noise, times)
    assert process.errors(velocity, noisy, clean, noise, times).max() < 1e-8
    # w = 1/(1−ᾱ) makes it the plain error of the velocity.
    off = process.errors(velocity + 0.5, noisy, clean, noise, times)
    torch.testing.assert_close(off, torch.full_like(off, 0.25), rtol=1e-3, atol=1e-4)


def test_late_times_have_little_noise():
    process = backbone_of(make_transformer()).process(make_scheduler())
    generator = torch.Generator().manual_seed(0)
    late = [process.draw_time(generator, late=True) for _ in range(300)]
    assert 150 < max(late) < 200 and min(late) < 20


def test_settings_are_held_to_the_grid():
    with pytest.raises(ValueError, match=r"4k\+1 \(1, 5, 9, \.\.\., 49\), got 48"):
        InpaintSettings(num_frames=48)
