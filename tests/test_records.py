"""Clips from a user's files and from the benchmarks' CSVs."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from videopainter.data.masks.opening import check_not_empty
from videopainter.data.rates import resample
from videopainter.data.records import (
    RecordTable,
    open_clip,
    parse_sample_ids,
    record_paths,
)
from videopainter.data.video.reader import VideoWriter, write_image
from videopainter.errors import InputError

NTSC = Fraction(30000, 1001)
CLIPS = Path(os.environ.get("VIDEOPAINTER_CLIPS", Path(__file__).parents[2] / "shared" / "clips"))
real_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"real clips are not at VIDEOPAINTER_CLIPS ({CLIPS})")

HEADER = "path,start_frame,end_frame,fps,mask_id,caption,video_inpainting_prompt,image_inpainting_prompt\n"


def make_video(path: Path, count: int = 20, fps: Fraction | int = NTSC) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=fps) as writer:
        for k in range(count):
            writer.write(np.full((1, 32, 48, 3), 10 * k, np.uint8))
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A data folder with one clip of each subset."""
    for video, masks in map(record_paths, ("000000000855_854996.mp4", "000005000000.0.mp4")):
        make_video(tmp_path / video)
        ids = np.zeros((20, 32, 48), np.uint8)
        ids[:, 4:20, 6:30], ids[:, 24:, 40:] = 1, 2
        (tmp_path / masks).parent.mkdir(parents=True)
        np.savez_compressed(tmp_path / masks, ids)
    rows = '000000000855_854996.mp4,2,19,30,1,"A ""long"", caption","whole, video",the hole\n'
    rows += "000005000000.0.mp4,0,,16,2,Ein Café,,\n"
    (tmp_path / "inpaint.csv").write_text(HEADER + rows, encoding="utf-8")
    return tmp_path


def test_paths_follow_the_subset() -> None:
    assert record_paths("000005000000.0.mp4") == (
        Path("videovo/raw_video/000005000/000005000000.0.mp4"),
        Path("video_inpainting/videovo/000005000000/all_masks.npz"),
    )
    assert record_paths("000000000855_854996.mp4") == (
        Path("pexels/pexels/raw_video/000000000/000000000855_854996.mp4"),
        Path("video_inpainting/pexels/000000000855_854996/all_masks.npz"),
    )
    for wrong in ("../secret.mp4", "a/b.mp4", "clip.avi", ""):
        with pytest.raises(InputError, match="row 3"):
            record_paths(wrong, where="row 3")


@pytest.mark.parametrize(
    "root", [None, ".", "videovo/raw_video", "pexels/pexels/raw_video", "pexels/../videovo/raw_video"]
)
def test_a_row_is_a_clip_from_any_data_root(root: str | None, bench: Path) -> None:
    data_root = None if root is None else bench / root
    clip = RecordTable(bench / "inpaint.csv").open(0, data_root=data_root)
    assert (clip.name, len(clip), clip.fps) == ("000000000855_854996", 17, NTSC)
    assert clip.prompt == "whole, video"
    assert clip.image_prompt == "the hole"
    assert clip.details["caption"] == 'A "long", caption'
    assert (clip.details["mask_id"], clip.details["row"]) == ("1", "0")
    assert [file.name for file in clip.files] == ["000000000855_854996.mp4", "all_masks.npz"]
    assert abs(int(clip.frames.read(0, 1).mean()) - 20) <= 2, "start_frame is the first one"
    assert abs(int(clip.frames.read(16, 17).mean()) - 180) <= 2, "end_frame is not in it"
    expected = np.zeros((32, 48), bool)
    expected[4:20, 6:30] = True
    np.testing.assert_array_equal(clip.masks.read(5, 6)[0], expected)


def test_masks_may_lie_elsewhere_than_videos(bench: Path, tmp_path: Path) -> None:
    """The CSV beside the masks, the videos given by `data_root`, as after two downloads."""
    (tmp_path / "other").mkdir()
    (bench / "pexels").rename(tmp_path / "other" / "pexels")
    clip = RecordTable(bench / "inpaint.csv").open(0, data_root=tmp_path / "other" / "pexels" / "pexels" / "raw_video")
    assert len(clip) == 17


