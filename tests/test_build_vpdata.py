"""From raw videos to a set in VPData's layout: objects and their rules, captions, parts, and kills in every stage."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from caption_server import serving
from conftest import clean_process
from test_sam import tiny_sam2
from test_text_prompts import grounding_dino  # noqa: F401 (a fixture)

from videopainter.captions.questions import ask_for_object, ask_for_video
from videopainter.cli.preparation import build_vpdata as door
from videopainter.cli.preparation.build_vpdata import build_vpdata
from videopainter.cli.preparation.check_data import check_data
from videopainter.data.clip import ArrayFrames
from videopainter.data.masks.ids import IdArray
from videopainter.data.records import RecordTable, record_paths
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.data.video.reader import VideoFrames
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.files import WriteError
from videopainter.preparation.objects.moving import moving_things
from videopainter.preparation.objects.rules import ObjectRuleOptions, RuleStage, area_change
from videopainter.preparation.objects.track import _ClipTracker, find_seeds
from videopainter.preparation.stages import layout, records
from videopainter.preparation.stages.cut import clip_name
from videopainter.preparation.stages.layout import PartOptions
from videopainter.preparation.stages.stage import RowDropped
from videopainter.segmentation.builtin import BuiltinSegmenter

pytest.importorskip("scenedetect", reason="finds scenes; make setup EXTRAS=data")

FPS, SIZE, BALL = 8, (96, 144), 13
TRAIN = "pexels_videovo_train_dataset.csv"
FLAGS = (
    *("--clip_seconds", "3", "--min_clip_seconds", "1.5", "--min_sharpness", "0"),
    *("--val_share", "0", "--test_share", "0", "--processes", "1"),
)


def place_of(k: int) -> tuple[int, int]:
    """Where the ball of a scene is: it crosses the picture."""
    return 24 + 5 * k, 50


def scene(seed: int, frames: int, *, ball: bool = True) -> np.ndarray:
    """A pattern seen by a camera that moves slowly, a yellow ball before it; uint8 (T, H, W, 3)."""
    draw = np.random.default_rng(seed)
    wide = cv2.resize(draw.integers(20, 140, (20, 40, 3), dtype=np.uint8), (250, 120), interpolation=cv2.INTER_CUBIC)
    out = []
    for k in range(frames):
        picture = np.ascontiguousarray(wide[10 : 10 + SIZE[0], 10 + k : 10 + k + SIZE[1]])
        out.append(cv2.circle(picture, place_of(k), BALL, (255, 230, 60), -1, cv2.LINE_AA) if ball else picture)
    return np.stack(out)


def write_video(file: Path, *scenes: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(file, fps=FPS, threads=1) as writer:
        writer.write(np.concatenate(scenes))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Two videos: two scenes with a ball in one of them; in the other one without and one with."""
    folder = tmp_path_factory.mktemp("raw")
    write_video(folder / "a.mp4", scene(1, 20), scene(2, 20))
    write_video(folder / "b.mp4", scene(3, 16, ball=False), scene(4, 20))
    return folder


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "vpdata"
    assert build_vpdata(arguments(raw, folder)) == 0
    return folder


