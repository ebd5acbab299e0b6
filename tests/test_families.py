"""What every family of backbones has to show: the table that a new one is entered into (train/BACKBONES.md).

Entries are makers of small random models. All is asked through the adapter, so nothing here knows a family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import conftest
import numpy as np
import pytest
import torch
import wan_models
from conftest import TEXT_DIM, noise_video
from peft import LoraConfig

from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.backbones.registry import backbone_of, codec_of, facts_of
from videopainter.models.id_adapter import TARGET_MODULES
from videopainter.pipelines.placement import place
from videopainter.pipelines.step_cache import StepCache, enable_step_cache
from videopainter.training.model import InpaintingModel, freeze_all_but_branch


@dataclass(frozen=True)
class Family:
    """A family's entry.

    Args:
        pipeline: Makes one with a trained branch and without a text encoder.
        text: Tokens of a prompt.
        streams: Whether its VAE's decoder is causal, so that memory need not grow with the video.
    """

    name: str
    pipeline: Callable[[], Any]
    text: int = 12
    streams: bool = True


FAMILIES = [
    Family("CogVideoX", conftest.make_pipeline),
    Family("Wan", wan_models.make_pipeline),
    Family("Wan I2V", wan_models.make_image_pipeline),
    Family("Wan 2.2", wan_models.make_dense_pipeline),
]
TOKENS = (3, 2, 3)  # of a clip: in time, down and across


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request) -> Family:
    return request.param


@pytest.fixture
def pipe(family):
    return family.pipeline()


def clip(pipe: Any, family: Family, batch: int = 2) -> tuple[torch.Tensor, Conditions, torch.Tensor, torch.Tensor]:
    """Noisy latents, conditions whose samples have holes of different sizes, prompt embeddings, timesteps."""
    grid = pipe.backbone.grid
    generator = torch.Generator().manual_seed(1)
    frames, height, width = (n * size for n, size in zip(TOKENS, (grid.patch_t, grid.patch, grid.patch)))
    draw = torch.randn(3, batch, frames, grid.channels, height, width, generator=generator)
    mask = torch.zeros(batch, frames, 1, height, width)
    mask[..., : grid.patch, : grid.patch] = 1
    mask[1:, ..., grid.patch :, grid.patch :] = 1
    given = Conditions(masked_latents=draw[1], mask=mask)
    if pipe.image_conditioned:
        frame = torch.rand(batch, 3, 1, height * grid.spatial, width * grid.spatial, generator=generator) * 2 - 1
        latents, embeds = pipe.backbone.encode_image(pipe.codec, pipe.images, frame, (frames - 1) * grid.temporal + 1)
        given = replace(given, image_latents=pipe.backbone.image_condition(latents, draw[0]), image_embeds=embeds)
    text = torch.randn(batch, family.text, TEXT_DIM, generator=generator)
    return draw[0], given, text, torch.tensor([700, 40])[:batch]


def run(denoiser: Denoiser, noisy: torch.Tensor, given: Conditions, *rest: torch.Tensor, **options: Any) -> Any:
    with torch.no_grad():
        return denoiser(noisy, denoiser.prepare(given), *rest, **options)


# ---- facts


def test_its_config_says_what_the_loaded_model_says(pipe):
    config = dict(pipe.transformer.config) | {"_class_name": type(pipe.transformer).__name__}
    facts = facts_of(config)
    assert facts.family == pipe.backbone.facts.family
    assert (facts.width, facts.num_layers) == (pipe.backbone.facts.width, len(getattr(pipe.transformer, facts.blocks)))
    assert type(pipe.branch).__name__ == facts.branch_class and backbone_of(pipe.transformer).classes.branch
    names = pipe.transformer.state_dict()
    assert any(name.startswith(f"{facts.blocks}.0.") for name in names)
    assert all(facts.config.get(name) == pipe.branch.config.get(name) for name in facts.shared_config)


# ---- the branch


def test_a_new_branch_changes_nothing_and_a_trained_one_what_it_may(pipe, family):
    asked = clip(pipe, family)
    bare = run(Denoiser(pipe.transformer, None), *asked)[0]
    assert bare.shape == asked[0].shape and bare.std() > 1e-3
    new = type(pipe.branch).from_transformer(pipe.transformer, num_layers=2)
    assert torch.equal(run(Denoiser(pipe.transformer, new), *asked)[0], bare)
    assert not torch.allclose(run(Denoiser(pipe.transformer, pipe.branch), *asked)[0], bare, atol=1e-4)
    noisy, given, *rest = asked
    everything = replace(given, mask=torch.ones_like(given.mask))
    assert torch.equal(run(Denoiser(pipe.transformer, pipe.branch), noisy, everything, *rest)[0], bare)
    anywhere = Denoiser(pipe.transformer, pipe.branch, mask_add=False)
    assert not torch.allclose(run(anywhere, noisy, everything, *rest)[0], bare, atol=1e-4)


def test_only_the_branch_learns_and_checkpointing_changes_nothing(pipe, family):
    noisy, given, *rest = clip(pipe, family)
    model = InpaintingModel(pipe.transformer, pipe.branch).train()
    freeze_all_but_branch(model)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(noisy, given, *rest).square().mean().backward()
        return {name: p.grad.clone() for name, p in model.trained_parameters().items()}

    plain = gradients()
    assert plain and all(name.startswith("branch.") for name in plain)
    for part in (pipe.transformer, pipe.branch):
        part.enable_gradient_checkpointing()
    for name, grad in gradients().items():
        torch.testing.assert_close(grad, plain[name], msg=name)


def test_a_branch_comes_back_from_disk(pipe, tmp_path):
    pipe.branch.save_pretrained(tmp_path)
    again = pipe.backbone.classes.branch.from_pretrained(tmp_path)
    own = pipe.branch.state_dict()
    assert again.state_dict().keys() == own.keys()
    assert all(torch.equal(value, own[name]) for name, value in again.state_dict().items())


def test_a_lora_of_the_attention_is_taken_and_left(pipe, family):
    asked = clip(pipe, family)
    denoiser = Denoiser(pipe.transformer, pipe.branch)
    before = run(denoiser, *asked)[0]
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=list(TARGET_MODULES), init_lora_weights=False))
    assert not torch.allclose(run(denoiser, *asked)[0], before, atol=1e-5)
    pipe.transformer.disable_adapters()
    torch.testing.assert_close(run(denoiser, *asked)[0], before)


# ---- the image


def test_an_image_is_seen_and_hidden_by_zeros(pipe, family):
    noisy, given, *rest = clip(pipe, family)
    if not pipe.image_conditioned:
        assert given.image_latents is None and pipe.backbone.image_condition(None, noisy) is None
        return
    denoiser = Denoiser(pipe.transformer, pipe.branch)
    seen = run(denoiser, noisy, given, *rest)[0]
    none = replace(given, image_latents=pipe.backbone.image_condition(None, noisy), image_embeds=None)
    hidden = run(denoiser, noisy, none, *rest)[0]
    assert not torch.allclose(seen, hidden, atol=1e-4)
    times = torch.tensor([1.0, 0.0])  # a dropout in training
    dropped = {name: getattr(given, name) for name in ("image_latents", "image_embeds")}
    dropped = {k: x if x is None else x * times.view(-1, *[1] * (x.ndim - 1)) for k, x in dropped.items()}
    mixed = run(denoiser, noisy, replace(given, **dropped), *rest)[0]
    torch.testing.assert_close(mixed[:1], seen[:1])
    torch.testing.assert_close(mixed[1:], hidden[1:])


# ---- ID resampling


def test_a_sample_is_resampled_alone_and_hands_its_hole_on(pipe, family):
    noisy, given, *rest = clip(pipe, family)
    for form in pipe.backbone.facts.forms:
        denoiser = Denoiser(pipe.transformer, pipe.branch, form=form)
        together, memory = run(denoiser, noisy, given, *rest, remember=True)
        for one in (slice(0, 1), slice(1, 2)):
            part = given.map(lambda x, one=one: x[one])
            alone, _ = run(denoiser, noisy[one], part, *(x[one] for x in rest))
            torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together, run(Denoiser(pipe.transformer, pipe.branch), noisy, given, *rest)[0])
        facts = pipe.backbone.facts
        assert [hidden.shape[2] for hidden in memory.hidden] == [facts.width] * facts.num_layers
        after = run(denoiser, noisy, given, *rest, previous=memory, prev_clip_weight=0.7)[0]
        assert not torch.allclose(after, together, atol=1e-5)


# ---- pixels, noise


@pytest.mark.parametrize("pieces", [1, 2])
def test_streamed_decoding_equals_decoding_at_once(pipe, family, pieces):
    """And no piece is larger than a few latents' frames."""
    grid, codec = pipe.backbone.grid, codec_of(pipe.vae)
    frames = 4 * grid.temporal + 1
    video = torch.from_numpy(noise_video(frames, 2 * grid.multiple, 3 * grid.multiple))
    latents = codec.encode(video.permute(3, 0, 1, 2)[None] / 127.5 - 1)
    assert latents.shape == (1, grid.latent_frames(frames), grid.channels, *grid.latent_size(*video.shape[1:3]))
    whole = torch.cat(list(codec.decode_stream([latents], 5)), dim=2)
    streamed = list(codec.decode_stream(latents.split(pieces, dim=1), 5))
    assert whole.shape[2] == frames
    assert not family.streams or max(piece.shape[2] for piece in streamed) <= 2 * grid.temporal + 1
    assert torch.equal(torch.cat(streamed, dim=2), whole)


