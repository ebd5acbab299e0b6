"""Sets of synthetic clips: VPData's layout, exact holes, the same bytes however they were made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from videopainter.cli.make_synthetic import make_synthetic
from videopainter.data.records import RecordTable
from videopainter.data.synthetic.dataset import (
    FIRST_SCENE,
    SyntheticKey,
    SyntheticLook,
    draw_clip,
    keys_of,
    settings_of,
)
from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.synthetic.writing import JOURNAL_FILE, SETTINGS_FILE, TABLES, write_set
from videopainter.errors import InputError
from videopainter.files import TOKEN, temporary

LOOK = SyntheticLook(num_frames=5, long_frames=41, height=32, width=48, removal_share=0.5, fps="24000/1001")
COUNTS = {"train": 6, "val": 1, "test": 2, "long": 1, "long_test": 1}
DOOR = Path(__file__).parents[1] / "data_utils" / "make_synthetic.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    write_set(folder, COUNTS, LOOK)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made, tmp_path / "set")


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def records(folder, name="pexels_videovo_train_dataset.csv"):
    """(key, record) of every row of a table."""
    table, part = RecordTable(folder / name), TABLES[name][0]
    return [(SyntheticKey(part, row), table.open(row)) for row in range(len(table))]


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_releases(made, name):
    part, columns = TABLES[name]
    table = pd.read_csv(made / name)
    assert list(table.columns) == list(columns)
    assert len(table) == COUNTS[part]
    length = LOOK.long_frames if part.startswith("long") else LOOK.num_frames
    assert (table.start_frame == 0).all()
    assert (table.end_frame == length).all()
    assert (table.fps == 24).all()
    assert (table.caption.str.len() > 50).all()
    for key, clip in records(made, name):
        assert (len(clip), clip.frames.height, clip.frames.width) == (length, LOOK.height, LOOK.width)
        assert clip.fps == Fraction(24000, 1001)
        assert clip.masks.read(0, length).any()
        assert table.path[key.index] == f"{key.number():012d}_{key.scene(0)}.mp4"


def test_files_lie_where_the_release_looks(made):
    base = "000000000003_10000003"
    assert (made / f"pexels/pexels/raw_video/000000000/{base}.mp4").is_file()
    with np.load(made / f"video_inpainting/pexels/{base}/all_masks.npz", allow_pickle=False) as masks:
        assert masks.files == ["arr_0"]
        assert masks["arr_0"].shape == (5, 32, 48)
        assert masks["arr_0"].dtype == np.uint8


def rendered(key, mask_id):
    """The scene of a row drawn anew, whole and without the object."""
    size: dict[str, Any] = {"num_frames": LOOK.num_frames, "height": LOOK.height, "width": LOOK.width, "aspect": 1.5}
    scene = key.scene(LOOK.seed)
    return render_clip(scene, **size), render_clip(scene, **size, without=mask_id)


def test_holes_are_what_the_object_changes_and_frames_have_it_or_not(made):
    kinds = []
    for key, clip in records(made):
        mask_id = int(clip.details["mask_id"])
        full, empty = rendered(key, mask_id)
        hole = clip.masks.read(0, 5)
        np.testing.assert_array_equal(hole, full.footprint(mask_id))
        right, wrong = (empty, full) if key.is_removal(LOOK) else (full, empty)
        frames = clip.frames.read(0, 5).astype(int)
        errors = [np.abs(frames - clip.frames)[hole].mean() for clip in (right, wrong)]
        assert errors[0] < 0.5 * errors[1]
        assert np.abs(frames - right.frames).mean() < 2
        assert clip.prompt == right.caption
        kinds.append(key.is_removal(LOOK))
    assert kinds.count(True) == 3


def test_prompts_say_what_is_in_the_hole(made):
    rows = records(made, "our_video_inpaint.csv") + records(made, "our_video_inpaint_long.csv")
    for key, clip in rows:
        if key.is_removal(LOOK):
            assert clip.image_prompt.startswith("An empty scene")
        else:
            words = clip.image_prompt.rstrip(".").lower()
            assert words in clip.prompt.lower()
    assert "comes back" in rows[-1][1].image_prompt


def test_other_objects_keep_their_ids(tmp_path):
    """Scene 10000000 has two objects; both are told apart, and the hole's is whole."""
    write_set(tmp_path / "set", {"train": 1}, SyntheticLook(num_frames=2, height=32, width=48, removal_share=0))
    ((key, clip),) = records(tmp_path / "set")
    with np.load(clip.files[1], allow_pickle=False) as masks:
        ids = masks["arr_0"]
    full = render_clip(key.scene(0), num_frames=2, height=32, width=48)
    assert len(full.object_captions) == 2
    assert set(np.unique(ids)) == {0, 1, 2}
    np.testing.assert_array_equal(ids > 0, full.footprints.any(axis=0))