def test_captions_and_ends_that_are_missing(bench: Path) -> None:
    table = RecordTable(bench / "inpaint.csv")
    clip = table.open(1)
    assert (len(table), table.name(1), clip.name) == (2, "000005000000", "000005000000")
    assert (len(clip), clip.prompt, clip.image_prompt) == (20, "Ein Café", "")
    (bench / "edit.csv").write_text(
        "path,start_frame,end_frame,fps,mask_id,Original_video_caption,Edited_video_caption,Edited_image_caption,"
        "Editing_instruction\n000005000000.0.mp4,0.0,999,16,2,a cat,a dog,brown fur,make it a dog\n"
    )
    clip = RecordTable(bench / "edit.csv").open(0)
    assert (clip.prompt, clip.image_prompt) == ("a dog", "brown fur")
    assert len(clip) == 20, "end_frame past the file's end is the file's end"
    assert clip.details["Editing_instruction"] == "make it a dog"


def test_resampling_a_record_uses_one_index_for_frames_and_masks(bench: Path) -> None:
    clip = resample(RecordTable(bench / "inpaint.csv").open(0), 8)
    assert clip.fps == 8
    assert len(clip) == len(clip.masks) == 5
    assert abs(int(clip.frames.read(1, 2).mean()) - 60) <= 2  # 2 + round(29.97 / 8) = frame 6
    assert clip.details["mask_id"] == "1"


def test_rows_that_cannot_be(bench: Path) -> None:
    good = "000005000000.0.mp4,0,19,16,2,cap,,\n"
    cases = {
        good.replace(",0,19", ",x,19"): "start_frame of row 0: expected a whole number, got 'x'",
        good.replace(",0,19", ",0.5,19"): "start_frame of row 0: expected a whole number",
        good.replace(",0,19", ",7,7"): r"got 7 to 7",
        good.replace(",0,19", ",25,40"): r"within the 20 of",
        good.replace(",0,19", ",-2,19"): r"got -2 to 19",
        good.replace(",16,2,", ",16,9,"): "mask_id: expected one of 1, 2, got 9",
        good.replace(",16,2,", ",16,,"): "mask_id of row 0: expected a whole number",
        good.replace("000005000000", "000005000001"): r"video of row 0: expected videovo/raw_video/000005000/",
        good.replace("000005000000", "../../etc"): "path: expected the name",
    }
    for row, expected in cases.items():
        (bench / "bad.csv").write_text(HEADER + row)
        with pytest.raises(InputError, match=expected) as error:
            RecordTable(bench / "bad.csv").open(0)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"row: expected one of 0\.\.1, got 2"):
        RecordTable(bench / "inpaint.csv").open(2)
    with pytest.raises(InputError, match="data folder: expected a folder, got none"):
        RecordTable(bench / "inpaint.csv").open(0, data_root=bench / "none")


def test_files_that_are_no_such_csv(tmp_path: Path) -> None:
    cases = {
        "path,start_frame,end_frame,fps,caption\na.mp4,0,1,8,x\n": "got none called mask_id",
        "path,start_frame,end_frame,fps,mask_id\na.mp4,0,1,8,1\n": "expected a caption",
        "Video_Index,Video_Name,Video_Caption\n1,a,b\n": "got none called Masked_Target_Caption",
        HEADER: "expected rows",
        "": "expected one that can be read",
        'path\n"unclosed\n': "expected one that can be read|got none called",
    }
    for text, expected in cases.items():
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match=expected) as error:
            RecordTable(tmp_path / "t.csv")
        assert "t.csv" in str(error.value)
        assert "\n" not in str(error.value)
    (tmp_path / "b.csv").write_bytes(bytes(range(128, 256)) * 20)
    for name in ("b.csv", "missing.csv", "."):
        with pytest.raises(InputError):
            RecordTable(tmp_path / name)


def test_sample_ids() -> None:
    assert parse_sample_ids("all", 3) == [0, 1, 2]
    assert parse_sample_ids("0 5 7-9", 10) == [0, 5, 7, 8, 9]
    assert parse_sample_ids(["0,5", "7-9", "5"], 10) == [0, 5, 7, 8, 9]
    assert parse_sample_ids(4, 5) == parse_sample_ids([4], 5) == [4]
    assert parse_sample_ids("4-4", 5) == [4]
    for wrong, expected in {
        "5": r"0\.\.4",
        "3-7": r"0\.\.4",
        "-1": "number, a range",
        "3-1": "rises",
        "x": "number, a range",
        "1.5": "number, a range",
        "1-": "number, a range",
        "": "no sample id",
    }.items():
        with pytest.raises(InputError, match=expected):
            parse_sample_ids(wrong, 5)


