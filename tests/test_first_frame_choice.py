"""Candidates of a first frame: painted by a real (tiny) diffusion pipeline, shown, chosen by number or by CLIP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_mask, noise_video
from safetensors.torch import load_file, save_file
from test_first_frame import save_stable_diffusion
from test_metric_models import make_clip

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.images import read_image
from videopainter.data.reshape import box_around
from videopainter.data.video.reader import VideoWriter, open_video
from videopainter.metrics.networks.clip_images import ClipImages
from videopainter.runs import studio
from videopainter.runs.weights import find_tiny

OWN = "--video clip.mkv --mask mask.mkv --prompt waves --img_inpainting_model pipe --output_path out/result.mkv"
QUICK = "--lossless --num_inference_steps 1 --inpainting_frames 5 --height 32 --width 48 --quiet"
SHEET, RESULT = Path("out/result_first_frames.png"), Path("out/result.mkv")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_stable_diffusion(folder, inpainting=True)
    make_clip(folder / "clip-model")
    return folder


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsys):
    """`infer/inpaint.py` in this process, in a folder with a clip: its lines on stderr."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("pipe", "clip-model"):
        Path(name).symlink_to(models / name)
    masks = 255 * np.repeat(moving_mask(5)[..., None], 3, -1).astype(np.uint8)
    for name, frames in (("clip", noise_video(5)), ("mask", masks)):
        with VideoWriter(f"{name}.mkv", fps=8, lossless=True) as writer:
            writer.write(frames)

    def run(*flags: str, code: int = 0) -> list[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_door(lambda: inpaint(read_options([*OWN.split(), *QUICK.split(), *flags])))
        told = capsys.readouterr().err
        assert ended.value.code == code, told
        return told.splitlines()

    return run


def candidates() -> dict[int, np.ndarray]:
    return {int(file.name.split("_")[0]): read_image(file) for file in Path("out/result.mkv.first_frames").iterdir()}


def test_candidates_are_shown_and_one_is_chosen_by_its_number(run):
    told = run("--first_frame_candidates", "2")
    assert any(str(SHEET) in line and "--choose_first_frame" in line for line in told)
    assert not RESULT.exists()
    assert sorted(path.name for path in Path("out").iterdir()) == ["result.mkv.first_frames", SHEET.name]
    painted = candidates()
    assert sorted(painted) == [1, 2]
    hole = moving_mask(5)[0]
    assert (painted[1][hole] != painted[2][hole]).any()
    source = open_video(Path("clip.mkv")).read(0, 1)[0]
    assert all((frame[~hole] == source[~hole]).all() for frame in painted.values())
    assert read_image(SHEET).shape[1] > 3 * 48
    times = {file: file.stat().st_mtime_ns for file in Path("out/result.mkv.first_frames").iterdir()}
    run("--first_frame_candidates", "2", "--choose_first_frame", "2")
    assert {file: file.stat().st_mtime_ns for file in Path("out/result.mkv.first_frames").iterdir()} == times
    np.testing.assert_array_equal(open_video(RESULT).read(0, 1)[0], painted[2])
    assert json.loads(RESULT.with_suffix(".json").read_text())["first_frame_choice"] == {"number": 2, "seed": 43}
    (line,) = run("--first_frame_candidates", "3", "--choose_first_frame", "3", code=2)
    assert "--overwrite" in line, "another frame makes another result"
    assert run("--first_frame_candidates", "9", "--choose_first_frame", "2") == ["finished already: out/result.mkv"]


@pytest.mark.slow
def test_candidates_of_other_weights_are_others(run, models):
    run("--first_frame_candidates", "2")
    first = candidates()
    Path("pipe").unlink()
    shutil.copytree(models / "pipe", "pipe")
    weights = next(Path("pipe/unet").glob("*.safetensors"))
    save_file({name: 0.5 * tensor for name, tensor in load_file(weights).items()}, weights)
    run("--first_frame_candidates", "2")
    assert len(list(Path("out/result.mkv.first_frames").iterdir())) == 4
    run("--first_frame_candidates", "2", "--choose_first_frame", "1")
    taken = open_video(RESULT).read(0, 1)[0]
    assert (taken != first[1]).any()


def test_the_first_candidate_is_what_a_run_without_candidates_paints(run):
    run("--first_frame_candidates", "2", "--choose_first_frame", "1")
    assert list(candidates()) == [1]
    assert run() == ["finished already: out/result.mkv"]


def test_the_video_model_paints_first_frames_of_the_videos_own_prompt(run):
    video_model = ("--img_inpainting_model", "backbone", "--guidance_scale", "6")
    run(*video_model, "--first_frame_candidates", "2", "--image_prompt", "a red ball")
    first, second = candidates()[1], candidates()[2]
    clip, mask = (open_video(Path(f"{name}.mkv")).read(0, 1)[0] for name in ("clip", "mask"))
    hole = mask[..., 0] > 127
    for picture in (first, second):
        np.testing.assert_array_equal(picture[~hole], clip[~hole])
        assert (picture[hole] != clip[hole]).any()
    assert (first != second).any()
    # Another image prompt is nothing to it, another prompt of the video is.
    run(*video_model, "--first_frame_candidates", "2", "--image_prompt", "a blue ball")
    known = {*Path("out/result.mkv.first_frames").iterdir()}
    assert len(known) == 2
    run(*video_model, "--first_frame_candidates", "2", "--choose_first_frame", "2", "--prompt", "a red ball")
    (other,) = {*Path("out/result.mkv.first_frames").iterdir()} - known
    assert (read_image(other)[hole] != second[hole]).any()


def test_one_model_is_loaded_where_it_paints_first_frame_and_video(run, monkeypatch):
    loads, load = [], studio.load_pipeline
    monkeypatch.setattr(studio, "load_pipeline", lambda *args, **options: loads.append(1) or load(*args, **options))
    run("--img_inpainting_model", "backbone")
    assert RESULT.exists() and len(loads) == 1


def test_painting_a_first_frame_leaves_nothing_in_the_video_model(run):
    adapter = find_tiny() / "VideoPainterID" / "checkpoints"
    own = ("--id_adapter_resample_learnable_path", str(adapter), "--prev_clip_weight", "1", "--cache", "taylorseer")
    own += ("--num_inference_steps", "2")
    run(*own, "--img_inpainting_model", "backbone", "--first_frame_candidates", "2", "--choose_first_frame", "2")
    (chosen,) = Path("out/result.mkv.first_frames").iterdir()
    painted = open_video(RESULT).read(0, 5)
    run(*own, "--first_frame", str(chosen), "--overwrite")
    np.testing.assert_array_equal(open_video(RESULT).read(0, 5), painted)


def test_clip_chooses_what_is_most_alike_to_the_prompt(run):
    run("--first_frame_candidates", "2", "--choose_first_frame", "clip:clip-model", "--image_prompt", "a cat")
    choice = json.loads(RESULT.with_suffix(".json").read_text())["first_frame_choice"]
    model, part = ClipImages.load(Path("clip-model")), box_around(moving_mask(5)[0]).slices
    scores = {
        number: float(model.images(torch.from_numpy(frame[part]).permute(2, 0, 1)[None])[0] @ model.text("a cat"))
        for number, frame in candidates().items()
    }
    assert choice["number"] == max(scores, key=lambda number: scores[number])
    assert {int(number): score for number, score in choice["clip_scores"].items()} == pytest.approx(scores, abs=1e-5)
    assert SHEET.exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--choose_first_frame 2", "--first_frame_candidates"),
        ("--first_frame_candidates 2 --choose_first_frame 3", "from 1 to 2"),
        ("--first_frame_candidates 2 --choose_first_frame best", "from 1 to 2"),
        ("--first_frame_candidates 2 --choose_first_frame clip:nowhere", "CLIP"),
        ("--first_frame_candidates 2 --img_inpainting_model opencv", "diffusers pipeline"),
        ("--first_frame_candidates 2 --first_frame clip.png", "--first_frame"),
        ("--first_frame_candidates 99", "--first_frame_candidates"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(run, flags, told):
    from videopainter.data.images import write_image

    write_image("clip.png", noise_video(1)[0])
    (line,) = run(*flags.split(), code=2)
    assert told in line
    assert not Path("out").exists()


def test_the_square_around_a_hole_stays_in_the_frame():
    mask = np.zeros((20, 30), bool)
    mask[2:6, 20:28] = True
    assert box_around(mask) == (0, 16, 14, 30)
    assert box_around(np.ones((20, 30), bool)) == (0, 20, 0, 30)