def test_two_processes_write_the_same_bytes(made, tmp_path):
    write_set(tmp_path / "set", COUNTS, LOOK, processes=2)
    assert contents(tmp_path / "set") == contents(made)


def test_a_broken_set_is_mended(copied):
    before = contents(copied)
    videos = sorted(copied.rglob("*.mp4"))
    videos[0].unlink()
    videos[1].write_bytes(videos[1].read_bytes()[:100])
    sorted(copied.rglob("*.npz"))[2].write_bytes(b"")
    left = temporary(copied / "video_inpainting" / "x.npz")
    left = left.with_name(left.name.replace(TOKEN, "000000"))
    left.write_bytes(b"by a killed run")
    journal = copied / JOURNAL_FILE
    journal.write_text(journal.read_text()[:-20])  # the last line is cut off
    _, drawn = write_set(copied, COUNTS, LOOK)
    assert drawn == 4
    assert contents(copied) == before


def test_an_interrupted_run_goes_on(made, tmp_path):
    def stop_after_three(clips, total):
        for number, clip in enumerate(clips):
            if number == 3:
                raise KeyboardInterrupt
            yield clip

    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "set", COUNTS, LOOK, progress=stop_after_three)
    assert not (tmp_path / "set" / "pexels_videovo_train_dataset.csv").exists()
    _, drawn = write_set(tmp_path / "set", COUNTS, LOOK)
    assert drawn == sum(COUNTS.values()) - 3
    assert contents(tmp_path / "set") == contents(made)


def test_a_set_can_be_added_to_but_not_cut(copied):
    videos = {file: file.stat().st_mtime_ns for file in copied.rglob("*.mp4")}
    rows, drawn = write_set(copied, {**COUNTS, "train": 8}, LOOK)
    assert (len(rows), drawn) == (13, 2)
    assert len(RecordTable(copied / "pexels_videovo_train_dataset.csv")) == 8
    assert all(file.stat().st_mtime_ns == time for file, time in videos.items())
    with pytest.raises(InputError, match="has 8 train clips, 6 were asked for"):
        write_set(copied, COUNTS, LOOK)


def test_a_set_of_other_settings_is_left_alone(copied):
    before = contents(copied)
    with pytest.raises(InputError, match=r"seed 0 \(now 1\), num_frames 5 \(now 9\)"):
        write_set(copied, COUNTS, SyntheticLook(**{**vars(LOOK), "seed": 1, "num_frames": 9}))
    (copied / SETTINGS_FILE).write_text("{")
    with pytest.raises(InputError, match="expected those of a set"):
        write_set(copied, COUNTS, LOOK)
    (copied / SETTINGS_FILE).write_bytes(before[SETTINGS_FILE])
    assert contents(copied) == before


def test_real_data_is_not_written_over(tmp_path):
    table = tmp_path / "pexels_videovo_train_dataset.csv"
    table.write_text("real")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        write_set(tmp_path, COUNTS, LOOK)
    assert table.read_text() == "real"


def test_folders_that_cannot_be(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_set(file, COUNTS, LOOK)
    with pytest.raises(InputError, match="cannot write to the output folder"):
        write_set(file / "set", COUNTS, LOOK)


def test_a_folder_that_fills_up_is_told_in_one_line(tmp_path):
    # A file where the videos' folder should be: any OSError while drawing looks like this.
    def block(clips, total):
        (tmp_path / "set" / "video_inpainting").write_text("")
        return clips

    with pytest.raises(InputError, match="cannot write"):
        write_set(tmp_path / "set", {"train": 1}, LOOK, progress=block)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 31},
        {"width": 0},
        {"num_frames": 0},
        {"long_frames": 40},
        {"fps": "0"},
        {"fps": "fast"},
        {"removal_share": 1.5},
        {"camera_speed": -1.0},
        {"crf": 52},
        {"seed": -1},
    ],
)
def test_looks_that_cannot_be(tmp_path, change):
    with pytest.raises(InputError) as error:
        write_set(tmp_path / "set", {"train": 1}, SyntheticLook(**{**vars(LOOK), **change}))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("counts", [{}, {"train": 0}, {"train": 1, "val": -1}, {"val": 1_000_001}])