def test_noise_levels_end_at_the_clean_clip_and_begin_far_from_it(pipe):
    process = pipe.backbone.process(pipe.scheduler)
    steps = process.steps(4, 4, torch.device("cpu"))
    clean, noise = torch.randn(2, 1, 3, pipe.backbone.grid.channels, 4, 6, generator=torch.Generator().manual_seed(2))
    apart = [float((steps.noised(clean, noise, step) - clean).abs().mean()) for step in range(len(steps) + 1)]
    assert apart == sorted(apart, reverse=True) and apart[-1] == 0 and apart[0] > 1
    drawn = [process.draw_time(torch.Generator().manual_seed(seed)) for seed in range(200)]
    late = [process.draw_time(torch.Generator().manual_seed(seed), late=True) for seed in range(200)]
    assert len(set(drawn)) > 100 and max(late) < 0.5 * pipe.backbone.facts.num_train_timesteps < max(drawn)
    # Loss and sampler mean the same noise by a timestep.
    for step in range(1, len(steps)):
        ours = process.noised(clean, noise, torch.tensor([steps.values[step]]))
        torch.testing.assert_close(ours, steps.noised(clean, noise, step), rtol=0, atol=5e-3)


def test_a_model_that_knows_the_answer_has_no_loss_and_samples_it(pipe):
    """Found by descent on the output, so that it need not be said what the family's models predict."""
    process = pipe.backbone.process(pipe.scheduler)
    clean, noise = torch.randn(2, 1, 3, pipe.backbone.grid.channels, 4, 6, generator=torch.Generator().manual_seed(3))

    def answer(noisy: torch.Tensor, t: int) -> torch.Tensor:
        output, at = torch.zeros_like(clean).requires_grad_(True), torch.tensor([t])
        # The error is a square of something linear in the output: one step of Newton's per number.
        errors = process.errors(output, noisy, clean, noise, at)
        (slope,) = torch.autograd.grad(errors.sum(), output, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), output)
        output = (-slope / bend).detach()
        assert process.errors(output, noisy, clean, noise, at).max() < 1e-6
        return output

    for t in (100, 500, 900):
        answer(process.noised(clean, noise, torch.tensor([t])), t)
    steps = process.steps(6, 6, torch.device("cpu"), torch.Generator().manual_seed(4))
    if "DPM" in type(pipe.scheduler).__name__:
        return  # it draws noise of its own between steps
    latents = steps.start(noise)
    for step, t in enumerate(steps.values):
        latents = steps.step(step, answer(latents.float(), t), latents)
    torch.testing.assert_close(latents, clean, rtol=0, atol=2e-3)


