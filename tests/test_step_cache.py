"""Step caches on tiny random weights: work is left out, windows do not see each other, ID memory is computed."""

import json

import pytest
import torch
from conftest import make_pipeline, make_transformer, moving_mask, noise_video
from diffusers import FasterCacheConfig, TaylorSeerCacheConfig

from videopainter.cli.inpaint import read_options
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.errors import Interrupted
from videopainter.models.id_resample import IDResample
from videopainter.pipelines.placement import place
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.step_cache import StepCache, enable_step_cache, read_ratios
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.streaming import denoise_windows, make_job
from videopainter.runs.plan import step_cache

STEPS = 8
CACHES = {
    "first_block": StepCache(name="first_block", threshold=1e6),
    "taylorseer": StepCache(name="taylorseer", threshold=4),
    "pab": StepCache(name="pab", threshold=2),
    "mag": StepCache(name="mag", num_inference_steps=STEPS, ratios=(1.0,) * STEPS),
}


def cached_pipeline(name, memory="full"):
    pipe = make_pipeline()
    if name is not None:
        enable_step_cache(pipe, CACHES[name])
    place(pipe, torch.device("cpu"), memory, tiling=False)
    return pipe


def denoise(pipe, embeds, store=None, frames=13, stop_after=None, **options):
    """Windows of 9 frames that share 5, with ID memory handed on; returns the store."""
    settings = InpaintSettings(
        num_inference_steps=STEPS,
        num_frames=9,
        overlap_frames=5,
        **{"id_resample": "exact", "prev_clip_weight": 0.5, **options},
    )
    prompts = PromptTrack.from_embeds(pipe, embeds["prompt_embeds"], embeds["negative_prompt_embeds"])
    video, masks = ArrayFrames(noise_video(frames)), ArrayMasks(moving_mask(frames))
    store = store or WindowStore()
    job, asked = make_job(pipe, video, masks, settings=settings, prompts=prompts), []
    job.interrupted = lambda: asked.append(1) or len(asked) == stop_after
    list(denoise_windows(pipe, job, store))
    return store


def count(pipe):
    """Calls of attention and feed-forward from here on, over all backbone blocks."""
    calls = {"attention": 0, "feed-forward": 0}

    def note(name):
        def hook(*_):
            calls[name] += 1

        return hook

    for block in pipe.transformer.transformer_blocks:
        block.attn1.to_q.register_forward_hook(note("attention"))
        block.ff.net[0].register_forward_hook(note("feed-forward"))
    return calls


@pytest.mark.parametrize(
    ("name", "attention", "feed_forward"),
    [
        (None, 24, 24),
        ("first_block", 3 + 7, 3 + 7),
        ("taylorseer", 12, 12),  # steps 0, 1, 2, 4
        ("pab", 15, 24),  # of the eight timesteps 124, 249, ..., 749 are inside its range
        ("mag", 9, 9),  # steps 0, 1 and, after three that were left out, 5
    ],
)
def test_work_is_left_out(embeds, name, attention, feed_forward):
    pipe = cached_pipeline(name)
    calls = count(pipe)
    latents = denoise(pipe, embeds, frames=9, prev_clip_weight=0.0).latents(0)
    assert calls == {"attention": attention, "feed-forward": feed_forward}
    plain = denoise(cached_pipeline(None), embeds, frames=9, prev_clip_weight=0.0).latents(0)
    assert torch.equal(latents, plain) == (name is None)
    assert (latents - plain).abs().mean() < plain.abs().mean()


@pytest.mark.parametrize("name", CACHES)
def test_a_window_does_not_see_the_state_of_the_one_before(embeds, name):
    """A run that goes on in another process has no such state."""
    whole = denoise(cached_pipeline(name), embeds)
    resumed = WindowStore()
    resumed.save(0, whole.latents(0), denoise(cached_pipeline(name), embeds, frames=13).memory(before=1))
    denoise(cached_pipeline(name), embeds, resumed)
    assert torch.equal(resumed.latents(1), whole.latents(1))


@pytest.mark.parametrize("name", CACHES)
def test_a_broken_off_window_leaves_no_state(embeds, name):
    pipe = cached_pipeline(name)
    with pytest.raises(Interrupted):
        denoise(pipe, embeds, stop_after=4)
    assert torch.equal(denoise(pipe, embeds).latents(1), denoise(cached_pipeline(name), embeds).latents(1))


