"""`--crop auto`: the model sees a crop around a small hole, the rest of the video stays what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import wan_models
from conftest import TEXT_DIM, TEXT_LENGTH, make_pipeline, noise_video
from test_cli_runs import run  # noqa: F401

from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.data.crops import READ_AT_ONCE
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.pipelines import settings as settings_module
from videopainter.pipelines import streaming
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.streaming import denoise_windows, finished_frames, make_job, read_window
from videopainter.runs.candidates import filled_frame

SIZE = (160, 288)  # of the video
FRAMES = 17
# Three windows that share frames and hand their hole's tokens on.
SETTINGS = InpaintSettings(
    crop="auto",
    height=80,
    width=96,
    num_frames=9,
    overlap_frames=5,
    num_inference_steps=1,
    id_resample="compact",
    prev_clip_weight=0.5,
    guidance_scale=1,
)
MAKERS = {"cogvideox": make_pipeline, "wan": wan_models.make_pipeline}


class Killed(Exception):
    pass


def walking_mask(frames: int = FRAMES, step: int = 14) -> np.ndarray:
    """A small box that crosses the picture."""
    masks = np.zeros((frames, *SIZE), bool)
    for t in range(frames):
        masks[t, 70 : 78 + t % 3, 20 + step * t : 30 + step * t] = True
    return masks


def job_for(pipe, settings=SETTINGS, masks=None, video=None, **options):
    masks = walking_mask() if masks is None else masks
    video = noise_video(len(masks), *masks.shape[1:]) if video is None else video
    draw = torch.randn(1, TEXT_LENGTH, TEXT_DIM, generator=torch.Generator().manual_seed(3))
    prompts = PromptTrack.from_embeds(pipe, draw, None)
    return make_job(pipe, ArrayFrames(video), ArrayMasks(masks), settings=settings, prompts=prompts, **options)


def frames_of(pipe, job, store=None):
    store = store or WindowStore()
    assert len(list(denoise_windows(pipe, job, store))) == 3
    return np.concatenate(list(finished_frames(pipe, job, store)))


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("step", [14, 0])
def test_a_crop_is_run_as_a_video_of_its_own(family, step):
    """The crops cut out by hand, inpainted and put back: the same to the bit, and nothing else of the video changes."""
    pipe, masks = MAKERS[family](), walking_mask(step=step)
    video = noise_video(FRAMES, *SIZE)
    job = job_for(pipe, masks=masks)
    assert job.crop is not None
    assert (job.crop.height, job.crop.width) == (job.height, job.width) == (80, 96)
    assert job.crop.moves == (step > 0)
    result = frames_of(pipe, job)
    by_hand = job_for(pipe, replace(SETTINGS, crop="none"), job.crop.cut(masks, 0), job.crop.cut(video, 0))
    assert by_hand.crop is None
    expected = video.copy()
    job.crop.put(expected, frames_of(pipe, by_hand), 0)
    assert np.array_equal(result, expected)
    assert np.array_equal(result[~masks], video[~masks])
    assert (result[masks] != video[masks]).mean() > 0.9


@pytest.mark.parametrize("family", MAKERS)
def test_a_larger_crop_is_resized_and_pasted_at_its_size(family):
    pipe, masks = MAKERS[family](), walking_mask()
    settings = replace(SETTINGS, height=32, width=48, match_edges=True, feather=2)
    job = job_for(pipe, settings)
    assert job.crop is not None
    assert (job.height, job.width) == (32, 48)
    assert job.crop.height > 32 and job.crop.width < SIZE[1]
    result, video = frames_of(pipe, job), noise_video(FRAMES, *SIZE)
    assert np.array_equal(result[~masks], video[~masks])
    assert all((result[t][masks[t]] != video[t][masks[t]]).any() for t in range(FRAMES))


def test_a_hole_that_is_too_large_is_run_as_without():
    pipe, masks = make_pipeline(), np.zeros((FRAMES, *SIZE), bool)
    masks[:, 20:140, 40:240] = True
    settings = replace(SETTINGS, height=32, width=48)
    job = job_for(pipe, settings, masks)
    assert job.crop is None
    assert np.array_equal(frames_of(pipe, job), frames_of(pipe, job_for(pipe, replace(settings, crop="none"), masks)))


@pytest.mark.parametrize("family", MAKERS)
def test_a_killed_run_goes_on_in_the_same_crop(family, tmp_path):
    pipe = MAKERS[family]()
    expected = frames_of(pipe, job_for(pipe))

    def kill(window, step, t, latents):
        if window.index == 2:
            raise Killed
        return latents

    job = job_for(pipe)
    job.on_step = kill
    with pytest.raises(Killed):
        frames_of(pipe, job, WindowStore(tmp_path, "same"))
    assert np.array_equal(frames_of(pipe, job_for(pipe), WindowStore(tmp_path, "same")), expected)


def test_a_given_first_frame_is_cropped_and_kept():
    pipe, masks = make_pipeline(), walking_mask()
    first = noise_video(1, *SIZE, seed=5)[0]
    video = noise_video(FRAMES, *SIZE)
    job = job_for(pipe, replace(SETTINGS, first_frame_gt=True), first_frame=first)
    assert job.crop is not None
    frames, seen = read_window(job, job.plan.windows[0])
    assert np.array_equal(frames[0], first[job.crop.box(0).slices])
    assert not seen[0].any() and seen[1].any()
    result = frames_of(pipe, job)
    assert np.array_equal(result[0], first)
    assert np.array_equal(result[1:][~masks[1:]], video[1:][~masks[1:]])


@pytest.mark.parametrize("crop", ["none", "auto"])
def test_few_frames_of_a_large_video_are_held_at_once(crop):
    """Neither the search for the hole, nor a window, nor pasting reads more."""
    asked = []

    class Counted(ArrayFrames):
        def read(self, start, stop):
            asked.append(stop - start)
            return super().read(start, stop)

    class CountedMasks(ArrayMasks):
        def read(self, start, stop):
            asked.append(stop - start)
            return super().read(start, stop)

    pipe = make_pipeline()
    job = job_for(pipe, replace(SETTINGS, crop=crop, num_frames=17))
    job.frames, job.masks = Counted(job.frames.frames), CountedMasks(job.masks.masks)
    frames, masks = read_window(job, job.plan.windows[0])
    assert frames.shape == (17, 80, 96, 3) and masks.shape == (17, 80, 96)
    SETTINGS.crop_path(pipe.backbone.facts, job.masks)
    assert max(asked) <= READ_AT_ONCE


def test_the_call_in_memory_takes_a_crop(embeds):
    masks, video = walking_mask(), noise_video(FRAMES, *SIZE)
    options = {"height": 80, "width": 96, "num_frames": 17, "num_inference_steps": 1, "crop": "auto"}
    pipe = make_pipeline()
    result = pipe(video=video, masks=masks, output_type="np", **options, **embeds).frames[0]
    assert np.array_equal(result[~masks], video[~masks])
    assert (result[masks] != video[masks]).mean() > 0.9
    latents = pipe(video=video, masks=masks, output_type="latent", **options, **embeds).frames[0]
    assert latents.shape[-2:] == (10, 12)


@pytest.mark.parametrize("off", [{"replace_gt": False}, {"paste_background": False}])
def test_a_crop_needs_the_background_back(off):
    with pytest.raises(ValueError, match="crop: expected replace_gt and paste_background with it, got them off"):
        InpaintSettings(crop="auto", **off)


# ---- the command, on the tiny checkpoint (96x144)


def write_walk(folder: Path) -> list[object]:
    """Flags for a lossless video of smooth colours, in which a small hole walks."""
    video = (noise_video(FRAMES, *SIZE) // 8 + np.linspace(0, 200, SIZE[1], dtype=np.uint8)[:, None]).astype(np.uint8)
    mask = np.repeat(walking_mask()[..., None], 3, -1) * np.uint8(255)
    for name, frames in (("video", video), ("mask", mask)):
        with VideoWriter(folder / f"{name}.mkv", fps=Fraction(8), lossless=True) as writer:
            writer.write(frames)
    files = ("--video", folder / "video.mkv", "--mask", folder / "mask.mkv", "--prompt", "x")
    return [*files, "--num_inference_steps", 1, "--inpainting_frames", 9, "--lossless", "--crop", "auto"]


def test_a_run_says_what_it_saw_and_goes_on_there(tmp_path: Path, run, monkeypatch):  # noqa: F811
    flags, searches, real = write_walk(tmp_path), [], settings_module.hole_boxes
    monkeypatch.setattr(settings_module, "hole_boxes", lambda masks: searches.append(len(masks)) or real(masks))
    lines = run(*flags, "--output_path", "whole.mkv")
    assert any("the model works at 144x96 on a crop of 144x96, " in line for line in lines), lines
    record = json.loads((tmp_path / "whole.json").read_text())
    assert record["crop"]["left"][1] - record["crop"]["left"][0] > 100
    assert record["crop"]["width"] < SIZE[1] / 1.25
    assert record["recipe"]["settings"]["crop"] == {"crop": "auto", "version": 1}
    video, whole = (open_video(tmp_path / name).read(0, FRAMES) for name in ("video.mkv", "whole.mkv"))
    masks = walking_mask()
    assert np.array_equal(whole[~masks], video[~masks])
    assert (whole[masks] != video[masks]).any()

    real_window, windows = streaming.denoise_window, []

    def stops(*arguments):
        windows.append(1)
        if len(windows) == 2:
            raise Killed
        return real_window(*arguments)

    monkeypatch.setattr(streaming, "denoise_window", stops)
    with pytest.raises(Killed):
        run(*flags, "--output_path", "again.mkv", "--quiet")
    assert (tmp_path / "again.mkv.partial" / "crop.json").exists()
    run(*flags, "--output_path", "again.mkv", "--quiet")
    assert len(windows) == 3  # two windows, the second twice
    assert searches == [FRAMES, FRAMES]  # a run that goes on does not look for the hole anew
    assert np.array_equal(open_video(tmp_path / "again.mkv").read(0, FRAMES), whole)
    run(*flags, "--crop", "none", "--output_path", "whole.mkv", "--quiet", code=2)  # another recipe


def test_the_crop_of_another_mask_is_not_gone_on_with(tmp_path: Path, run, monkeypatch):  # noqa: F811
    """A stopped run left the place of its hole; the next one to the same file has its hole elsewhere."""
    flags = [*write_walk(tmp_path), "--output_path", "result.mkv", "--quiet"]

    def stops(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(streaming, "denoise_window", stops)
        with pytest.raises(Killed):
            run(*flags)
    assert (tmp_path / "result.mkv.partial" / "crop.json").exists()
    masks = walking_mask()[:, ::-1, ::-1]
    with VideoWriter(tmp_path / "mask.mkv", fps=Fraction(8), lossless=True) as writer:
        writer.write(np.repeat(masks[..., None], 3, axis=-1).astype(np.uint8) * 255)
    run(*flags)
    video, result = (open_video(tmp_path / name).read(0, FRAMES) for name in ("video.mkv", "result.mkv"))
    assert np.array_equal(result[~masks], video[~masks])
    assert all((result[t][masks[t]] != video[t][masks[t]]).any() for t in range(FRAMES))


def test_without_a_crop_nothing_of_it_is_in_the_recipe(tmp_path: Path, run):  # noqa: F811
    run(*write_walk(tmp_path), "--crop", "none", "--quiet", "--output_path", "plain.mkv")
    record = json.loads((tmp_path / "plain.json").read_text())
    assert "crop" not in record
    assert "crop" not in record["recipe"]["settings"]


def test_the_first_frames_filler_sees_the_crop():
    masks, video = walking_mask(), noise_video(FRAMES, *SIZE)
    crop = SETTINGS.crop_path(make_pipeline().backbone.facts, ArrayMasks(masks))
    seen = []

    class Grey:
        reads_caption = False

        def fill(self, image, mask, *, prompt, seed):
            seen.append(image)
            return np.where(mask[..., None], np.uint8(127), image)

        def close(self):
            pass

    clip = Clip(name="x", frames=ArrayFrames(video), masks=ArrayMasks(masks))
    filled = filled_frame(Grey(), clip, 0, crop.box(0))
    assert np.array_equal(seen[0], video[0][crop.box(0).slices])
    assert np.array_equal(filled, np.where(masks[0][..., None], np.uint8(127), video[0]))
    assert np.array_equal(filled_frame(Grey(), clip, 0), filled)