def arguments(raw: Path, output: Path, *flags: str) -> list[str]:
    return ["--videos", str(raw), "--output_dir", str(output), *FLAGS, *flags]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    """What a set holds, its work aside."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    kept = [file for file in files if "work" not in file.relative_to(folder).parts and file.name != "options.json"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in kept if not file.name.startswith(".")}


def reports(folder: Path) -> dict[str, dict]:
    return {report["stage"]: report for report in json.loads((folder / "work" / "stages.json").read_text())}


def test_balls_are_found_and_followed(built):
    rows = table(built / TRAIN)
    assert [row["path"] for row in rows] == [clip_name(name) for name in ("a-000", "a-001", "b-001")]
    for row in rows:
        assert row["mask_id"] == "1" and (row["start_frame"], row["end_frame"], row["fps"]) == ("0", "20", "8")
        overlaps = []
        for k, mask in enumerate(IdArray(built / record_paths(row["path"])[1]).pick(range(20), 1)):
            ball = cv2.circle(np.zeros(SIZE, np.uint8), place_of(k), BALL, 1, -1) > 0
            overlaps.append((mask & ball).sum() / (mask | ball).sum())
        assert np.median(overlaps) > 0.7 and min(overlaps) > 0.5


def test_clips_are_the_source_s_frames(raw, built):
    row = table(built / TRAIN)[1]
    assert row["source"] == "a" and row["source_start_frame"] == "20"
    video = VideoFrames(built / record_paths(row["path"])[0])
    source = VideoFrames(raw / "a.mp4").read(20, 40)
    assert len(video) == 20 and np.abs(video.read(0, 20).astype(int) - source).mean() < 3


def test_captions_say_what_is_measured(built):
    for row in table(built / TRAIN):
        assert "yellow object" in row["caption"] and "moves to the right" in row["image_inpainting_prompt"]
        assert len(row["caption"]) > 50 and row["caption"] == row["video_inpainting_prompt"]


def test_training_evaluation_and_the_check_read_the_set(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = TrainingSetOptions(meta_file_path=str(built / TRAIN), height=32, width=48, max_num_frames=17)
    clips = TrainingSet(options)
    assert len(clips) == 3 and not clips.dropped
    sample = clips[SampleKey(epoch=0, row=1, single=False)]
    assert not sample.replaced and sample.masks[1:].any() and sample.frames.shape == (17, 32, 48, 3)
    clip = RecordTable(built / TRAIN).open(2)
    assert len(clip) == 20 and clip.image_prompt.endswith("left.") is False and clip.masks.read(3, 4).any()
    assert check_data(["--data_root", str(built), "--max_num_frames", "17", "--output_dir", "check"]) == 0


def test_what_was_dropped_is_told(built):
    told = [tuple(row.values()) for row in table(built / "work" / "dropped.csv")]
    assert told == [("track", "b-000", "no object", "nothing moves by itself")]
    assert reports(built)["track"]["in"] == 4 and reports(built)["caption"]["out"] == 3


def test_nothing_is_done_twice_and_a_rule_changes_the_set(raw, built):
    before = contents(built)
    assert build_vpdata(arguments(raw, built)) == 0
    assert {report["done_before"] for name, report in reports(built).items() if name != "near_duplicates"} == {3, 4, 2}
    assert contents(built) == before
    assert build_vpdata(arguments(raw, built, "--max_area", "0.01")) == 0
    assert not (built / TRAIN).exists() and not list(built.glob("pexels/**/*.mp4"))
    assert reports(built)["track"]["done_before"] == 4 and reports(built)["rules"]["dropped"] == {"large": 3}
    assert build_vpdata(arguments(raw, built)) == 0
    assert contents(built) == before


def test_a_file_that_is_gone_is_made_again(raw, built):
    before = contents(built)
    lost = next((built / "work" / "files").rglob("all_masks.npz"))
    lost.unlink()
    assert build_vpdata(arguments(raw, built)) == 0
    assert reports(built)["track"]["done_before"] == 3 and lost.exists() and contents(built) == before


def build_and_die(argv: list[str], where: str, after: int) -> None:
    """Run the door; SIGKILL itself when `where` is reached once more than `after` times."""
    reached = [0]

    def dying(function, matters):
        def replaced(*args, **kwargs):
            reached[0] += matters(*args)
            if reached[0] > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return replaced

    if where == "link":
        layout._link = dying(layout._link, lambda *_: True)
    elif where == "sheet":
        door.write_sheet = dying(door.write_sheet, lambda *_: True)
    elif where == "frame":  # in the middle of a track
        from videopainter.segmentation.store import MaskStore

        MaskStore.write = dying(MaskStore.write, lambda *_: True)
    else:  # the work is done, its record not yet written
        write = records.StageRecords.write
        records.StageRecords.write = dying(write, lambda self, *_: self.stage.name == where)
    build_vpdata(argv)


@pytest.mark.slow
def test_killed_in_every_stage_and_started_again(raw, built, tmp_path):
    """One set, killed again and again on its way: it ends as the one that was not."""
    output = tmp_path / "vpdata"
    places = [("cut", 1), ("frame", 13), ("link", 3)]
    if os.environ.get("VIDEOPAINTER_ALL_KILLS"):  # `make test-kills`
        places = [("split", 1), ("score", 2), *places[:2], ("track", 1), ("objects", 1), ("rules", 2), ("caption", 1)]
        places += [("link", 3), ("sheet", 0)]
    for where, after in places:
        process = clean_process(build_and_die, arguments(raw, output), where, after)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, where
        assert (output / TRAIN).exists() == (where == "sheet")
    assert build_vpdata(arguments(raw, output)) == 0
    assert contents(output) == contents(built)
    assert reports(output)["caption"]["done_before"] == 3
    assert not list((output / "work" / "sessions").iterdir())


@pytest.mark.slow
def test_two_processes_give_the_same_set(raw, built, tmp_path):
    assert build_vpdata(arguments(raw, tmp_path / "two", "--processes", "2")) == 0
    assert contents(tmp_path / "two") == contents(built)


def test_options_from_a_file(raw, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build.yaml").write_text(
        f"videos: {raw}\nclip_seconds: 3\nmin_clip_seconds: 1.5\nuntil: clips\nmin_sharpness: 0\n"
    )
    assert build_vpdata(["--options", "build.yaml", "--output_dir", "out", "--max_same_bits", "-1"]) == 0
    assert len(table(tmp_path / "out" / "work" / "clips.csv")) == 4
    written = json.loads((tmp_path / "out" / "work" / "options.json").read_text())
    assert not (tmp_path / "out" / "options.json").exists(), "which tells what made a set"
    assert written["clip_seconds"] == 3 and written["max_same_bits"] == -1
    assert build_vpdata(["--options", "out/work/options.json", "--min_clip_seconds", "2.5"]) == 0
    assert len(table(tmp_path / "out" / "work" / "clips.csv")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"clip_second": 3}', "unknown flag '--clip_second=3', did you mean --clip_seconds, in .*build.json"),
        ('{"until": "never"}', "--until: expected one of .*, in .*build.json"),
        ('{"clip_seconds": [3]}', "expected flags and their values"),
        ("[]", "expected flags and their values"),
        ("{", "expected JSON"),
    ],
)
def test_bad_options_file(tmp_path, content, message):
    (tmp_path / "build.json").write_text(content)
    with pytest.raises(InputError, match=message):
        build_vpdata(["--options", str(tmp_path / "build.json")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--words", "dog", "--text_model", "nowhere"], "--text_model: expected a folder"),
        (["--segmenter", "nowhere.pt"], "--segmenter: no such file"),
        (["--llm_model", "gpt-4o"], "OPENAI_API_KEY"),
        (["--val_share", "0.6", "--test_share", "0.6"], "expected 1 at most"),
        (["--ray_address", "auto"], "expected --scheduler ray"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(raw, tmp_path, monkeypatch, flags, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InputError, match=message):
        build_vpdata(arguments(raw, tmp_path / "out", *flags))
    assert not (tmp_path / "out").exists()


def test_tables_of_another_set_are_not_replaced(raw, tmp_path):
    (tmp_path / TRAIN).write_text("path\n")
    with pytest.raises(InputError, match="expected a folder without other tables"):
        build_vpdata(arguments(raw, tmp_path))


# ---- the rules


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, None),
        ({"presence": 0.29}, "seldom seen"),
        ({"area": 0.004}, "small"),
        ({"area": 0.71}, "large"),
        ({"area_change": 0.2}, "area jumps"),
        ({"unsure": 0.3}, "track unsure"),
        ({"moving": 0.4}, "does not move"),
        ({"moving": None}, None),
    ],
)
def test_rules(changes, kind):
    row = {"word": "", "presence": 0.5, "area": 0.1, "area_change": 0.19, "unsure": 0.0, "moving": 0.9, **changes}
    stage = RuleStage(ObjectRuleOptions())
    if kind is None:
        assert stage.process(row) == [{}]
    else:
        with pytest.raises(RowDropped) as dropped:
            stage.process(row)
        assert dropped.value.kind == kind


def test_area_change_forgives_what_enters_slowly_and_nothing_else():
    entering = np.concatenate([np.linspace(0, 100, 11), np.full(20, 100.0)])
    assert area_change(entering) == pytest.approx(0.1)
    lost = np.full(20, 100.0)
    lost[10] = 40
    assert area_change(lost) == pytest.approx(0.6)
    assert area_change(np.zeros(5)) == 0


def test_parts_follow_from_the_source_alone():
    parts = PartOptions(val_share=0.1, test_share=0.2)
    found = [parts.part_of(f"video{k}") for k in range(1000)]
    assert 60 < found.count("val") < 140 and 150 < found.count("test") < 250
    assert found == [parts.part_of(f"video{k}") for k in range(1000)]
    assert {PartOptions(val_share=0, test_share=0).part_of(f"video{k}") for k in range(50)} == {"train"}


def test_a_still_camera_and_a_moving_one_see_what_moves():
    frames = ArrayFrames(scene(5, 40))
    things = moving_things(frames, [19])
    assert len(things) == 1
    ball = cv2.circle(np.zeros(SIZE, np.uint8), place_of(19), BALL, 1, -1) > 0
    assert (things[0].mask & ball).sum() / (things[0].mask | ball).sum() > 0.8
    assert moving_things(ArrayFrames(scene(5, 40, ball=False)), [5, 19, 30]) == []


# ---- with weights


def test_words_and_models(grounding_dino, tmp_path, monkeypatch):  # noqa: F811
    """The real classes with random weights: what they find is no thing, but goes the whole way."""
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    flags = ["--words", "light square", "--text_model", str(grounding_dino), "--segmenter", str(tmp_path / "sam2")]
    lax = {"min_presence": 0, "min_area": 0, "max_area": 1, "max_area_change": 1, "max_unsure": 1}
    flags += [str(word) for name, value in lax.items() for word in (f"--{name}", value)]
    write_video(tmp_path / "raw" / "c.mp4", scene(4, 14))
    output = tmp_path / "vpdata"
    assert build_vpdata(arguments(tmp_path / "raw", output, "--objects_per_clip", "1", *flags)) == 0
    rows = table(output / TRAIN)
    assert rows and {row["word"] for row in rows} == {"light square"}
    assert "light square" in rows[0]["image_inpainting_prompt"]
    assert next(IdArray(output / record_paths(rows[0]["path"])[1]).pick([8], 1)).any()


# ---- captions from a server


def test_a_server_that_fails_is_asked_again_by_the_next_run(raw, built, tmp_path, monkeypatch, capsys):
    pytest.importorskip("openai")
    output, told = tmp_path / "vpdata", "A red ball rolls to the right over a pattern of soft colours."
    shutil.copytree(built, output)
    with serving() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        server.script, server.otherwise = [told, "A red ball."], ("status", 401, "no more")
        assert build_vpdata(arguments(raw, output, "--llm_model", "some-model")) == 1
        assert "no more" in capsys.readouterr().err
        # A set that is there is not lost because nobody answers.
        assert contents(output) == contents(built)
        server.requests.clear()
        server.otherwise = told
        assert build_vpdata(arguments(raw, output, "--llm_model", "some-model")) == 0
        assert len(server.requests) == 4 and reports(output)["caption"]["done_before"] == 1
    rows = table(output / TRAIN)
    assert [row["caption"] for row in rows] == [told] * 3
    assert [row["image_inpainting_prompt"] for row in rows] == ["A red ball.", told, told]


def test_other_answers_in_a_file_are_taken(raw, built, tmp_path):
    output, file = tmp_path / "vpdata", tmp_path / "answers.json"
    shutil.copytree(built, output)
    for color in ("red", "blue"):
        told = f"A {color} ball rolls to the right over a pattern of soft colours."
        kinds = [question.kind for question in (ask_for_video([]), ask_for_object([], "", ""))]
        file.write_text(json.dumps([{"kind": kind, "text": told} for kind in kinds]))
        assert build_vpdata(arguments(raw, output, "--llm_model", f"replay:{file}")) == 0
        assert [row["caption"] for row in table(output / TRAIN)] == [told] * 3


def test_a_full_disk_is_not_taken_for_a_clip_without_objects(built, tmp_path):
    frames = VideoFrames(next((built / "pexels").rglob("*.mp4")))
    tracker = _ClipTracker(tmp_path / "session", "0" * 64, frames, BuiltinSegmenter(), masks=True)
    (tmp_path / "session").mkdir()
    seeds = find_seeds(frames, None, "")
    (tmp_path / "session" / "object_001").write_text("no folder can be here")
    with pytest.raises(WriteError):
        tracker.track(seeds, 1)


def test_rates_are_exact():
    assert (
        layout._line(
            {"clip_fps": "30000/1001", "clip_frames": 9, "caption": "", "region_caption": "", "start_frame": 0}
        )["fps"]
        == "30000/1001"
    )


def test_no_captions(raw, built, tmp_path):
    output = tmp_path / "vpdata"
    shutil.copytree(built, output)
    assert build_vpdata(arguments(raw, output, "--llm_model", "none")) == 0
    assert [row["caption"] for row in table(output / TRAIN)] == [""] * 3