# ---- whole windows


def painted(pipe: Any, family: Family, steps: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Video, masks and result of two windows that hand on."""
    grid = pipe.backbone.grid
    window, overlap = 2 * grid.temporal + 1, grid.temporal + 1
    frames, height, width = 3 * grid.temporal + 1, 2 * grid.multiple, 3 * grid.multiple
    video, masks = noise_video(frames, height, width), np.zeros((frames, height, width), dtype=bool)
    masks[:, height // 4 : height // 2, width // 4 : width // 2] = True
    draw = torch.randn(2, 1, family.text, TEXT_DIM, generator=torch.Generator().manual_seed(9))
    form = pipe.backbone.facts.forms[-1]
    settings = {"height": height, "width": width, "num_frames": window, "overlap_frames": overlap}
    settings |= {"num_inference_steps": steps, "id_resample": form, "prev_clip_weight": 0.5, "output_type": "np"}
    image = video[0] if pipe.image_conditioned else None
    inputs = {"video": video, "masks": masks, "image": image}
    return video, masks, pipe(**inputs, prompt_embeds=draw[0], negative_prompt_embeds=draw[1], **settings).frames[0]


def test_a_long_video_keeps_its_background_and_is_painted_in_the_hole(pipe, family):
    video, masks, result = painted(pipe, family)
    assert result.shape == video.shape and np.array_equal(result[~masks], video[~masks])
    assert (result[masks] != video[masks]).mean() > 0.8


@pytest.mark.parametrize(
    "way", ["group_offload", *(pytest.param(way, marks=pytest.mark.slow) for way in ("sequential", "compiled"))]
)
def test_it_computes_the_same_wherever_its_weights_lie(family, way):
    *_, expected = painted(family.pipeline(), family)
    pipe = family.pipeline()
    if way == "compiled":
        pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
    else:
        place(pipe, torch.device("cpu"), way, tiling=False)
    assert np.array_equal(painted(pipe, family)[-1], expected)


@pytest.mark.parametrize(
    "cache",
    [StepCache(name="first_block", threshold=1e6), StepCache(name="taylorseer")],
    ids=["first_block", "taylorseer"],
)
def test_a_step_cache_leaves_work_out(pipe, family, cache):
    calls = []
    attention = getattr(pipe.transformer, pipe.backbone.facts.blocks)[-1].attn1
    attention.register_forward_hook(lambda *_: calls.append(1))
    *_, exact = painted(pipe, family, steps=6)
    computed = len(calls)
    enable_step_cache(pipe, cache)
    video, masks, result = painted(pipe, family, steps=6)
    assert 0 < len(calls) - computed < computed
    assert np.array_equal(result[~masks], video[~masks]) and not np.array_equal(result, exact)
