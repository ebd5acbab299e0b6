"""The pipeline on tiny random weights: lengths, exact background, streaming, resuming, options."""

import numpy as np
import pytest
import torch
from conftest import make_pipeline, make_transformer, moving_mask, noise_video

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.reshape import resize_masks
from videopainter.models.id_resample import ClipMemory, HoleTokens
from videopainter.pipelines.conditioning import latent_mask, touched_latents
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.streaming import denoise_windows, finished_frames, inpaint_stream, make_job
from videopainter.pipelines.windows import plan_windows

FAST = {"num_inference_steps": 2, "num_frames": 9, "overlap_frames": 5, "output_type": "np"}


def inpaint(pipe, embeds, frames=13, video=None, masks=None, **options):
    video = noise_video(frames) if video is None else video
    masks = moving_mask(len(video)) if masks is None else masks
    return pipe(video=video, masks=masks, **{**FAST, **embeds, **options}).frames[0]


@pytest.mark.parametrize("frames", [1, 5, 48, 49, 50, 137, 200])
def test_output_has_the_inputs_frames_and_background(pipe, embeds, frames):
    video, masks = noise_video(frames), moving_mask(frames)
    result = inpaint(pipe, embeds, video=video, masks=masks, num_frames=49, overlap_frames=13, num_inference_steps=1)
    assert result.shape == video.shape
    assert np.array_equal(result[~masks], video[~masks])
    assert not np.array_equal(result[masks], video[masks])


def test_empty_mask_gives_white_noise_back_bit_for_bit(pipe, embeds):
    video = noise_video(50)
    result = inpaint(pipe, embeds, video=video, masks=np.zeros(video.shape[:3], dtype=bool))
    assert np.array_equal(result, video)


def test_background_is_kept_at_full_resolution(pipe, embeds):
    video, masks = noise_video(7, 75, 101), moving_mask(7, 75, 101)
    result = inpaint(pipe, embeds, video=video, masks=masks, height=32, width=48)
    assert result.shape == video.shape
    assert np.array_equal(result[~masks], video[~masks])


def test_feather_lies_inside_the_hole(pipe, embeds):
    video, masks = noise_video(5, 64, 96), moving_mask(5, 64, 96)
    hard, soft = (inpaint(pipe, embeds, video=video, masks=masks, feather=f) for f in (0, 4))
    assert np.array_equal(soft[~masks], video[~masks])
    assert not np.array_equal(soft[masks], hard[masks])


def test_matched_edges_leave_the_background_alone(pipe, embeds):
    video, masks = noise_video(5, 64, 96), moving_mask(5, 64, 96)
    plain, matched = (inpaint(pipe, embeds, video=video, masks=masks, match_edges=on) for on in (False, True))
    assert np.array_equal(matched[~masks], video[~masks])
    assert not np.array_equal(matched[masks], plain[masks])


@pytest.mark.parametrize("size", [(48, 32), (33, 47), (32, 208)])
def test_other_sizes_and_portrait(pipe, embeds, size):
    result = inpaint(pipe, embeds, video=noise_video(5, *size), masks=moving_mask(5, *size))
    assert result.shape == (5, *size, 3)