def test_davis_rows(tmp_path: Path) -> None:
    for k in range(5):
        write_image(tmp_path / f"JPEGImages_432_240/cat/{k:05d}.jpg", np.full((24, 40, 3), 40 * k, np.uint8))
        mask = np.zeros((24, 40), np.uint8)
        mask[12, 20] = 255
        write_image(tmp_path / f"test_masks/cat/{k:05d}.png", mask)
    (tmp_path / "davis_caption.csv").write_text(
        "Video_Index,Video_Name,Video_Caption,Masked_Target_Caption\n1,cat,A cat.,Grass.\n2,../cat,A,B\n3,dog,A,B\n"
    )
    table = RecordTable(tmp_path / "davis_caption.csv")
    clip = table.open(0, data_root=tmp_path / "JPEGImages_432_240")
    assert (clip.name, len(clip), clip.fps, clip.prompt, clip.image_prompt) == ("cat", 5, 24, "A cat.", "Grass.")
    y, x = np.mgrid[:24, :40]
    np.testing.assert_array_equal(clip.masks.read(3, 4)[0], abs(y - 12) + abs(x - 20) <= 4)
    assert len(clip.files) == 10
    assert table.open(0, folder_fps=30).fps == 30
    with pytest.raises(InputError, match="folder's name"):
        table.open(1)
    with pytest.raises(InputError, match="frames of dog: expected JPEGImages_432_240/dog, got none"):
        table.open(2)


def test_own_files(tmp_path: Path) -> None:
    video = make_video(tmp_path / "my clip é.mp4", fps=25)
    write_image(tmp_path / "mask.png", np.eye(32, 48, dtype=np.uint8) * 255)
    clip = open_clip(video, tmp_path / "mask.png", prompt="p", image_prompt="i")
    assert (clip.name, len(clip), clip.fps, clip.prompt, clip.image_prompt) == ("my clip é", 20, 25, "p", "i")
    assert clip.files == (video, tmp_path / "mask.png")
    assert clip.sound is None
    check_not_empty(clip.masks, "mask")
    folder = tmp_path / "frames.v2"
    for k in range(3):
        write_image(folder / f"{k}.png", np.zeros((32, 48, 3), np.uint8))
    clip = open_clip(folder, tmp_path / "mask.png", folder_fps=12)
    assert (clip.name, len(clip), clip.fps, len(clip.files)) == ("frames.v2", 3, 12, 4)


# -- real clips


@real_clips
def test_real_vpbench_rows() -> None:
    table = RecordTable(CLIPS / "vpbench" / "our_video_inpaint.csv")
    seen = {}
    for row in range(len(table)):
        clip = table.open(row, data_root=CLIPS / "vpbench" / "videovo" / "raw_video")
        seen[clip.name] = (len(clip), clip.fps, clip.frames.height, clip.frames.width)
        assert clip.masks.read(0, 1).any()
        assert clip.frames.read(len(clip) - 1, len(clip)).std() > 5
        assert clip.prompt
        assert clip.image_prompt
    assert seen == {
        "000000000855_854996": (173, NTSC, 540, 960),
        "000000112319_6693826": (182, Fraction(30), 506, 960),
        "000000134923_7169873": (143, Fraction(24000, 1001), 506, 960),
        "000005000000": (80, Fraction(16), 480, 832),
    }


@real_clips
def test_real_davis_and_own_files() -> None:
    table = RecordTable(CLIPS / "davis" / "davis_caption.csv")
    for row, name in enumerate(("bmx-trees", "tennis")):
        clip = table.open(row)
        assert (clip.name, len(clip), clip.frames.height, clip.frames.width) == (name, 57, 240, 432)
        check_not_empty(clip.masks, name)
    clip = open_clip(CLIPS / "custom" / "video.mp4", CLIPS / "custom" / "mask.mp4")
    assert (len(clip), clip.fps) == (81, 16)
    share = clip.masks.read(0, 4).mean()
    assert 0.01 < share < 0.9
