"""What training draws: how often, how much, and that what is drawn arrives at the model."""

import math

import numpy as np
import pytest
import torch
from conftest import make_scheduler, make_transformer, make_vae, moving_mask, noise_video

from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSample
from videopainter.models.backbones.cogvideox.codec import CogVideoXCodec
from videopainter.models.backbones.cogvideox.process import CogVideoXProcess
from videopainter.models.backbones.registry import backbone_of
from videopainter.pipelines.conditioning import fill_hole, to_video_tensor
from videopainter.training.draws import first_frame_noise, keeps_image, noise_and_timestep
from videopainter.training.encoding import EncodedBatch, encode_pixels, noised_first_frames
from videopainter.training.objective import Objective
from videopainter.training.options import ConditionOptions

KEYS = [SampleKey(epoch, row, False) for epoch in range(4) for row in range(250)]


@pytest.mark.parametrize("dropout", [0.0, 0.05, 0.5, 1.0])
def test_images_are_dropped_as_often_as_asked(dropout):
    dropped = np.mean([not keeps_image(3, key, dropout) for key in KEYS])
    assert dropped == pytest.approx(dropout, abs=4 * math.sqrt(dropout * (1 - dropout) / len(KEYS)))


def test_timesteps_are_uniform_and_noise_normal():
    process = CogVideoXProcess(make_scheduler())
    drawn = [noise_and_timestep(3, key, (8,), process.draw_time) for key in KEYS]
    steps, noise = np.array([t for _, t in drawn]), torch.stack([noise for noise, _ in drawn])
    assert 0 <= steps.min() < 10 and 990 <= steps.max() < 1000
    assert steps.mean() == pytest.approx(500, abs=40)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05) and float(noise.std()) == pytest.approx(1, abs=0.05)
    assert len({float(row[0]) for row in noise}) == len(KEYS)


def test_first_frames_get_log_normal_noise():
    """σ = exp(N(−3, 0.5)), as CogVideoX was trained."""
    sigmas = np.log([first_frame_noise(3, key, (1,))[0] for key in KEYS])
    assert sigmas.mean() == pytest.approx(-3, abs=0.06) and sigmas.std() == pytest.approx(0.5, abs=0.05)
    video, (key, *_) = torch.zeros(1, 3, 5, 16, 16), KEYS
    noised = noised_first_frames(video, [key], seed=3)
    sigma, noise = first_frame_noise(3, key, (3, 1, 16, 16))
    assert noised.shape == (1, 3, 1, 16, 16)
    torch.testing.assert_close(noised[0], sigma * noise)


class Recorder:
    """In place of the model: keeps what it was given, and gives back zeros."""

    def __call__(self, noisy, conditions, *rest):
        self.noisy, self.image_latents, self.rest = noisy, conditions.image_latents, rest
        return torch.zeros_like(noisy)


def make_batch(samples=64):
    keys = [SampleKey(1, row, False) for row in range(samples)]
    latents = torch.randn(samples, 2, 16, 4, 6)
    mask = (torch.rand(samples, 2, 1, 4, 6) < 0.4).float()
    return EncodedBatch(keys, latents, latents, mask, torch.ones(samples, 1, 16, 4, 6), torch.randn(samples, 12, 24))


@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_a_dropped_image_never_reaches_the_model(dropout):
    objective = Objective(
        backbone_of(make_transformer()), make_scheduler(), ConditionOptions(noised_image_dropout=dropout)
    )
    model, batch = Recorder(), make_batch()
    objective.training_losses(model, batch, seed=6)
    kept = torch.tensor([keeps_image(6, key, dropout) for key in batch.keys])
    assert torch.equal(model.image_latents[:, 0].amax(dim=(1, 2, 3)), kept.float())
    assert not model.image_latents[:, 1:].any()
    assert 0.25 < kept.float().mean() < 0.75 or dropout != 0.5


def test_losses_are_weighted_as_written():
    """mean(w (x̂ − x)²) with w = 1 / (1 − ᾱ), and the same in the hole; the second counts by its own weight."""
    scheduler, batch = make_scheduler(), make_batch()
    objective = Objective(backbone_of(make_transformer()), scheduler, ConditionOptions(inpainting_loss_weight=0.3))
    noise, t = torch.randn_like(batch.latents), torch.randint(100, 900, (64,))
    losses = objective.loss(Recorder(), batch, noise, t)
    alpha = scheduler.alphas_cumprod[t].float().view(-1, 1, 1, 1, 1)
    noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * noise
    error = (alpha.sqrt() * noisy - batch.latents) ** 2 / (1 - alpha)  # the model says v = 0: x̂ = sqrt(ᾱ) x_t
    torch.testing.assert_close(losses.full, error.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(losses.masked, (error * batch.mask).mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(objective.total(losses), losses.full + 0.3 * losses.masked)


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_holes_are_filled_as_the_branch_says(fill):
    vae, masks = make_vae(), moving_mask(5)
    sample = TrainingSample(key=KEYS[0], frames=noise_video(5), masks=masks, caption="a caption", clip_row=0)
    encoded = encode_pixels(vae, [sample], seed=0, hole_fill=fill)
    video, mask = to_video_tensor(sample.frames), torch.from_numpy(masks)[None, None].float()
    torch.testing.assert_close(encoded.masked_latents, CogVideoXCodec(vae).encode(fill_hole(video, mask, fill)))
    torch.testing.assert_close(encoded.latents, CogVideoXCodec(vae).encode(video))