def test_same_seed_same_video(pipe, embeds):
    first, again, other = (inpaint(pipe, embeds, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("replace_gt", [True, False])
def test_streaming_equals_the_call_in_memory(pipe, embeds, monkeypatch, tmp_path, replace_gt):
    video, masks = noise_video(22), moving_mask(22)
    options = {**FAST, "replace_gt": replace_gt}
    options.pop("output_type")
    settings = InpaintSettings(**options)
    expected = inpaint(pipe, embeds, video=video, masks=masks, replace_gt=replace_gt)
    monkeypatch.setattr(pipe, "embed_text", lambda text: embeds["prompt_embeds" if text else "negative_prompt_embeds"])
    for work_dir in (None, tmp_path / "work"):
        chunks = list(
            inpaint_stream(
                pipe, ArrayFrames(video), ArrayMasks(masks), settings=settings, prompt="x", work_dir=work_dir
            )
        )
        assert max(len(chunk) for chunk in chunks) <= 9
        assert np.array_equal(np.concatenate(chunks), expected)


def test_streaming_keeps_no_graph(pipe, embeds, monkeypatch):
    """Activations that autograd keeps would take more memory than everything else."""
    monkeypatch.setattr(pipe, "embed_text", lambda _: embeds["prompt_embeds"].requires_grad_())
    graphs = []
    modules = [pipe.vae.encoder, pipe.vae.decoder, pipe.branch, pipe.transformer]
    for module in modules:
        module.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    settings = InpaintSettings(num_inference_steps=1, num_frames=5)
    list(inpaint_stream(pipe, ArrayFrames(noise_video(5)), ArrayMasks(moving_mask(5)), settings=settings, prompt="x"))
    assert len(graphs) >= 4
    assert not any(graphs)


class Killed(Exception):
    pass


def job_for(pipe, embeds, settings, frames=41, on_step=None):
    prompts = PromptTrack.from_embeds(pipe, embeds["prompt_embeds"], embeds["negative_prompt_embeds"])
    video, masks = ArrayFrames(noise_video(frames)), ArrayMasks(moving_mask(frames))
    job = make_job(pipe, video, masks, settings=settings, prompts=prompts)
    job.on_step = on_step
    return job


def test_killed_after_the_third_of_eight_windows(embeds, tmp_path):
    """With ID memory, which must survive the interruption as well."""
    pipe = make_pipeline()
    settings = InpaintSettings(
        num_inference_steps=2, num_frames=9, overlap_frames=5, id_resample="exact", prev_clip_weight=0.5
    )
    whole = WindowStore(tmp_path / "whole")
    job = job_for(pipe, embeds, settings, frames=37)
    assert len(list(denoise_windows(pipe, job, whole))) == 8

    def kill(window, step, t, latents):
        if window.index == 3 and step == 1:
            raise Killed
        return latents

    with pytest.raises(Killed):
        list(denoise_windows(pipe, job_for(pipe, embeds, settings, 37, kill), WindowStore(tmp_path / "killed", "a")))
    denoised = []

    def note(window, step, t, latents):
        denoised.append(window.index)
        return latents

    resumed = WindowStore(tmp_path / "killed", "a")
    second = job_for(pipe, embeds, settings, 37, note)
    list(denoise_windows(pipe, second, resumed))
    assert sorted(set(denoised)) == [3, 4, 5, 6, 7]
    for index in range(8):
        assert torch.equal(resumed.latents(index), whole.latents(index))
    for made, expected in zip(finished_frames(pipe, second, resumed), finished_frames(pipe, job, whole), strict=True):
        assert np.array_equal(made, expected)
    # Of the memories only the last one that a window needed is kept.
    assert len(list((tmp_path / "killed").glob("memory_*"))) == 1


def test_work_folder_of_another_run_is_refused(tmp_path):
    WindowStore(tmp_path, "one")
    with pytest.raises(ValueError, match="another run"):
        WindowStore(tmp_path, "two")


def test_interruption_keeps_finished_windows(pipe, embeds):
    expected = inpaint(pipe, embeds, frames=21)

    def stop(pipe, step, t, tensors):
        pipe._interrupt = step == 4  # in the third window
        return tensors

    result = inpaint(pipe, embeds, frames=21, callback_on_step_end=stop)
    assert len(result) == 13
    assert np.array_equal(result[:5], expected[:5])  # before the blend with the window that is missing


def test_callback_sees_every_step_and_may_change_latents(pipe, embeds):
    steps = []

    def zero(pipe, step, t, tensors):
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    latents = inpaint(pipe, embeds, frames=13, callback_on_step_end=zero, output_type="latent")
    assert steps == [0, 1, 2, 3]
    assert not latents.any()


def test_guidance_off_runs_half_the_batch(pipe, embeds):
    batches = []
    hook = pipe.transformer.register_forward_pre_hook(lambda module, args: batches.append(len(args[0])))
    inpaint(pipe, embeds, frames=5, guidance_scale=1.0)
    inpaint(pipe, embeds, frames=5, guidance_scale=6.0)
    hook.remove()
    assert batches == [1, 1, 2, 2]


def test_guidance_of_one_equals_the_prompt_alone(embeds):
    pipe = make_pipeline(scheduler="ddim")
    same = {**embeds, "negative_prompt_embeds": embeds["prompt_embeds"]}
    options = {"frames": 5, "output_type": "latent", "use_dynamic_cfg": False}
    alone = inpaint(pipe, embeds, guidance_scale=1.0, **options)
    guided = inpaint(pipe, same, guidance_scale=6.0, **options)
    torch.testing.assert_close(alone, guided, atol=1e-5, rtol=1e-5)


def test_strength_runs_a_share_of_the_steps_and_stays_near_the_input(embeds):
    pipe = make_pipeline(scheduler="ddim")
    calls = []
    hook = pipe.transformer.register_forward_pre_hook(lambda module, args: calls.append(1))
    video = np.full((5, 32, 48, 3), 90, dtype=np.uint8)
    common = {"video": video, "num_inference_steps": 10, "output_type": "latent", "replace_gt": False}
    weak = inpaint(pipe, embeds, strength=0.2, **common)
    assert len(calls) == 2
    strong = inpaint(pipe, embeds, strength=1.0, **common)
    hook.remove()
    original = inpaint(pipe, embeds, video=video, masks=np.zeros((5, 32, 48), bool), output_type="latent")
    assert (weak - original).abs().mean() < (strong - original).abs().mean() / 2


@pytest.mark.parametrize("scheduler", ["dpm", "ddim"])
@pytest.mark.parametrize(
    "options", [{"add_first": True}, {"mask_add": False}, {"use_dynamic_cfg": False}, {"blend": "average"}]
)
def test_options_change_the_result(embeds, scheduler, options):
    pipe = make_pipeline(scheduler=scheduler)
    assert not np.array_equal(inpaint(pipe, embeds), inpaint(pipe, embeds, **options))


@pytest.mark.parametrize("form", ["exact", "compact"])
def test_id_resampling_hands_on(pipe, embeds, form):
    common = {"frames": 17, "output_type": "latent"}
    off = inpaint(pipe, embeds, **common)
    alone = inpaint(pipe, embeds, id_resample=form, **common)
    handed = inpaint(pipe, embeds, id_resample=form, prev_clip_weight=0.5, **common)
    assert not torch.equal(off, alone)
    assert torch.equal(alone[:, :1], handed[:, :1])  # the first window has nothing to take over
    assert not torch.equal(alone[:, 3:], handed[:, 3:])


def test_stored_memory_is_brought_to_the_models_once_per_window(pipe, embeds):
    """A store in main memory, as beside a GPU; here another dtype stands for another device."""

    class OtherStore(WindowStore):
        def memory(self, before):
            memory = super().memory(before)
            return memory and memory.to("cpu", torch.float64)

    seen = []
    pipe.transformer.transformer_blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args[-1].tokens))
    settings = InpaintSettings(
        num_inference_steps=3, num_frames=9, overlap_frames=5, id_resample="exact", prev_clip_weight=0.5
    )
    list(denoise_windows(pipe, job_for(pipe, embeds, settings, frames=13), OtherStore()))
    assert seen[:3] == [None] * 3
    assert [tokens.dtype for tokens in seen[3:]] == [torch.float32] * 3
    assert len({tokens.data_ptr() for tokens in seen[3:]}) == 1


