"""`infer/edit.py`: instructions become captions, and a run as any other; own files, rows, boxes, nobody to ask."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from caption_server import by_question, serving
from conftest import moving_mask, noise_video
from shells import command_of

from videopainter.cli.edit import edit, read_options
from videopainter.cli.running import run_door
from videopainter.data.clip import ArrayMasks
from videopainter.data.masks.views import ShapedMasks
from videopainter.data.video.reader import VideoWriter, open_video
from videopainter.pipelines import first_frame

REPO = Path(__file__).resolve().parents[1]
FRAMES, HEIGHT, WIDTH = 5, 32, 48
QUICK = "--num_inference_steps 1 --inpainting_frames 5 --height 32 --width 48 --quiet --lossless"
OWN = "--video clip.mkv --mask mask.mkv --output_path out/result.mkv"
KEYS = ["Original_video_caption", "Edited_video_caption", "Edited_image_caption", "Editing_instruction"]


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("openai")
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield server


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command in this process, in a folder with a clip, its mask and a benchmark of one row."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    masks = 255 * np.repeat(moving_mask(FRAMES, HEIGHT, WIDTH)[..., None], 3, -1).astype(np.uint8)
    for name, frames in (("clip", noise_video(FRAMES, HEIGHT, WIDTH)), ("mask", masks)):
        with VideoWriter(tmp_path / f"{name}.mkv", fps=8, lossless=True) as writer:
            writer.write(frames)

    def run(*arguments: str, code: int = 0) -> list[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_door(lambda: edit(read_options([*QUICK.split(), *arguments])))
        told = capsys.readouterr().err
        assert ended.value.code == code, told
        return told.splitlines()

    return run


def record_of(file: str) -> dict:
    return json.loads(Path(file).with_suffix(".json").read_text())


def test_an_instruction_becomes_captions_and_a_video(server, run):
    server.otherwise = by_question
    run(*OWN.split(), "--video_editing_instruction", "change the ball to a blue star", "--llm_model", "some")
    record = record_of("out/result.mkv")
    assert [record[key] for key in KEYS] == [
        "A red ball on grass.",
        "A blue star on grass.",
        "A blue star.",
        "change the ball to a blue star",
    ]
    assert (record["video_inpainting_prompt"], record["image_inpainting_prompt"]) == (
        "A blue star on grass.",
        "A blue star.",
    )
    assert [note["kind"] for note in record["captions"]] == ["video", "rewrite", "region"]
    source, result = open_video(Path("clip.mkv")).read(0, FRAMES), open_video(Path("out/result.mkv")).read(0, FRAMES)
    hole = moving_mask(FRAMES, HEIGHT, WIDTH)
    np.testing.assert_array_equal(result[~hole], source[~hole])
    assert np.abs(result[hole].astype(int) - source[hole]).mean() > 5
    asked = len(server.requests)
    told = run(*OWN.split(), "--video_editing_instruction", "change the ball to a blue star", "--llm_model", "some")
    assert told == ["finished already: out/result.mkv"]
    assert len(server.requests) == asked
    shutil.rmtree("cache/videopainter/captions")
    told = run(*OWN.split(), "--video_editing_instruction", "change the ball to a blue star", "--llm_model", "some")
    assert told == ["finished already: out/result.mkv"], "what a result says is enough, on another machine, too"
    assert len(server.requests) == asked
    run(*OWN.split(), "--video_editing_instruction", "change it to a star", "--llm_model", "some")
    assert len(server.requests) > asked, "which it does not say of another instruction"


def test_several_instructions_make_a_result_each(run):
    words = ["change the ball to a blue star", "add a kite"]
    own = OWN.replace("out/result.mkv", "out").split()
    Path("notes.json").write_text(
        json.dumps([{"kind": kind, "text": f"A {kind}."} for kind in ("video", "rewrite", "region")])
    )
    run(*own, "--video_editing_instruction", *words, "--llm_model", "replay:notes.json")
    results = sorted(Path("out").glob("*.mkv"))
    assert [file.stem.rpartition("clip_")[2] for file in results] == ["1", "2"]
    assert [record_of(str(file))["Editing_instruction"] for file in results] == words


def test_a_row_brings_its_own_captions_and_nobody_is_asked(run, tmp_path):
    base = tmp_path / "pexels/pexels/raw_video/000000000/000000000000_1.mp4"
    base.parent.mkdir(parents=True)
    with VideoWriter(base, fps=8) as writer:
        writer.write(noise_video(FRAMES, HEIGHT, WIDTH))
    masks = tmp_path / "video_inpainting/pexels/000000000000_1/all_masks.npz"
    masks.parent.mkdir(parents=True)
    np.savez_compressed(masks, moving_mask(FRAMES, HEIGHT, WIDTH).astype(np.uint8))
    columns = ["path", "start_frame", "end_frame", "fps", "mask_id", *KEYS]
    row = ["000000000000_1.mp4", 0, FRAMES, 8, 1, "A ball.", "A star.", "The star.", "swap ball and star"]
    with open("bench.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, row])
    flags = ["--inpainting_mask_meta", "bench.csv", "--inpainting_sample_id", "0", "--output_path", "out/row.mkv"]
    run(*flags)
    assert [record_of("out/row.mkv")[key] for key in KEYS] == row[-4:]
    assert record_of("out/row.mkv")["captions"] == []
    # Captions of another instruction are not this one's.
    (line,) = run(*flags, "--video_editing_instruction", "add a kite", code=2)
    assert "--llm_model" in line
    run(*flags, "--video_editing_instruction", "change the ball to a kite", "--llm_model", "template", "--overwrite")
    assert record_of("out/row.mkv")["Edited_video_caption"] == "A kite."


def test_a_removal_needs_no_words(server, run):
    run(*OWN.split(), "--video_editing_instruction", "remove the ball", "--llm_model", "some")
    assert not server.requests
    assert "background" in record_of("out/result.mkv")["Edited_video_caption"]


def test_seeds_share_the_first_frame(run, monkeypatch):
    fills = []
    fill = first_frame.OpenCVFiller.fill
    monkeypatch.setattr(first_frame.OpenCVFiller, "fill", lambda *a, **k: (fills.append(1), fill(*a, **k))[1])
    own = OWN.replace("out/result.mkv", "out").split()
    words = ["--video_editing_instruction", "paint it red", "--prompt", "red", "--num_videos_per_prompt", "2"]
    run(*own, *words, "--img_inpainting_model", "opencv")
    assert len(list(Path("out").glob("*.mkv"))) == 2
    assert len(fills) == 1


def test_a_removal_copies_what_other_frames_show(run):
    run(*OWN.split(), "--video_editing_instruction", "remove the ball")
    record = record_of("out/result.mkv")
    assert record["recipe"]["propagation"]["propagate"] == "all"
    assert record["recipe"]["settings"]["match_edges"] is True
    assert record["Editing_instruction"] == "remove the ball"
    hole = moving_mask(FRAMES, HEIGHT, WIDTH)
    assert "background" in record["Edited_video_caption"]
    source, result = open_video(Path("clip.mkv")).read(0, FRAMES), open_video(Path("out/result.mkv")).read(0, FRAMES)
    assert (result != source).any(-1)[hole].mean() > 0.9


def test_only_of_a_removal_is_shown_what_was_copied(run):
    say = ["--llm_model", "replay:notes.json", "--video_editing_instruction", "paint the ball red", "remove the ball"]
    Path("notes.json").write_text(json.dumps([{"kind": k, "text": f"A {k}."} for k in ("video", "rewrite", "region")]))
    run(*OWN.replace("out/result.mkv", "both").split(), *say, "--save_comparison")
    widths = [open_video(Path(f"both/{name}_comparison.mp4")).width for name in ("0_clip_1", "1_clip_2")]
    assert widths == [4 * WIDTH, 5 * WIDTH]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "--video_editing_instruction"),
        (("--video_editing_instruction", " "), "empty"),
        (("--video_editing_instruction", "paint it red"), "--llm_model"),
        (("--video_editing_instruction", "paint it red", "--llm_model", "gpt-4o"), "OPENAI_API_KEY"),
        (("--video_editing_instruction", "paint it red", "--llm_model", "replay:gone.json"), "gone.json"),
        (("--video_editing_instruction", "paint it red", "--prompt", "red", "--propagate", "only"), "--propagate"),
        (("--video_editing_instruction", "paint it red", "--prompt", "red", "--remove"), "--remove"),
        (("--video_editing_instruction", "make", "it", "blue", "--prompt", "red"), "quotes"),
        (("--video_editing_instruction", "paint it red", "--propose_affected", "x.mkv"), "--propose_affected"),
        (("--video_editing_instruction", "paint it red", "--prompt", "red", "--mask_shape", "circle"), "mask_shape"),
    ],
)
def test_what_cannot_be_made_is_one_line(run, monkeypatch, flags, told):
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (line,) = run(*OWN.split(), *flags, code=2)
    assert told in line
    assert not list(Path().glob("out/[!.]*"))


def test_captions_that_nobody_writes_are_told_before_a_mask_is_tracked(run):
    own = ["--video", "clip.mkv", "--box", "10,8,30,24", "--output_path", "out/result.mkv"]
    (line,) = run(*own, "--video_editing_instruction", "paint it red", code=2)
    assert "--llm_model" in line
    assert not Path("out").exists()


def test_the_words_of_the_user_need_nobody(run):
    own = ["--video", "clip.mkv", "--box", "10,8,30,24", "--output_path", "out/result.mkv"]
    run(*own, "--video_editing_instruction", "paint it red", "--prompt", "all red", "--image_prompt", "red")
    record = record_of("out/result.mkv")
    assert (record["Edited_video_caption"], record["Edited_image_caption"]) == ("all red", "red")


@pytest.mark.parametrize("shape", ["hull", "box"])
def test_wider_shapes_hold_the_mask(shape):
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 4, 5] = masks[0, 14, 20] = masks[0, 4, 20] = True
    masks[1, 3:9, 7:8] = True
    wide = ShapedMasks(ArrayMasks(masks), shape).read(0, 3)
    assert (wide | masks == wide).all()
    assert wide[0, 4, 5:21].all()
    assert wide[0, 14, 5] == (shape == "box")
    assert not wide[0, 15].any()
    np.testing.assert_array_equal(wide[1:], masks[1:])


def test_the_shape_of_the_hole_is_in_the_recipe(run):
    flags = [*OWN.split(), "--video_editing_instruction", "paint it red", "--prompt", "red"]
    run(*flags)
    assert "mask_shape" not in record_of("out/result.mkv")["recipe"]["clip"]
    (line,) = run(*flags, "--mask_shape", "box", code=2)
    assert "--overwrite" in line


def test_the_bash_script_hands_on_what_is_set(tmp_path):
    variables = {"video_editing_instruction": "add a kite", "data_kind": "val", "llm_model": "none"}
    command = command_of(REPO / "infer/edit.sh", tmp_path, "--quiet", **variables)
    assert Path(command.door).name == "edit.py"
    editing, run = read_options(command.flags).editing, read_options(command.flags).run
    assert editing.video_editing_instruction == ["add a kite"]
    assert run.clip.inpainting_mask_meta == "../data/pexels_videovo_val_dataset.csv"
    assert (run.clip.dilate_size, run.prompts.llm_model, run.output.quiet) == (48, "none", True)
    flags = command_of(REPO / "infer/edit.sh", tmp_path, "--id_pool_resample_learnable_path", "here").flags
    options = read_options(flags)
    assert options.run.model.id_adapter_resample_learnable_path == "here"
    assert (options.editing.video_editing_instruction, options.run.prompts.llm_model) == (None, "gpt-4o")
