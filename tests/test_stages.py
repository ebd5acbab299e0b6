"""Stages from raw videos to clips: what they find, and that a run that was ended goes on."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from videopainter.cli.preparation.build_vpdata import build_vpdata
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.preparation.stages.collect import collect_folder
from videopainter.preparation.stages.on_ray import RayScheduler
from videopainter.preparation.stages.running import run_stages
from videopainter.preparation.stages.schedulers import ProcessScheduler
from videopainter.preparation.stages.score import ClipScoreOptions, ScoreStage, perceptual_hash
from videopainter.preparation.stages.split import SplitOptions, SplitStage, cut_pieces
from videopainter.preparation.stages.stage import RowDropped, Stage, StageResources

pytest.importorskip("scenedetect", reason="finds scenes; make setup EXTRAS=data")

FPS = 8


def scene(seed: int, frames: int, *, speed: float = 3.0, light: float = 1.0) -> np.ndarray:
    """Large soft patches that move to the right, uint8 (T, 72, 96, 3); another picture for every seed."""
    draw = np.random.default_rng(seed)
    wide = cv2.resize(draw.integers(0, 256, (6, 30, 3), dtype=np.uint8), (480, 72), interpolation=cv2.INTER_CUBIC)
    wide[::6] //= 2  # edges
    starts = (np.arange(frames) * speed).astype(int) % 380
    return np.stack([(wide[:, at : at + 96] * light).astype(np.uint8) for at in starts])


def write_video(file: Path, *scenes: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(file, fps=FPS) as writer:
        writer.write(np.concatenate(scenes))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Scenes of 24, 32 and 8 frames in one file; a still one, a dark one, a copy, a short one, and no video."""
    folder = tmp_path_factory.mktemp("raw")
    write_video(folder / "a cut.mp4", scene(1, 24), scene(2, 32), scene(3, 8))
    write_video(folder / "dark.mp4", scene(4, 24, light=0.04))
    write_video(folder / "more" / "copy.mp4", scene(1, 24))
    write_video(folder / "short.mp4", scene(5, 10))
    write_video(folder / "still.mp4", scene(6, 24, speed=0.0))
    (folder / "zero.mp4").write_bytes(b"<html>")
    return folder


def build(videos: Path, output: Path, *flags: str) -> tuple[list[dict], dict[str, tuple[str, str]]]:
    """(rows of clips.csv, {id: (stage, kind)} of dropped.csv)."""
    code = build_vpdata(arguments(videos, output, *flags))
    assert code == 0
    with (output / "work" / "clips.csv").open(newline="") as stream:
        clips = list(csv.DictReader(stream))
    with (output / "work" / "dropped.csv").open(newline="") as stream:
        return clips, {row["id"]: (row["stage"], row["kind"]) for row in csv.DictReader(stream)}


def arguments(videos: Path, output: Path, *flags: str) -> list[str]:
    given = {"--videos": videos, "--output_dir": output, "--clip_seconds": 2.5, "--min_clip_seconds": 1.5}
    return [*(str(word) for pair in given.items() for word in pair), "--processes", "1", "--until", "clips", *flags]


def reports(output: Path) -> dict[str, dict]:
    return {report["stage"]: report for report in json.loads((output / "work" / "stages.json").read_text())}


def test_scenes_are_cut_where_they_change_and_the_rest_is_told(videos, tmp_path):
    clips, dropped = build(videos, tmp_path)
    found = [(clip["id"], int(clip["start_frame"]), int(clip["end_frame"])) for clip in clips]
    # 2.5 s are 20 frames, 1.5 s are 12: of 24 frames 20 stay, of 32 all, of 8 none.
    cut, copy = f"a_cut-{digest('a cut.mp4')}", f"more_copy-{digest('more/copy.mp4')}"
    assert found == [(f"{cut}-000", 0, 20), (f"{cut}-001", 24, 44), (f"{cut}-002", 44, 56)]
    assert {Path(clip["video"]).name for clip in clips} == {"a cut.mp4"} and {clip["fps"] for clip in clips} == {"8"}
    assert dropped == {
        "dark-000": ("score", "dark"),
        f"{copy}-000": ("near_duplicates", "near duplicate"),
        "short": ("split", "too short"),
        "still-000": ("score", "still"),
        "zero": ("split", "unreadable"),
    }
    assert all(float(clip["motion"]) > 5 for clip in clips)