def test_memory_changes_device_as_a_whole():
    hole = HoleTokens.from_mask(torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]).bool())
    memory = ClipMemory(hole, [hole.gather(torch.zeros(2, 4, 3))])
    moved = memory.to("meta", torch.bfloat16)
    assert {moved.hole.index.device, moved.hole.valid.device, moved.hidden[0].device} == {torch.device("meta")}
    assert (moved.hole.index.dtype, moved.hidden[0].dtype) == (torch.int64, torch.bfloat16)


def test_memory_of_an_object_that_left_is_kept(pipe, embeds):
    masks = moving_mask(25)
    masks[9:17] = False
    result = inpaint(
        pipe, embeds, video=noise_video(25), masks=masks, overlap_frames=0, id_resample="compact", prev_clip_weight=1.0
    )
    assert np.array_equal(result[9:17], noise_video(25)[9:17])


def test_a_window_that_sees_no_object_hands_on_the_memory_before(embeds):
    """Its hole is smaller than what the latent mask samples: denoised, but without a token to remember."""
    pipe = make_pipeline()
    settings = InpaintSettings(num_inference_steps=1, num_frames=9, id_resample="exact", prev_clip_weight=0.5)
    masks = moving_mask(25)
    masks[8:] = False
    masks[10, 5, 5] = True
    prompts = PromptTrack.from_embeds(pipe, embeds["prompt_embeds"], embeds["negative_prompt_embeds"])
    job = make_job(pipe, ArrayFrames(noise_video(25)), ArrayMasks(masks), settings=settings, prompts=prompts)
    store, denoised = WindowStore(), []

    def note(window, step, t, latents):
        denoised.append(window.index)
        return latents

    job.on_step = note
    memories = [store.memory(before=window.index + 1) for window in denoise_windows(pipe, job, store)]
    assert denoised == [0, 1]  # the third has no hole at all
    assert memories[0].hole.index.shape[1] > 0
    assert memories[1] is memories[0] and memories[2] is memories[0]


