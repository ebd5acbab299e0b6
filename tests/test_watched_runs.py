"""Runs that somebody waits for: told how far they are, shown pictures, stopped and gone on with, models kept."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import moving_mask, noise_video

from videopainter.cli.inpaint import read_options
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import Interrupted
from videopainter.runs.first_frames import captioned
from videopainter.runs.making import make_results
from videopainter.runs.plan import plan_jobs
from videopainter.runs.studio import LoadedPipeline
from videopainter.runs.watch import Watch

FRAMES, STEPS = 21, 2
SAMPLING = f"--height 32 --width 48 --inpainting_frames 9 --num_inference_steps {STEPS} --guidance_scale 1".split()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    with VideoWriter(folder / "video.mkv", fps=Fraction(8), lossless=True) as writer:
        writer.write(noise_video(FRAMES))
    np.savez(folder / "mask.npz", moving_mask(FRAMES).astype(np.uint8))
    return folder


@pytest.fixture
def run(files, checkpoint):
    def make(output, *flags, watch=None, loaded=None):
        words = ["--video", files / "video.mkv", "--mask", files / "mask.npz", "--output_path", output, "--quiet"]
        words += ["--model_path", checkpoint, "--inpainting_branch", checkpoint / "branch", "--device", "cpu"]
        options = read_options([*map(str, words), *SAMPLING, *flags])
        return make_results(lambda: plan_jobs(options), options, captioned, watch=watch, loaded=loaded)

    return make


def test_who_waits_is_told_every_step_and_shown_every_window(run, tmp_path):
    told, shown = [], []
    watch = Watch(on_progress=lambda *facts: told.append(facts), on_preview=shown.append)
    assert run(tmp_path / "result.mkv", watch=watch) == 0
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["check", "hash", "first_frame", "load", "inpaint", "write"]
    windows = 3
    assert [done for stage, done, total in told if total == STEPS * windows] == list(range(1, STEPS * windows + 1))
    assert told[-1] == ("write", FRAMES, FRAMES)
    assert [picture.shape for picture in shown] == [(32, 48, 3)] * windows


def test_a_stopped_run_goes_on_to_the_same_file_and_its_models_stay(run, tmp_path):
    loaded, steps = LoadedPipeline(), []
    assert run(tmp_path / "whole.mkv", "--lossless") == 0
    watch = Watch(
        on_progress=lambda stage, done, total: steps.append(done), interrupted=lambda: max(steps or [0]) > STEPS
    )
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped.mkv", "--lossless", watch=watch, loaded=loaded)
    assert not (tmp_path / "stopped.mkv").exists()
    assert len(list(tmp_path.rglob("window_*.safetensors"))) == 1
    pipe, again = loaded.pipe, []
    watch = Watch(on_progress=lambda stage, done, total: again.append(done) if stage == "inpaint" else None)
    assert run(tmp_path / "stopped.mkv", "--lossless", watch=watch, loaded=loaded) == 0
    assert min(filter(None, again)) == STEPS + 1, "the finished window is not made again"
    assert loaded.pipe is pipe
    assert (tmp_path / "stopped.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    run(tmp_path / "other.mkv", "--scheduler", "ddim", loaded=loaded)
    assert loaded.pipe is not pipe, "other options, another pipeline"


def test_copying_is_told_and_stopped_alike(run, files, tmp_path):
    words = ["--video", files / "video.mkv", "--mask", files / "mask.npz", "--output_path", tmp_path / "r.mkv"]
    options = read_options([*map(str, words), "--remove", "--quiet", "--lossless"])
    told = []
    watch = Watch(on_progress=lambda *facts: told.append(facts))
    assert make_results(lambda: plan_jobs(options), options, captioned, watch=watch) == 0
    assert ("propagate", FRAMES, FRAMES) in told and told[-1][0] == "write"
    (tmp_path / "r.mkv").unlink()
    stopped = Watch(interrupted=lambda: True)
    with pytest.raises(Interrupted):
        make_results(lambda: plan_jobs(options), options, captioned, watch=stopped)
    assert not (tmp_path / "r.mkv").exists()
