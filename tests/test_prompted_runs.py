"""`infer/inpaint.py` without a mask file: boxes, clicks and ranges. No model: what other frames show is copied."""

import json
from fractions import Fraction

import numpy as np
import pytest

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.data.images import write_image
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.runs.plan import plan_jobs


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A square that moves to the right over a still picture, nine frames of 64x96."""
    path = tmp_path_factory.mktemp("video") / "square.mkv"
    generator = np.random.default_rng(0)
    still = np.kron(generator.integers(60, 120, (8, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with VideoWriter(path, fps=Fraction(8), lossless=True) as writer:
        for t in range(9):
            frame = still.copy()
            frame[20:44, 8 + 6 * t : 28 + 6 * t] = (230, 60, 40)
            writer.write(frame[None])
    return path, still


def run(video, output, *flags):
    words = ["--video", str(video), "--output_path", str(output), "--remove", "--quiet", "--lossless", *flags]
    return inpaint(read_options(words))


def test_a_box_is_all_that_removing_needs(video, tmp_path, capsys):
    path, still = video
    output = tmp_path / "result.mkv"
    assert run(path, output, "--box", "8,20,28,44") == 0
    result = open_video(output).read(0, 9)
    square = (result[..., 0] > 180) & (result[..., 1] < 90)
    assert square.mean() < 0.002, "the square is gone"
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["recipe"]["clip"]["masks"]["box"] == ["8,20,28,44"]
    assert record["recipe"]["clip"]["masks"]["by"].startswith("builtin")
    made = sorted((tmp_path / "result.mkv.segmentation").rglob("*.png"))
    assert len(made) == 9
    times = [file.stat().st_mtime_ns for file in made]
    assert run(path, output, "--box", "8,20,28,44") == 0
    assert "finished already" in capsys.readouterr().err
    assert [file.stat().st_mtime_ns for file in made] == times
    with pytest.raises(InputError, match="other settings"):
        run(path, output, "--box", "9,20,28,44")


def test_a_range_of_a_video_and_its_masks(video, tmp_path):
    path, _ = video
    assert run(path, tmp_path / "part.mkv", "--range", "3:8", "--point", "36,30") == 0
    assert len(open_video(tmp_path / "part.mkv")) == 5
    record = json.loads((tmp_path / "part.json").read_text())
    assert (record["start_frame"], record["end_frame"], record["frames"]) == (3, 8, 5)
    whole = np.zeros((9, 64, 96), np.uint8)
    whole[:, 20:44, 8:80] = 1
    for name, masks in (("whole", whole), ("cut", whole[3:8])):
        np.savez(tmp_path / f"{name}.npz", masks)
        assert run(path, tmp_path / f"{name}.mkv", "--range", "3:8", "--mask", str(tmp_path / f"{name}.npz")) == 0
    np.testing.assert_array_equal(*(open_video(tmp_path / f"{name}.mkv").read(0, 5) for name in ("whole", "cut")))


def test_a_range_is_told_in_the_frames_of_the_file_whatever_the_rate(video, tmp_path):
    path, _ = video
    assert run(path, tmp_path / "slow.mkv", "--range", "2:8", "--box", "14,20,40,44", "--down_sample_fps", "4") == 0
    record = json.loads((tmp_path / "slow.json").read_text())
    assert [record[key] for key in ("start_frame", "end_frame", "fps", "frames", "result_fps")] == [2, 8, 8, 3, "4"]


def test_several_ids_of_a_mask_are_one_hole(video, tmp_path):
    path, _ = video
    ids = np.zeros((9, 64, 96), np.uint8)
    ids[:, 20:44, 8:40], ids[:, 20:44, 40:84], ids[:, 50:60, 8:20] = 1, 3, 4
    for name, masks in (("ids", ids), ("both", np.isin(ids, (1, 3)).astype(np.uint8))):
        np.savez(tmp_path / f"{name}.npz", masks)
    one = ("--mask", str(tmp_path / "ids.npz"), "--mask_id")
    assert run(path, tmp_path / "ids.mkv", *one, "1", "3") == 0
    assert run(path, tmp_path / "both.mkv", "--mask", str(tmp_path / "both.npz"), "--mask_id", "1") == 0
    np.testing.assert_array_equal(*(open_video(tmp_path / f"{name}.mkv").read(0, 9) for name in ("ids", "both")))
    records = [json.loads((tmp_path / f"{name}.json").read_text())["mask_id"] for name in ("ids", "both")]
    assert records == [[1, 3], 1]
    with pytest.raises(InputError, match="got 7"):
        run(path, tmp_path / "none.mkv", *one, "1", "7")


def test_what_is_written_beside_a_result_replaces_no_input(video, tmp_path):
    path = tmp_path / "x_comparison.mp4"
    with VideoWriter(path, fps=8) as writer:
        writer.write(open_video(video[0]).read(0, 9))
    before = path.read_bytes()
    with pytest.raises(InputError, match="another file than the input"):
        run(path, tmp_path / "x.mkv", "--box", "8,20,28,44", "--save_comparison")
    assert path.read_bytes() == before


def test_a_device_that_is_not_there_is_told_before_a_mask_is_tracked(video, tmp_path):
    with pytest.raises(InputError, match="--device"):
        run(video[0], tmp_path / "x.mkv", "--box", "8,20,28,44", "--device", "cuda:99")
    assert not list(tmp_path.iterdir())


def test_a_mask_of_four_values_is_a_hole_but_where_it_keeps(video, tmp_path):
    path, _ = video
    values = np.full((64, 96), 255, np.uint8)
    values[20:44, 8:40], values[40:44, 8:40], values[44:50, 8:80] = 0, 63, 127
    write_image(tmp_path / "four.png", values)
    write_image(tmp_path / "two.png", np.where(values < 255, np.uint8(255), np.uint8(0)))
    assert run(path, tmp_path / "four.mkv", "--mask", str(tmp_path / "four.png"), "--four_valued_mask") == 0
    assert run(path, tmp_path / "two.mkv", "--mask", str(tmp_path / "two.png")) == 0
    np.testing.assert_array_equal(*(open_video(tmp_path / f"{name}.mkv").read(0, 9) for name in ("four", "two")))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--box", "8,20,28,44", "--mask", "m.npz"], "expected --mask or what to mask (--box), got both"),
        (["--box", "200,20,300,44"], "expected a box inside a picture of 96x64"),
        (["--box", "8,20"], "expected X0,Y0,X1,Y1"),
        (["--point", "5,5,99"], "expected frames within 0:9, got 99"),
        (["--box", "8,20,28,44", "--range", "4:40"], "--range: expected START < STOP within 0:9"),
        (["--box", "8,20,28,44", "--mask_id", "1"], "--mask_id: expected --mask with it"),
        (["--text", "a square"], "download_weights.py grounding-dino"),
        (["--box", "8,20,28,44", "--segmenter", "sam2"], "download_weights.py sam2"),
        ([], "--video needs --mask"),
        (["--mask", "m.npz", "--segmenter", "x"], "--segmenter: expected --box, --point, --stroke, --text or --object"),
        (["--mask", "m.npz", "--text_model", "y"], "--text_model: expected --box, --point"),
        (["--box", "8,20,28,44", "--text_model", "y"], "--text_model: expected --text with it"),
        (["--mask", "m.npz", "--candidate", "3"], "--candidate: expected --box, --point"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_nothing_written(flags, said, video, tmp_path):
    with pytest.raises(InputError, match=r".") as error:
        run(video[0], tmp_path / "result.mkv", *flags)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_run_with_another_box_leaves_the_masks_of_the_first_alone(video, tmp_path):
    """Also of one that is at work: its masks are read while it runs."""
    path, _ = video
    words = ["--video", str(path), "--output_path", str(tmp_path / "result.mkv"), "--remove", "--quiet", "--lossless"]
    (first,), (other,) = (plan_jobs(read_options([*words, "--box", box])) for box in ("8,20,28,44", "50,2,80,18"))
    running = first.sample.open()
    wanted = running.masks.read(0, 9)
    assert not np.array_equal(other.sample.open().masks.read(0, 9), wanted)
    np.testing.assert_array_equal(running.masks.read(0, 9), wanted)


def test_masks_of_a_video_that_changed_are_made_again(video, tmp_path):
    own = tmp_path / "own.mkv"
    frames = open_video(video[0]).read(0, 9)
    masks = []
    for still in (False, True):
        with VideoWriter(own, fps=Fraction(8), lossless=True) as writer:
            writer.write(np.repeat(frames[:1], 9, axis=0) if still else frames)
        words = ["--video", str(own), "--output_path", str(tmp_path / "r.mkv"), "--remove", "--quiet", "--lossless"]
        (job,) = plan_jobs(read_options([*words, "--box", "8,20,28,44"]))
        masks.append(job.sample.open().masks.read(0, 9))
    moved, still = (np.nonzero(m[8])[1].mean() for m in masks)
    assert moved > 50 > 30 > still


def test_what_is_broken_in_a_session_is_made_again(video, tmp_path):
    path, _ = video
    output = tmp_path / "result.mkv"
    assert run(path, output, "--box", "8,20,28,44") == 0
    wanted = output.read_bytes()
    (session,) = tmp_path.rglob("session.json")
    masks = sorted(session.parent.rglob("*.png"))
    whole = [file.read_bytes() for file in masks]
    masks[3].write_bytes(whole[3][:40])
    masks[4].write_bytes(b"")
    for anchor in session.parent.rglob("anchor_*.npz"):
        anchor.write_bytes(b"PK")
    assert run(path, output, "--box", "8,20,28,44", "--overwrite") == 0
    assert [file.read_bytes() for file in masks] == whole and output.read_bytes() == wanted
    for text in ('{"facts": [], "objects": []}', "{", '{"facts": {}, "objects": [3]}'):
        session.write_text(text)
        assert run(path, output, "--box", "8,20,28,44") == 0
    assert [file.read_bytes() for file in masks] == whole