def test_first_frame_is_taken_as_known(pipe, embeds):
    video, filled = noise_video(9), noise_video(1, seed=5)[0]
    masks = moving_mask(9)
    result = inpaint(pipe, embeds, video=video, masks=masks, image=filled, first_frame_gt=True)
    assert np.array_equal(result[0], filled)
    condition_only = inpaint(pipe, embeds, video=video, masks=masks, image=filled)
    assert not np.array_equal(condition_only[0], filled)
    dropped = inpaint(pipe, embeds, video=video, masks=masks)
    assert not np.array_equal(condition_only[1:], dropped[1:])


def test_prompts_over_time(pipe, embeds):
    draws = torch.randn(2, 1, *embeds["prompt_embeds"].shape[1:], generator=torch.Generator().manual_seed(9))
    track = PromptTrack((0, 12), (draws[0], draws[1]))
    windows = plan_windows(25, 9, 0).windows  # middles 4, 12, 20
    assert [torch.equal(track.at(w), draws[0]) for w in windows] == [True, False, False]
    with pytest.raises(ValueError, match="from frame 0 on"):
        PromptTrack.encode(pipe, {3: "late"}, guidance=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"in_channels": 16},  # text to video
        {"use_learned_positional_embeddings": True},  # 5B-I2V; cut and interpolated
        {"use_rotary_positional_embeddings": False},  # 2B
        {"patch_size_t": 2, "ofs_embed_dim": 16, "sample_frames": 13},  # 1.5
    ],
    ids=["t2v", "learned", "sincos", "v1.5"],
)
@pytest.mark.parametrize("size", [(32, 48), (48, 64)])
def test_backbone_kinds(embeds, changes, size):
    pipe = make_pipeline(make_transformer(**changes))
    options = {"height": size[0], "width": size[1], "image": noise_video(1)[0]}
    for frames in (9, 13):  # 3 and 4 latent frames
        result = inpaint(pipe, embeds, frames=frames, num_frames=13, **options)
        assert result.shape == (frames, 32, 48, 3)