def test_what_is_below_the_output_is_no_raw_video_and_long_names_are_cut(tmp_path):
    long = "\u732b" * 80
    write_video(tmp_path / "a.mp4", scene(1, 24))
    (tmp_path / "a.mp4").rename(tmp_path / f"{long}.mp4")
    write_video(tmp_path / "out" / "pexels" / "made.mp4", scene(2, 24))
    for _ in range(2):
        clips, _ = build(tmp_path, tmp_path / "out")
        assert [clip["id"] for clip in clips] == [f"{long[:33]}-{digest(f'{long}.mp4')}-000"]


def digest(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:8]


def test_a_video_keeps_its_name_whatever_others_come(tmp_path):
    names = ("a_b.mp4", "a b.mp4", "a_b.mov", "a/b.mp4", "a_b_.mp4")
    alone = {}
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
        alone[name] = {Path(row["video"]): row["id"] for row in collect_folder(tmp_path)}[tmp_path / name]
    assert alone["a_b.mp4"] == "a_b" and len(set(alone.values())) == 5
    found = {Path(row["video"]): (row["id"], row["source"]) for row in collect_folder(tmp_path)}
    assert found == {tmp_path / name: (row_id, row_id) for name, row_id in alone.items()}


def test_motion_is_what_the_scene_moves(videos, tmp_path):
    """3 of 72 rows a frame, 8 frames a second: 33 % of the height per second, but for what leaves the picture."""
    clips, _ = build(videos, tmp_path)
    assert 20 < np.mean([float(clip["motion"]) for clip in clips]) < 40


def test_nothing_is_done_twice_and_only_what_changed_anew(videos, tmp_path):
    first = build(videos, tmp_path)
    assert build(videos, tmp_path) == first
    assert {name: report["done_before"] for name, report in reports(tmp_path).items()} == {
        "split": 6,
        "score": 6,
        "near_duplicates": 0,
    }
    clips, dropped = build(videos, tmp_path, "--min_motion", "0")
    assert {name: report["done_before"] for name, report in reports(tmp_path).items()}["split"] == 6
    assert reports(tmp_path)["score"]["done_before"] == 0 and "still-000" not in dropped


def test_a_video_that_changed_is_worked_on_again(tmp_path):
    write_video(tmp_path / "raw" / "a.mp4", scene(1, 24))
    first, _ = build(tmp_path / "raw", tmp_path / "out")
    write_video(tmp_path / "raw" / "a.mp4", scene(2, 16))
    second, _ = build(tmp_path / "raw", tmp_path / "out")
    assert [clip["end_frame"] for clip in first + second] == ["20", "16"]


