"""`infer/edit_bench.py`: pairs by instruction, what is kept of them, and who can read the data set they make."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from caption_server import INSTRUCTIONS, by_question, serving
from conftest import noise_video
from shells import command_of

from videopainter.captions.answers import UnusableAnswer, check_answer
from videopainter.captions.questions import ask_for_instruction
from videopainter.cli import evaluate
from videopainter.cli.edit_bench import edit_bench, read_options
from videopainter.cli.running import run_door
from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.data.records import RecordTable
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.data.video.reader import open_video
from videopainter.editing.data_set import write_data_set
from videopainter.editing.jobs import EditedSample
from videopainter.editing.kinds import kind_for, parse_kinds
from videopainter.editing.measures import faults, measure_pixels
from videopainter.editing.options import PairOptions
from videopainter.editing.pairs import plan_pairs
from videopainter.errors import InputError
from videopainter.runs.plan import Job

REPO = Path(__file__).resolve().parents[1]
ROWS, FRAMES, HEIGHT, WIDTH = 4, 9, 32, 48
KEY = "sk-secret-of-pairs"
QUICK = (
    "--num_inference_steps 1 --guidance_scale 1 --inpainting_frames 9 --height 32 --width 48 --quiet "
    "--img_inpainting_model opencv"
)
AUTO = "--video_editing_instruction auto --llm_model some --judge_model some --inpainting_sample_id 0-3"


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("openai")
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.url)
        patch.setenv("OPENAI_API_KEY", KEY)
        server.otherwise = by_question
        yield server


def make(meta: Path, cache: Path, *flags: str) -> int | str | None:
    """The command in this process; its exit code."""
    torch.set_num_threads(1)
    words = ["--inpainting_mask_meta", str(meta), *QUICK.split(), *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        with pytest.raises(SystemExit) as ended:
            run_door(lambda: edit_bench(read_options(words)))
    return ended.value.code


@pytest.fixture(scope="module")
def made(server, clips, tmp_path_factory) -> Path:
    """Pairs of four rows."""
    folder = tmp_path_factory.mktemp("made")
    assert make(clips, folder / "cache", *AUTO.split(), "--output_path", str(folder / "set")) == 0
    return folder / "set"


@pytest.fixture
def copy(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set"


def table(folder: Path, name: str = "metadata.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


# ---- what is made


def test_a_pair_has_the_releases_keys_and_its_kind(made, clips):
    rows = table(made)
    assert len(rows) == ROWS
    kinds = parse_kinds("add:1,remove:1,swap:1,change:2")
    for number, row in enumerate(rows):
        assert row["kind"] == kind_for(number, kinds, 42)
        assert row["Editing_instruction"] in INSTRUCTIONS.values()
        assert row["Original_video_caption"] == row["caption"] == RecordTable(clips).row(number)["caption"]
        assert (row["Edited_video_caption"], row["Edited_image_caption"]) == ("A blue star on grass.", "A blue star.")
        assert [row[key] for key in ("mask_id", "start_frame", "end_frame", "fps")] == ["1", "0", str(FRAMES), "8"]
        assert float(row["background_psnr"]) > 30
        assert float(row["change"]) > 5
        assert row["verdict"] == "yes"
        record = json.loads((made / "pairs" / row["path"].replace("mp4", "json")).read_text())
        assert record["origin"]["path"] == RecordTable(clips).row(number)["path"]
        assert [note["kind"] for note in record["captions"]] == ["instruction", "rewrite", "region"]
    assert table(made, "dropped.csv") == []


def test_source_and_edited_differ_in_the_hole_alone(made):
    for row in table(made):
        source, edited = (open_video(made / row[f"{kind}_file_name"]).read(0, FRAMES) for kind in ("source", "edited"))
        with np.load(made / row["masks"]) as arrays:
            hole = arrays["arr_0"] > 0
        white = open_video(made / row["mask_file_name"]).read(0, FRAMES)[..., 0] > 127
        assert (white != hole).mean() < 0.01
        difference = np.abs(source.astype(int) - edited)
        assert difference[~hole].mean() < 4 < difference[hole].mean()


def test_started_again_it_asks_and_writes_nothing(server, copy, clips, tmp_path):
    asked, times = len(server.requests), {file: file.stat().st_mtime_ns for file in copy.rglob("*.mp4")}
    assert make(clips, tmp_path / "other cache", *AUTO.split(), "--output_path", str(copy)) == 0
    assert len(server.requests) == asked, "records say what was answered"
    assert {file: file.stat().st_mtime_ns for file in copy.rglob("*.mp4")} == times
    assert len(times) == 3 * ROWS


def test_a_part_that_is_gone_is_made_again(copy, made, clips, tmp_path):
    gone = copy / table(copy)[1]["source_file_name"]
    gone.unlink()
    assert make(clips, tmp_path / "cache", *AUTO.split(), "--output_path", str(copy)) == 0
    assert gone.read_bytes() == (made / gone.relative_to(copy)).read_bytes()


@pytest.mark.slow
def test_processes_share_the_rows_and_make_the_same_set_without_the_key(server, made, clips, tmp_path):
    variables = {
        "inpainting_mask_meta": str(clips),
        "inpainting_sample_id": "0-1",
        "image_or_video_path": str(clips.parent),
        "model_path": str(REPO / "ckpt/tiny/CogVideoX-5b-I2V"),
        "inpainting_branch": str(REPO / "ckpt/tiny/VideoPainter/checkpoints/branch"),
        "img_inpainting_model": "opencv",
        "output_path": str(tmp_path / "set"),
        "llm_model": "some",
        "judge_model": "some",
        **{"dilate_size": "0", "dtype": "float32", "num_inference_steps": "1", "guidance_scale": "1"},
        **{"inpainting_frames": "9", "height": "32", "width": "48"},
        **{"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    }
    asked = len(server.requests)
    command = command_of(REPO / "infer/edit_bench.sh", tmp_path, **variables)
    said = command.run(2, tmp_path)
    assert len(server.requests) - asked == 4 * 2
    assert table(tmp_path / "set") == table(made)[:2]
    assert [text.count("written: ") for text in said] == [1, 1]
    told = [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
    # The recorder of this test notes all variables.
    assert [file.name for file in told] == ["command.env"]


# ---- what is kept


def test_what_is_dropped_is_listed_with_its_reason(server, copy, clips, tmp_path, capsys):
    again = (*AUTO.split(), "--output_path", str(copy))
    assert make(clips, tmp_path / "cache", *again, "--min_change", "200") == 0
    assert table(copy) == []
    assert "Nothing reads a set without a pair" in (copy / "README.md").read_text()
    dropped = table(copy, "dropped.csv")
    assert len(dropped) == ROWS
    assert all("the edit hardly shows: change" in row["reason"] for row in dropped)
    assert "dropped: " in capsys.readouterr().err
    server.otherwise = lambda body: "No: a seam shows." if "Does the edited" in str(body) else by_question(body)
    try:
        assert make(clips, tmp_path / "cache", *again, "--judge_model", "another") == 0
    finally:
        server.otherwise = by_question
    assert ["another" in row["reason"] and "a seam shows" in row["reason"] for row in table(copy, "dropped.csv")] == [
        True
    ] * ROWS


def test_a_pair_of_a_video_that_is_not_recorded_yet_is_not_in_the_set(copy, made):
    """Made anew with --overwrite, and ended before the record; or before the JSON, which is written after the video."""
    first, second, third, _ = (row["path"].removesuffix(".mp4") for row in table(made))
    remade = copy / f"edited/{first}.json"
    remade.write_text(json.dumps(json.loads(remade.read_text()) | {"fingerprint": "another"}))
    for stem in (second, third):  # the third's video is still the old one
        (copy / f"edited/{stem}.mp4.partial").mkdir()
        (copy / f"edited/{stem}.mp4.partial/run.json").write_text('{"fingerprint": "another"}')
    (copy / f"edited/{second}.mp4").write_bytes((copy / f"edited/{second}.mp4").read_bytes())
    assert write_data_set(copy, PairOptions()).kept == ROWS - 2
    dropped = {row["name"]: row["reason"] for row in table(copy, "dropped.csv")}
    assert sorted(dropped) == sorted([first, second])
    assert all("not recorded yet" in reason for reason in dropped.values())


def test_a_verdict_is_of_its_instruction(server, copy, clips, tmp_path):
    """Other words for the same captions, and so for the same video."""
    row = next(number for number, row in enumerate(table(copy)) if row["kind"] == "swap")
    again = (*AUTO.split()[:-1], str(row), "--output_path", str(copy), "--instruction_kinds", "change:1")
    asked, times = len(server.requests), {file: file.stat().st_mtime_ns for file in copy.rglob("*.mp4")}
    assert make(clips, tmp_path / "cache", *again) == 0
    assert {file: file.stat().st_mtime_ns for file in copy.rglob("*.mp4")} == times
    assert table(copy)[row]["Editing_instruction"] == INSTRUCTIONS["that changes one property"]
    assert sum("Does the edited" in str(body) for body in server.requests[asked:]) == 1


def test_a_pair_that_its_judge_has_not_seen_is_not_in_the_set(server, copy, clips, tmp_path):
    again = (*AUTO.split(), "--output_path", str(copy), "--judge_model", "a third")
    server.otherwise = lambda body: ("status", 401, "not now") if "Does the edited" in str(body) else by_question(body)
    try:
        assert make(clips, tmp_path / "cache", *again) != 0
    finally:
        server.otherwise = by_question
    assert table(copy) == []
    assert ["not judged yet by a third" in row["reason"] for row in table(copy, "dropped.csv")] == [True] * ROWS
    assert make(clips, tmp_path / "cache", *again) == 0
    assert len(table(copy)) == ROWS
    assert "Nothing reads" not in (copy / "README.md").read_text()
    assert write_data_set(copy, PairOptions()).kept == ROWS, "whoever has looked, where nobody is to"


def test_a_row_without_an_answer_is_listed_and_made_by_the_next_run(server, clips, tmp_path, capsys):
    rows = ("--inpainting_sample_id", "4", "5", "--output_path", str(tmp_path / "set"))
    auto = ("--video_editing_instruction", "auto", "--llm_model", "others")
    server.otherwise = ("status", 401, f"no such key: {KEY}")
    asked = len(server.requests)
    try:
        assert make(clips, tmp_path / "cache", *rows, *auto) == 2
    finally:
        server.otherwise = by_question
    told = capsys.readouterr().err
    assert (sum("401" in line for line in told.splitlines()), KEY in told) == (1, False), told
    assert len(server.requests) == asked + 1, "whom nobody can reach is asked once"
    assert ["failed: " in row["reason"] for row in table(tmp_path / "set", "dropped.csv")] == [True, True]
    assert make(clips, tmp_path / "cache", *rows, *auto) == 0
    assert len(table(tmp_path / "set")) == 2
    assert table(tmp_path / "set", "dropped.csv") == []


def test_measures_are_of_the_pixels_they_name():
    before = noise_video(4, 16, 24)
    hole = np.zeros((4, 16, 24), bool)
    hole[1:, 4:10, 5:15] = True
    after = before.copy()
    after[hole] = np.where(before[hole] < 128, before[hole] + 20, before[hole] - 20)
    clip = Clip(name="x", frames=ArrayFrames(before), masks=ArrayMasks(hole))
    assert measure_pixels(ArrayFrames(before), ArrayFrames(after), clip) == {
        "background_psnr": float("inf"),
        "change": 20.0,
    }
    after[~hole] ^= 1
    found = measure_pixels(ArrayFrames(before), ArrayFrames(after), clip)
    assert found["background_psnr"] == pytest.approx(20 * np.log10(255))
    assert faults(found, PairOptions()) == []
    assert "background" in faults(found, PairOptions(min_background_psnr=50))[0]
    everything = clip.with_masks(ArrayMasks(np.ones_like(hole)))
    assert measure_pixels(ArrayFrames(before), ArrayFrames(after), everything)["background_psnr"] is None


def test_kinds_are_balanced_and_follow_from_row_and_seed():
    kinds = parse_kinds("add:1, remove:1, swap:0, change:2")
    rows = [kind_for(row, kinds, 7) for row in range(400)]
    assert Counter(rows) == {"add": 100, "remove": 100, "change": 200}
    assert Counter(rows[4:8]) == {"add": 1, "remove": 1, "change": 2}
    assert len({tuple(rows[k : k + 4]) for k in range(0, 400, 4)}) > 8
    assert rows != [kind_for(row, kinds, 8) for row in range(400)]


@pytest.mark.parametrize(
    ("kind", "text", "usable"),
    [
        ("remove", "Remove the dog.", True),
        ("remove", "Remove the dog and put a cat there.", False),
        ("remove", "Make the dog vanish.", False),
        ("swap", "Replace the dog with a cat.", True),
        ("remove", "Remove the man's hat.", True),
        ("remove", "Remove the bottle of water.", True),
        ("remove", "Remove the old, red car.", True),
        ("remove", "Remove the black and white dog from the beach.", True),
        ("remove", "Remove the dog, then replace it with a cat.", False),
        ("remove", "Remove the dog by putting a cat there.", False),
        ("remove", "Remove the dog. Put a cat there.", False),
        ("remove", "Remove the colour from the dress.", False),
        ("add", "Add a hat.", True),
        ("add", "Replace the dog with a cat.", False),
        ("add", "Remove the dog.", False),
        ("swap", "Add a hat.", False),
        ("swap", "Remove the man's hat.", False),
        ("change", "Make the coat blue.", True),
        ("change", "Add a hat.", False),
    ],
)
def test_what_is_invented_is_of_its_kind(kind, text, usable):
    question = ask_for_instruction([], "A dog.", kind)
    if usable:
        check_answer(question, text)
    else:
        with pytest.raises(UnusableAnswer, match=f"not of kind {kind}"):
            check_answer(question, text)


def test_an_invented_removal_is_made_as_one_whatever_its_words(server, clips, tmp_path):
    server.otherwise = lambda body: "Remove the man's hat." if "that removes" in str(body) else by_question(body)
    rows = ("--inpainting_sample_id", "4", "--output_path", str(tmp_path / "set"), "--instruction_kinds", "remove:1")
    try:
        words = ("--video_editing_instruction", "auto", "--llm_model", "of-hats")
        assert make(clips, tmp_path / "cache", *words, *rows) == 0
    finally:
        server.otherwise = by_question
    (record,) = (json.loads(file.read_text()) for file in (tmp_path / "set/edited").glob("*.json"))
    assert record["Editing_instruction"] == "Remove the man's hat."
    assert record["recipe"]["propagation"]["propagate"] == "all"


# ---- who reads it


def test_the_training_set_reads_it(made):
    options = {"meta_file_path": str(made / "metadata.csv"), "height": HEIGHT, "width": WIDTH, "max_num_frames": 9}
    samples = TrainingSet(TrainingSetOptions(**options, first_frame_gt=False))
    assert (len(samples), samples.dropped) == (ROWS, {})
    sample = samples[SampleKey(epoch=0, row=1, single=False)]
    assert not sample.replaced
    source = open_video(made / table(made)[1]["source_file_name"]).read(0, FRAMES)
    assert np.abs(sample.frames.astype(int) - source).mean() < 2
    assert sample.caption == table(made)[1]["caption"]
    assert (sample.frames.shape, sample.masks.any()) == ((9, HEIGHT, WIDTH, 3), True)


def test_datasets_loads_it(made, tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(made), cache_dir=str(tmp_path))
    assert list(found) == ["train"]
    videos = ("source", "edited", "mask")
    rows = found["train"]
    for name in videos:
        rows = rows.cast_column(name, datasets.Video(decode=False))
    assert len(rows) == ROWS
    for row, expected in zip(rows, table(made), strict=True):
        assert row["Editing_instruction"] == expected["Editing_instruction"]
        for name in videos:
            assert Path(row[name]["path"]).resolve() == (made / expected[f"{name}_file_name"]).resolve()


def test_evaluate_reads_it_as_an_editing_set(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    size = "--height 32 --width 48 --resize_to 32x48 --num_inference_steps 1 --guidance_scale 1 --inpainting_frames 9"
    words = f"--sets edit_standard={made / 'metadata.csv'} --inpainting_sample_id 0 --metrics masked_psnr --quiet"
    out = ["--output_path", str(tmp_path / "out"), *size.split(), *words.split()]
    assert evaluate.evaluate(evaluate.read_options(out)) == 0
    (record,) = (json.loads(file.read_text()) for file in (tmp_path / "out").glob("edit_standard/*/videos/*.json"))
    assert record["video_inpainting_prompt"] == "A blue star on grass."
    assert record["image_inpainting_prompt"] == "A blue star."


# ---- what cannot be made


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--video_editing_instruction auto", "--llm_model"),
        ("--video_editing_instruction auto --llm_model template", "sees pictures"),
        ("--video_editing_instruction auto --llm_model some --inpainting_sample_id 6-9", "out of range"),
        ("--video_editing_instruction auto auto --llm_model some", "alone"),
        ("--video_editing_instruction auto --llm_model some --instruction_kinds add:1,paint:2", "--instruction_kinds"),
        ("--video_editing_instruction auto --llm_model some --instruction_kinds add:0", "above 0"),
        ("--video_editing_instruction auto --llm_model some --instruction_kinds add:1,add:2", "twice"),
        ("--video_editing_instruction auto --llm_model some --judge_model template", "--judge_model"),
        ("--video_editing_instruction auto --llm_model some --judge_model replay:gone.json", "gone.json"),
        ("--video_editing_instruction auto --llm_model some --ckpt nowhere", "--ckpt"),
        ("--video_editing_instruction auto --llm_model some --device cuda:77", "--device"),
        ("--video_editing_instruction auto --llm_model some --lossless", "--lossless"),
        ("--video_editing_instruction auto --llm_model some --output_path x.mp4", "folder"),
        ("--video_editing_instruction auto --llm_model some --output_path x/{id}", "folder"),
        ("--video_editing_instruction auto --llm_model some --output_path other", "another set"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(server, clips, tmp_path, monkeypatch, capsys, flags, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/metadata.csv").write_text("file_name\n")
    asked = len(server.requests)
    assert make(clips, tmp_path / "cache", "--inpainting_sample_id", "all", *flags.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["other"]
    assert len(server.requests) == asked


def test_a_video_of_ones_own_makes_a_pair(clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (video,) = list(clips.parent.rglob("raw_video/*/*.mp4"))[:1]
    notes = [{"kind": kind, "text": "A ball."} for kind in ("video", "rewrite", "region")]
    notes += [{"kind": "instruction", "facts": {"kind": kind}, "text": f"{kind} it"} for kind in ("add", "remove")]
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    own = ["--video", str(video), "--box", "10,8,30,24", "--range", "0:5", "--video_editing_instruction", "auto"]
    own += ["--llm_model", "replay:notes.json", "--instruction_kinds", "add:1,remove:1", "--output_path", "out"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert edit_bench(read_options([*QUICK.split(), *own])) == 0
    (row,) = table(tmp_path / "out")
    assert row["Editing_instruction"] == f"{row['kind']} it"
    assert (row["Original_video_caption"], row["frames"]) == ("A ball.", "5")
    record = json.loads((tmp_path / "out/pairs" / row["path"].replace("mp4", "json")).read_text())
    assert record["origin"] == {"path": str(video), "mask_id": None, "start_frame": 0, "end_frame": 5, "fps": 8}


def planned(*flags: str) -> list[Job]:
    return plan_pairs(read_options([*QUICK.split(), *flags]))


def test_own_videos_differ_in_kind_and_long_names_keep_their_numbers(clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.json").write_text('[{"kind": "video", "text": "A ball."}]')
    own = ["--box", "10,8,30,24", "--llm_model", "replay:notes.json", "--output_path", "out"]
    (video,) = list(clips.parent.rglob("raw_video/*/*.mp4"))[:1]
    names = [f"{number}{100 * 'x'}.mp4" for number in range(12)]
    for name in names:
        shutil.copy(video, name)
    auto = ["--video_editing_instruction", "auto"]
    jobs = [planned("--video", name, *own, *auto)[0] for name in names]
    assert len({job.sample.kind for job in jobs if isinstance(job.sample, EditedSample)}) > 1
    two = planned("--video", names[0], *own, "--video_editing_instruction", "add a kite", "remove the ball")
    assert [job.output.stem[-5:] for job in two] == ["xxx_1", "xxx_2"]
    assert len({job.label for job in two}) == 2


def test_rows_are_cut_at_the_tables_end_and_prompts_of_the_release_ignored(
    server, clips, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = ["--inpainting_mask_meta", str(clips), "--inpainting_sample_id", "0", "3-1000"]
    jobs = planned(*rows, "--video_editing_instruction", "auto", "--llm_model", "some", "--prompt", "x")
    assert [job.sample.row for job in jobs] == [0, 3, 4, 5]
    assert all(job.options.prompts.prompt is None for job in jobs)
    ignored, cut = capsys.readouterr().err.splitlines()
    assert "--prompt, --image_prompt: ignored" in ignored
    assert "ends with row 5, taken is 0 3-5" in cut


def test_a_set_of_anothers_folder_is_refused_and_own_cards_stay(copy, clips, tmp_path):
    (copy / "README.md").write_text("mine")
    assert make(clips, tmp_path / "cache", *AUTO.split(), "--output_path", str(copy)) == 0
    assert (copy / "README.md").read_text() == "mine"


def test_kinds_of_another_form_are_refused():
    for text in ("", "add", "add:x", "add:-1", "add:1;swap:1", "add:99999"):
        with pytest.raises(InputError, match="--instruction_kinds"):
            parse_kinds(text)