def test_saves_and_loads(pipe, embeds, tmp_path):
    from videopainter import VideoPainterPipeline

    pipe.save_pretrained(tmp_path)
    loaded = VideoPainterPipeline.from_pretrained(tmp_path, tokenizer=None, text_encoder=None)
    loaded.set_progress_bar_config(disable=True)
    assert np.array_equal(inpaint(pipe, embeds), inpaint(loaded, embeds))


def test_inputs_in_other_forms(pipe, embeds):
    from PIL import Image

    video, masks = noise_video(5), moving_mask(5)
    expected = inpaint(pipe, embeds, video=video, masks=masks)
    as_pil = {"video": [Image.fromarray(f) for f in video], "masks": [Image.fromarray(m) for m in masks]}
    as_tensor = {"video": torch.from_numpy(video).permute(0, 3, 1, 2) / 255, "masks": torch.from_numpy(masks)}
    for form in (as_pil, as_tensor, {"video": video, "masks": masks.astype(np.uint8) * 255}):
        assert np.array_equal(inpaint(pipe, embeds, **form), expected)
    images = inpaint(pipe, embeds, video=video, masks=masks, output_type="pil")
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": moving_mask(4)}, "5 of 48x32"),
        ({"masks": moving_mask(5, 16, 48)}, "expected 5 of 48x32"),
        ({"image": noise_video(1, 16, 16)[0]}, "first frame"),
        ({"first_frame_gt": True}, "filled first frame"),
        ({"latents": [torch.zeros(1)]}, "expected noise"),
        ({"latents": []}, "each of 1 windows"),
        ({"stride": 4}, "unknown option stride"),
        ({"output_type": "gif"}, "output_type"),
        ({"prompt": "both"}, "one of prompt and prompt_embeds"),
        ({"video": noise_video(0)}, "at least one frame"),
    ],
)
def test_mistakes_are_one_line(pipe, embeds, options, message):
    with pytest.raises(ValueError, match=message) as error:
        inpaint(pipe, embeds, **{"frames": 5, **options})
    assert "\n" not in str(error.value)


def test_latents_that_the_hole_touches():
    """A pixel that only the last of a latent's four frames shows counts, and so do the neighbours."""
    mask, latents = torch.zeros(1, 1, 9, 64, 64), torch.empty(1, 3, 16, 8, 8)
    mask[0, 0, 4, 33, 21] = 1
    touched = touched_latents(mask, latents)[0, :, 0]
    assert touched.shape == (3, 8, 8)
    assert [int(t.sum()) for t in touched] == [0, 9, 0]
    assert touched[1, 3:6, 1:4].all()
    assert not touched_latents(mask * 0, latents).any()
    nearest = latent_mask(mask, latents)
    assert not nearest.any()  # what the release keeps would show that pixel


def test_nothing_of_the_object_is_kept(embeds):
    """With the release's choice of kept latents, what lies in the hole leaks into the result; with ours it cannot."""
    pipe = make_pipeline(scheduler="ddim")
    masks = moving_mask(9, 64, 96)
    one, other = noise_video(9, 64, 96), noise_video(9, 64, 96)
    other[masks] = 255 - other[masks]  # another object, the same background

    def difference(kept):
        common = {"masks": masks, "height": 64, "width": 96, "kept_latents": kept}
        results = [inpaint(pipe, embeds, video=video, **common)[masks].astype(int) for video in (one, other)]
        return np.abs(results[0] - results[1]).mean()

    assert difference("untouched") < difference("nearest") / 4


def test_masks_shrink_towards_the_hole():
    masks = np.zeros((1, 64, 64), dtype=bool)
    masks[0, 33, 21] = True
    small = resize_masks(masks, 16, 16)
    assert small.sum() == 1
    assert small[0, 8, 5]