@pytest.mark.parametrize(("stage", "after"), [("SplitStage", 2), ("ScoreStage", 3)])
def test_killed_in_a_stage_and_started_again(videos, tmp_path, stage, after):
    expected = build(videos, tmp_path / "whole")
    output = tmp_path / "killed"
    code = (
        "import os, signal, sys\n"
        "from videopainter.preparation.stages import score, split\n"
        "from videopainter.cli.preparation.build_vpdata import build_vpdata\n"
        f"Stage, seen = getattr(split, {stage!r}, None) or getattr(score, {stage!r}), []\n"
        "process = Stage.process\n"
        "def killing(self, row):\n"
        "    seen.append(row)\n"
        f"    if len(seen) > {after}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return process(self, row)\n"
        "Stage.process = killing\n"
        "build_vpdata(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, *arguments(videos, output)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (output / "work" / "clips.csv").exists()
    assert build(videos, output) == expected
    done = {name: report["done_before"] for name, report in reports(output).items()}
    assert (done["split"], done["score"]) == ((after, 0) if stage == "SplitStage" else (6, after))


def test_processes_change_nothing(videos, tmp_path):
    assert build(videos, tmp_path / "two", "--processes", "2") == build(videos, tmp_path / "one")


@pytest.mark.slow
def test_ray_gives_the_same_result_and_reads_the_same_records(videos, tmp_path):
    """Tasks on CPUs, and an actor that has what Ray takes for a GPU."""
    pytest.importorskip("ray", reason="schedules; make setup EXTRAS=data")
    rows = collect_folder(videos)
    split, score = SplitStage(SplitOptions(clip_seconds=2.5, min_clip_seconds=1.5)), ScoreStage(ClipScoreOptions())
    score.resources = StageResources(gpus=1)
    with RayScheduler(1, gpus=1) as scheduler:
        found = run_stages([split, score], rows, tmp_path / "ray", scheduler)
    assert [report.reused for report in found.stages] == [0, 0] and not any(report.failed for report in found.stages)
    again = run_stages([split, score], rows, tmp_path / "ray", ProcessScheduler(1))
    assert [report.reused for report in again.stages] == [6, 6]
    alone = run_stages([split, score], rows, tmp_path / "alone", ProcessScheduler(1))
    assert found.rows == again.rows == alone.rows and found.dropped == again.dropped == alone.dropped
    assert len(found.rows) == 4 and {kind for *_, kind, _ in found.dropped} == {
        "unreadable",
        "too short",
        "dark",
        "still",
    }


# ---- the contract


class Doubled(Stage):
    name, inputs, outputs = "doubled", ("number",), ("twice",)

    def settings(self):
        return {}

    def process(self, row):
        assert set(row) == {"id", "number"}, "a stage sees what it declares"
        if row["number"] == 3:
            raise RowDropped("odd one", "3")
        if row["number"] == 4:
            raise RuntimeError("a mistake of ours")
        return [{"twice": 2 * row["number"]}]


def test_a_row_that_fails_is_told_and_tried_again(tmp_path, capsys, monkeypatch):
    rows = [{"id": str(k), "number": k, "other": "kept"} for k in range(6)]
    result = run_stages([Doubled()], rows, tmp_path, ProcessScheduler(1))
    assert [row["twice"] for row in result.rows] == [0, 2, 4, 10] and result.rows[0]["other"] == "kept"
    assert result.dropped == [("doubled", "3", "odd one", "3")] and result.stages[0].failed == 1
    assert "a mistake of ours" in capsys.readouterr().err
    monkeypatch.setattr(Doubled, "process", lambda self, row: [{"twice": -1}])
    again = run_stages([Doubled()], rows, tmp_path, ProcessScheduler(1))
    assert again.stages[0].reused == 5 and [row["twice"] for row in again.rows] == [0, 2, 4, -1, 10]


class Written(Stage):
    name, inputs, outputs, files = "written", ("number",), ("file",), ("file",)

    def __init__(self, work: Path, text: str) -> None:
        self.work, self.text = work, text

    def settings(self):
        return {"text": self.text}

    def process(self, row):
        (self.work / "made").write_text(self.text)
        if self.text == "bad":
            raise RuntimeError("after the file, before the record")
        return [{"file": "made"}]


def test_a_record_does_not_outlive_its_file(tmp_path):
    for text, failed in (("good", 0), ("bad", 1), ("good", 0)):
        found = run_stages([Written(tmp_path, text)], [{"id": "a", "number": 1}], tmp_path, ProcessScheduler(1))
        assert found.stages[0].failed == failed and (tmp_path / "made").read_text() == text


class Opened(Doubled):
    def process(self, row):
        return [{"twice": len(Path("nowhere.mp4").read_bytes())}]


def test_a_video_that_is_taken_away_is_told_in_a_line(tmp_path, capsys):
    run_stages([Opened()], [{"id": "a", "number": 1}], tmp_path, ProcessScheduler(1))
    lines = [line for line in capsys.readouterr().err.splitlines() if "nowhere.mp4" in line]
    assert len(lines) == 1 and lines[0].startswith("doubled: a: ")


@pytest.mark.parametrize(("names", "message"), [(["a", "a"], "'a' twice"), (["../a"], "id: expected letters")])
def test_ids(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        run_stages([Doubled()], [{"id": name, "number": 1} for name in names], tmp_path, ProcessScheduler(1))


def test_pieces():
    assert cut_pieces([0, 25, 30, 100], 20, 12) == [(0, 20), (30, 50), (50, 70), (70, 90)]
    assert cut_pieces([0, 32], 20, 12) == [(0, 20), (20, 32)] and cut_pieces([0, 11], 20, 12) == []


def test_hashes_forgive_compression_and_tell_pictures_apart():
    grey = cv2.cvtColor(scene(1, 1)[0], cv2.COLOR_RGB2GRAY)
    noisy = np.clip(grey + np.random.default_rng(0).normal(0, 4, grey.shape), 0, 255).astype(np.uint8)
    other = cv2.cvtColor(scene(2, 1)[0], cv2.COLOR_RGB2GRAY)
    assert (perceptual_hash(grey) ^ perceptual_hash(noisy)).bit_count() <= 4
    assert (perceptual_hash(grey) ^ perceptual_hash(other)).bit_count() > 16


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--videos: expected a folder of videos"),
        (["--videos", "nowhere"], "--videos: expected a folder"),
        (["--videos", "."], "found none below"),
        (["--videos", ".", "--min_clip_seconds", "11"], "--min_clip_seconds: expected at most"),
        (["--videos", ".", "--clip_seconds", "0"], "clip_seconds"),
    ],
)
def test_bad_flags(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        build_vpdata(flags)