def test_counts_that_cannot_be(tmp_path, counts):
    with pytest.raises(InputError):
        write_set(tmp_path / "set", counts, LOOK)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("share", "removals"), [(0.0, 0), (0.5, 10), (0.9, 18), (1.0, 20)])
def test_the_share_of_removals_is_exact_and_spread(share, removals):
    look = SyntheticLook(removal_share=share)
    kinds = [SyntheticKey("train", index).is_removal(look) for index in range(20)]
    assert sum(kinds) == removals
    assert abs(sum(kinds[:10]) - removals / 2) <= 1
    assert not SyntheticKey("long", 3).is_removal(look)


def test_no_two_clips_have_one_scene():
    counts = dict.fromkeys(FIRST_SCENE, 3)
    scenes = [key.scene(seed) for seed in (0, 1, 2) for key in keys_of(counts)]
    assert len(set(scenes)) == 45
    assert min(scenes) >= 10_000_000


def test_videovo_names_and_narrow_pictures(tmp_path):
    look = SyntheticLook(num_frames=2, height=64, width=32, subset="videovo")
    write_set(tmp_path / "set", {"train": 4}, look)
    assert (tmp_path / "set/videovo/raw_video/000010000/000010000001.0.mp4").is_file()
    for _, clip in records(tmp_path / "set"):
        assert clip.masks.read(0, 2).any(axis=(1, 2)).all()


def test_colours_at_half_resolution_lose_more(tmp_path):
    errors = {}
    for chroma in ("444", "420"):
        look = SyntheticLook(num_frames=2, height=32, width=48, chroma=chroma, removal_share=0)
        write_set(tmp_path / chroma, {"train": 1}, look)
        ((key, clip),) = records(tmp_path / chroma)
        full = render_clip(key.scene(0), num_frames=2, height=32, width=48)
        errors[chroma] = np.abs(clip.frames.read(0, 2).astype(int) - full.frames).mean()
    assert errors["444"] < 0.7 * errors["420"]


def test_flags(tmp_path, capsys):
    size = ["--num_frames", "2", "--height", "16", "--width", "24", "--processes", "1"]
    folder = tmp_path / "set"
    flags = ["--output_dir", str(folder), "--clips", "3", "--val_clips", "0", "--test_clips", "1", *size]
    assert make_synthetic([*flags, "--removal_share", "1"]) == 0
    told = capsys.readouterr().out
    assert "4 clips, 4 of them with the object removed; 4 drawn" in told
    assert "our_video_inpaint.csv: 1" in told
    assert not (folder / "pexels_videovo_val_dataset.csv").exists()
    for wrong in (["--clips", "0"], ["--processes", "-1"], ["--frames", "3"], ["--subset", "davis"]):
        with pytest.raises(InputError):
            make_synthetic([*flags, *wrong])


def test_the_door_tells_a_mistake_in_one_line_and_loads_no_torch(tmp_path):
    code = f"import runpy, sys; sys.argv = ['x', '--clips', '0', '--output_dir', {str(tmp_path / 'set')!r}]\n"
    code += f"try: runpy.run_path({str(DOOR)!r}, run_name='__main__')\n"
    code += "finally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --clips: expected a number from 1 to 1000000, got 0\n"
    assert done.stdout == "False\n"


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, OSError])
def test_a_run_that_drew_nothing_does_not_block_the_next(error, tmp_path):
    def fail(clips, total):
        (tmp_path / "set" / "video_inpainting").mkdir()
        raise error

    with pytest.raises((error, InputError)):
        write_set(tmp_path / "set", {"train": 1}, LOOK, progress=fail)
    assert not list((tmp_path / "set").iterdir())
    write_set(tmp_path / "set", {"train": 1}, SyntheticLook(num_frames=2, height=32, width=48))


def test_bold_is_a_setting_where_it_is_chosen():
    usual, bold = (SyntheticLook(height=32, width=48, num_frames=2, bold=bold) for bold in (False, True))
    assert "bold" not in settings_of(usual)
    assert settings_of(bold)["bold"]
    key = SyntheticKey("train", 3)
    assert "camera" in draw_clip(key, usual).caption
    assert "camera" not in draw_clip(key, bold).caption
