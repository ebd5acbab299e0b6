"""`--video_reader decord`: files that it reads right, files that it does not, and where it is missing."""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_files import edit_list
from test_training_data import CAPTION, options, place, vary_rate
from test_video_io import CODECS, encode, numbered

from videopainter.data.training.decord_frames import TOLERANCE, DecordFrames, InexactFiles
from videopainter.data.training.file_index import FileIndex
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet
from videopainter.data.video.reader import VideoFrames

# Rows of as many bytes as decord takes for whole ones.
HEIGHT, WIDTH, COUNT = 64, 256, 48
needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="the extra `decord` is not installed"
)
PICTURES = numbered(COUNT, HEIGHT, WIDTH)
GOOD: dict[str, Any] = {"g": "12", "bf": "0"}


def narrow(path: Path) -> Path:
    return encode(path, PICTURES[:, :, :144], **GOOD)


def cut_in_front(path: Path) -> Path:
    """Frames before the time 0, as a phone's editor leaves them."""
    return edit_list(path)


def levels(frames: DecordFrames, numbers: list[int]) -> float:
    """How far picked frames are from PyAV's, the worst one."""
    expected = VideoFrames(frames.path).pick(numbers)
    return max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(frames.pick(numbers), expected, strict=True))


@needs_decord
@pytest.mark.parametrize("options", [GOOD, {"g": "12", "bf": "3"}, {"codec": "ffv1"}, {"codec": "libvpx-vp9"}])
def test_what_is_read_right_is_read_by_decord(options: dict[str, Any], tmp_path: Path, monkeypatch) -> None:
    suffix = "mp4" if "codec" not in options else "mkv"
    frames = DecordFrames(encode(tmp_path / f"v.{suffix}", PICTURES, **options))
    assert frames.inexact == ""
    assert levels(frames, [0, 1, 5, 11, 12, 30, 31, 32, 33, 34, 35, 36, 47]) <= TOLERANCE
    monkeypatch.setattr(VideoFrames, "pick", None)  # so PyAV is not what picked them
    assert len(list(frames.pick([3, 4]))) == 2


AWKWARD_CODECS: dict[str, dict[str, Any]] = {**CODECS}
WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "open gop.mp4": (lambda path: encode(path, PICTURES, **AWKWARD_CODECS["open_gop.mp4"]), "levels from its own"),
    "refresh.mp4": (lambda path: encode(path, PICTURES, **AWKWARD_CODECS["intra_refresh.mp4"]), "levels from its own"),
    "b frames.avi": (
        lambda path: encode(path, PICTURES, **AWKWARD_CODECS["mpeg4_b_frames.avi"]),
        "levels from its own",
    ),
    "stream.ts": (lambda path: encode(path, PICTURES, **AWKWARD_CODECS["stream.ts"]), "levels from its own"),
    "edit list.mp4": (cut_in_front, "24 frames, not 18"),
}


@needs_decord
@pytest.mark.parametrize("name", WRONG)
def test_what_it_reads_wrong_is_read_by_pyav(name: str, tmp_path: Path) -> None:
    make, reason = WRONG[name]
    frames = DecordFrames(make(tmp_path / name))
    assert frames.inexact.endswith(f", in {tmp_path / name}") and "\n" not in frames.inexact
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(frames.inexact)
    numbers = list(range(0, len(frames), 3))
    assert levels(frames, numbers) == 0


@needs_decord
def test_narrow_frames_are_right_whoever_reads_them(tmp_path: Path) -> None:
    """Which rows decord takes for whole ones depends on the processor: where it refuses them, PyAV reads."""
    frames = DecordFrames(narrow(tmp_path / "narrow.mp4"))
    if frames.inexact:
        assert "shape" in frames.inexact or "size must exactly match" in frames.inexact
        assert frames.inexact.endswith(f", in {tmp_path / 'narrow.mp4'}")
    assert levels(frames, list(range(0, len(frames), 3))) <= (0 if frames.inexact else TOLERANCE)


@needs_decord
def test_frames_that_come_unevenly_are_counted_as_they_are(tmp_path: Path) -> None:
    frames = DecordFrames(vary_rate(tmp_path / "v.mp4", PICTURES))
    assert frames.inexact == "" and levels(frames, list(range(0, COUNT, 5))) <= TOLERANCE


@needs_decord
def test_a_still_scene_is_no_wrong_frame(tmp_path: Path) -> None:
    assert DecordFrames(encode(tmp_path / "v.mp4", PICTURES[:1].repeat(24, 0), **GOOD)).inexact == ""


@needs_decord
def test_a_file_of_one_frame(tmp_path: Path) -> None:
    frames = DecordFrames(encode(tmp_path / "v.mp4", PICTURES[:1], **GOOD))
    assert frames.inexact == "" and levels(frames, [0]) <= TOLERANCE


@pytest.fixture
def clips(tmp_path: Path) -> TrainingSet:
    """A set that decord reads: its first clip right, its second wrong."""
    ids = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    ids[:, 8:40, 60:90] = 1
    encode(place(tmp_path, "000000000.mp4", ids), PICTURES, fps=24, **GOOD)
    encode(place(tmp_path, "000000001.mp4", ids), PICTURES, fps=24, **AWKWARD_CODECS["open_gop.mp4"])
    rows = [f"00000000{k}.mp4,0,{COUNT},24,1,{CAPTION}" for k in range(2)]
    return TrainingSet(options(tmp_path, rows, height=32, width=128, video_reader="decord"))


@needs_decord
def test_samples_tell_which_file_was_read_otherwise(clips: TrainingSet) -> None:
    by_pyav = TrainingSet(clips.options, files=FileIndex())
    for row, inexact in ((0, False), (1, True)):
        sample, expected = clips[SampleKey(0, row, False)], by_pyav[SampleKey(0, row, False)]
        assert bool(sample.inexact) == inexact and not expected.inexact and not sample.replaced
        np.testing.assert_array_equal(sample.masks, expected.masks)
        difference = np.abs(sample.frames.astype(int) - expected.frames).mean()
        assert difference == 0 if inexact else 0 < difference < TOLERANCE


@needs_decord
def test_a_file_is_compared_once_and_a_worker_asks_the_same_reader(clips: TrainingSet) -> None:
    path = VideoFrames(next(clips.data_roots[0].rglob("000000000.mp4"))).path
    index = pickle.loads(pickle.dumps(FileIndex(video_reader="decord")))
    assert isinstance(index.video(path), DecordFrames) and index.video(path) is index.video(path)


def test_inexact_files_are_counted_and_said_in_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    count = InexactFiles()
    with caplog.at_level(logging.WARNING, "videopainter.training"):
        for k in range(9):
            count.add(["", f"23 frames, not 24, in {k}.mp4", f"23 frames, not 24, in {k}.mp4"])
    said = [record.getMessage() for record in caplog.records]
    assert len(count.found) == 9 and len(said) == 4
    assert said[0] == (
        "video_reader: decord is not exact with 1 file so far, PyAV reads them: 23 frames, not 24, in 0.mp4"
    )
    assert "8 files" in said[-1]