@pytest.mark.parametrize("name", CACHES)
def test_id_memory_is_computed(embeds, name):
    """What a cached run hands on is what the plain backbone gives for the same inputs."""
    pipe, last = cached_pipeline(name), []

    def keep(module, args, kwargs):
        if kwargs["id_resample"].remember:
            last.append((args, kwargs))

    pipe.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    memory = denoise(pipe, embeds).memory(before=1)
    ((args, kwargs),) = last
    expected = IDResample(kwargs["id_resample"].hole, "exact", remember=True)
    with torch.no_grad():
        make_transformer()(*args, **{**kwargs, "id_resample": expected})
    assert len(memory.hidden) == 3
    for handed, plain in zip(memory.hidden, expected.memory, strict=True):
        assert torch.equal(handed, plain)


@pytest.mark.parametrize("name", CACHES)
def test_nothing_is_held_after_a_window(embeds, name):
    """Attention outputs of 42 blocks are gigabytes that decoding needs."""
    pipe = cached_pipeline(name)
    denoise(pipe, embeds, frames=9)
    hooks = [hook for module in pipe.transformer.modules() for hook in hooks_of(module)]
    assert hooks
    for hook in hooks:
        assert not any(getattr(value, "_state_cache", None) for value in vars(hook).values())
        assert getattr(getattr(hook, "state", None), "cache", None) is None


def hooks_of(module):
    return module._diffusers_hook.hooks.values() if hasattr(module, "_diffusers_hook") else ()


@pytest.mark.parametrize("name", ["first_block", "taylorseer", "pab"])
def test_offloading_changes_nothing(embeds, name):
    here = denoise(cached_pipeline(name), embeds)
    away = denoise(cached_pipeline(name, "group_offload"), embeds)
    assert torch.equal(here.latents(1), away.latents(1))


def test_upstreams_taylorseer_finds_our_blocks(embeds):
    pipe = make_pipeline()
    pipe.transformer.enable_cache(TaylorSeerCacheConfig(cache_interval=3, taylor_factors_dtype=torch.float32))
    calls = count(pipe)
    denoise(pipe, embeds, frames=9)
    assert calls == {"attention": 15, "feed-forward": 15}


def test_faster_cache_is_refused_by_name():
    with pytest.raises(ValueError, match="got FasterCache: it halves the batch"):
        make_transformer().enable_cache(FasterCacheConfig())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--cache_threshold 0.1", "--cache_threshold needs a --cache: first_block, taylorseer, pab, mag"),
        ("--cache first_block --cache_threshold 0", "--cache_threshold: expected more than 0, at most 1e+09, got 0"),
        ("--cache pab --cache_threshold 1.5", "cache threshold of pab: expected 2, 3, 4, ... steps, got 1.5"),
        ("--cache mag", "cache mag: expected ratios measured on this checkpoint"),
        ("--cache mag --strength 0.5", "--cache mag counts steps from the first: expected --strength 1, got 0.5"),
        ("--cache pab --cache_ratios {ratios}", "cache ratios: expected the cache mag, got pab"),
        ("--cache mag --cache_ratios {bad}", "cache ratios: expected a JSON list of finite numbers, got another, in "),
        ("--cache mag --cache_ratios nowhere.json", "cache ratios: expected a JSON list of numbers, got"),
    ],
)
def test_mistakes_are_one_line(tmp_path, flags, line):
    (tmp_path / "ratios.json").write_text("[1, 0.9]")
    (tmp_path / "bad.json").write_text('{"1": 2}')
    flags = flags.format(ratios=tmp_path / "ratios.json", bad=tmp_path / "bad.json")
    with pytest.raises(ValueError) as error:
        step_cache(read_options(flags.split()))
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_flags_become_a_cache(tmp_path):
    assert step_cache(read_options([])) is None
    (tmp_path / "ratios.json").write_text(json.dumps([1.0, 0.5]))
    flags = ["--cache", "mag", "--cache_ratios", str(tmp_path / "ratios.json"), "--num_inference_steps", "7"]
    cache = step_cache(read_options(flags))
    assert cache == StepCache(name="mag", num_inference_steps=7, ratios=read_ratios(tmp_path / "ratios.json"))
    assert cache.recipe() == {"name": "mag", "threshold": 0.06, "ratios": [1.0, 0.5]}
    assert step_cache(read_options(["--cache", "pab"])).recipe() == {"name": "pab", "threshold": 2.0}


def test_a_window_that_is_stopped_leaves_nothing_behind(embeds):
    """Attention outputs of all blocks: 8.5 GiB of a published backbone, while finished windows are decoded."""
    pipe = cached_pipeline("pab")
    with pytest.raises(Interrupted):
        denoise(pipe, embeds, stop_after=6)
    registries = [m._diffusers_hook for m in pipe.transformer.modules() if hasattr(m, "_diffusers_hook")]
    states = [hook.state for registry in registries for hook in registry.hooks.values() if hasattr(hook, "state")]
    assert len(states) == 3 and all(state.cache is None for state in states)
    assert pipe._current_timestep is None
