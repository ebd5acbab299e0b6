"""The training set: exact frames and masks, rules, what cannot be read, order, independence of workers."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from test_video_io import BITS, CODECS, encode, number_of, numbered, remux

from videopainter.data.masks.ids import IdArray
from videopainter.data.rates import frame_offsets, resample_indices
from videopainter.data.records import record_paths
from videopainter.data.reshape import covering_box, resize_frames, resize_masks
from videopainter.data.training.file_index import FileIndex
from videopainter.data.training.sample_order import SampleKey, SampleOrder
from videopainter.data.training.training_set import (
    TrainingSample,
    TrainingSet,
    TrainingSetOptions,
    Unreadable,
    UnreadableLog,
)
from videopainter.data.video.reader import VideoFrames
from videopainter.data.workers import begin_worker
from videopainter.errors import InputError

CAPTION = "A textured ball rolls to the right over a table in soft light."
HEADER = "path,start_frame,end_frame,fps,mask_id,caption\n"
HEIGHT, WIDTH = 64, 144


def numbered_ids(count: int) -> np.ndarray:
    """Ids whose object 1 spells the frame's number as the frames of `numbered` do; a square of it is always there."""
    ids = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    ids[:, 32:48, :16], ids[:, 50:60, 20:40] = 1, 2
    for k, bit in itertools.product(range(count), range(BITS)):
        ids[k, :16, 16 * bit : 16 * bit + 16] = k >> bit & 1
    return ids


def place(root: Path, name: str, ids: np.ndarray) -> Path:
    """Writes the masks of a clip and returns where its video belongs."""
    video, masks = (root / part for part in record_paths(name))
    for path in (video, masks):
        path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(masks, ids)
    return video


def options(root: Path, rows: list[str], **changes) -> TrainingSetOptions:
    (root / "train.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    given = {
        "meta_file_path": str(root / "train.csv"),
        "height": HEIGHT,
        "width": WIDTH,
        "max_num_frames": 9,
        "mask_transform_prob": 0.0,
    }
    return TrainingSetOptions(**{**given, **changes})


def numbers_of(sample) -> list[int]:
    return [number_of(frame) for frame in sample.frames]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with three good clips of 60 frames at 24 fps."""
    root = tmp_path_factory.mktemp("data")
    for k in range(3):
        encode(place(root, f"00000000{k}.mp4", numbered_ids(60)), numbered(60), fps=24, g="20")
    return root


GOOD = [f"00000000{k}.mp4,0,60,24,1,{CAPTION}" for k in range(3)]


def vary_rate(path: Path, pictures: np.ndarray) -> Path:
    """A video whose frames lie 30 and 70 ms apart in turn: 20 fps on average."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for k, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 50 * k + 20 * (k % 2), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), 24, 30, 60, 7, None])
def test_frames_and_masks_are_those_of_the_same_moments(rate: Fraction | int | None, tmp_path: Path) -> None:
    """Pixels and masks both spell their frame's number."""
    count = 80 if rate == 60 else 50
    video = place(tmp_path, "000000001.mp4", numbered_ids(count))
    if rate is None:
        fps = VideoFrames(vary_rate(video, numbered(count))).fps
        assert float(fps) == pytest.approx(20, rel=0.02)
    else:
        encode(video, numbered(count), fps=rate, g="25", preset="veryfast")
        fps = Fraction(rate)
    row = f"000000001.mp4,3,{count},{round(float(fps))},1,{CAPTION}"
    clips = TrainingSet(options(tmp_path, [row]))
    starts = set()
    for epoch in range(8):
        sample = clips[SampleKey(epoch, 0, False)]
        assert not sample.replaced
        numbers = numbers_of(sample)
        spelled = [number_of(np.repeat(mask[..., None], 3, 2) * 255) for mask in sample.masks]
        assert numbers == spelled
        expected = resample_indices(count, fps, 8)[0][:9]
        assert [n - numbers[0] for n in numbers] == expected.tolist()
        assert numbers[0] >= 3 and numbers[-1] < count
        shown_at = min(Fraction(8), fps)
        assert abs((numbers[-1] - numbers[0]) / fps - 8 / shown_at) <= Fraction(1, 2) / fps
        starts.add(numbers[0])
    assert len(starts) > 2, "the crop moves"


@pytest.mark.parametrize("name", [*CODECS, "one_group.mp4", "turned.mp4", "edited.mp4"])
def test_picking_gives_the_same_pixels_as_reading(name: str, tmp_path: Path) -> None:
    known: Any = CODECS.get(name, {"codec": "libx264", "g": "100"})
    path = encode(tmp_path / ("plain.mp4" if name not in CODECS else name), numbered(40), **known)
    if name == "turned.mp4":
        path = remux(path, tmp_path / name, rotation=90)
    if name == "edited.mp4":
        path = remux(path, tmp_path / name, shift=3000)
    straight = VideoFrames(path)
    every = straight.read(0, len(straight))
    frames = VideoFrames(path, threads=1, check_end=False)
    rng = np.random.default_rng(0)
    for _ in range(8):
        numbers = np.sort(rng.choice(len(straight), rng.integers(1, 8), replace=False)).tolist()
        np.testing.assert_array_equal(np.stack(list(frames.pick(numbers))), every[numbers])
        if rng.random() < 0.5:
            frames.close()
    np.testing.assert_array_equal(frames.read(5, 9), every[5:9])
    with pytest.raises(IndexError):
        list(frames.pick([3, len(straight)]))


def test_less_is_decoded_than_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one long group of pictures, only pictures that are asked for or that others need."""
    frames = VideoFrames(encode(tmp_path / "v.mp4", numbered(40), g="100", bf="3"), threads=1, check_end=False)
    seen = []
    number_of_frame = frames._timeline.number_of
    monkeypatch.setattr(frames._timeline, "number_of", lambda *at: seen.append(number_of_frame(*at)) or seen[-1])
    assert len(list(frames.pick([7, 22, 30]))) == 3
    assert {7, 22, 30} <= set(seen) and max(seen) == 30
    assert len(seen) < 20


def test_ids_are_read_as_far_as_needed(tmp_path: Path) -> None:
    ids = numbered_ids(20)
    np.savez_compressed(tmp_path / "ids.npz", ids)
    array = IdArray(tmp_path / "ids.npz")
    assert (len(array), array.height, array.width) == ids.shape
    np.testing.assert_array_equal(np.stack(list(array.pick([2, 3, 9, 19], 1))), ids[[2, 3, 9, 19]] == 1)
    np.save(tmp_path / "cut.npy", ids)
    data = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[: len(data) // 2])
    cut = IdArray(tmp_path / "cut.npy")
    assert len(list(cut.pick([1, 5], 1))) == 2
    with pytest.raises(InputError, match="cut off"):
        list(cut.pick([1, 15], 1))


@pytest.mark.parametrize("kind", ["deflated", "stored", "npy", "wide ids"])
def test_any_array_is_read_from_any_frame(kind: str, tmp_path: Path) -> None:
    """Frames that hardly compress and are larger than what is unpacked at once, and a header of another byte order."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 250, (12, 211, 307)).astype(">i4" if kind == "wide ids" else np.uint8)
    ids[3:9] = 7
    path = tmp_path / f"ids.{'npy' if kind == 'npy' else 'npz'}"
    {"npy": np.save, "stored": np.savez}.get(kind, np.savez_compressed)(path, ids)
    array = IdArray(path)
    for numbers in ([0], [11], [2, 3, 10], range(12)):
        np.testing.assert_array_equal(np.stack(list(array.pick(numbers, 7))), ids[list(numbers)] == 7)
    np.testing.assert_array_equal(array.presence(7), (ids == 7).any(axis=(1, 2)))


def test_ids_that_cannot_be_unpacked_are_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "ids.npz", np.tile(numbered_ids(60), (1, 4, 4)))
    data = (tmp_path / "ids.npz").read_bytes()
    middle = len(data) // 2
    # The list of members is at the end: it names more than there is ahead of it.
    cases = {
        "damaged.npz": data[:middle] + b"\xff" * 99 + data[middle + 99 :],
        "gap.npz": data[:middle] + data[data.rindex(b"PK\x01\x02") :],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"cut off.*{name}"):
            list(IdArray(tmp_path / name).pick([59], 1))
    np.testing.assert_array_equal(
        next(iter(IdArray(tmp_path / "damaged.npz").pick([1], 1)))[:64, :144], numbered_ids(2)[1] == 1
    )


@pytest.mark.parametrize("size", [(64, 96), (480, 720), (16, 16), (97, 33)])
def test_resizing_is_that_of_inference(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 97, 131, 3), dtype=np.uint8)
    masks = rng.random((19, 97, 131)) < 0.001
    images = [Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.LANCZOS) for frame in frames]
    np.testing.assert_array_equal(resize_frames(frames, *size), np.stack([np.asarray(image) for image in images]))
    pooled = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(masks)[:, None].float(), size)[:, 0]
    np.testing.assert_array_equal(resize_masks(masks, *size), pooled.numpy() > 0)


def textured(count: int, height: int, width: int) -> np.ndarray:
    """Frames of coloured waves of many lengths, of which colours are the longer."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    frames = np.zeros((count, height, width, 3))
    for scale, channels in [(2, [0]), (2, [1]), (3, [2]), (7, [0, 1, 2]), (17, [0, 1, 2]), (40, [0, 1, 2])]:
        angle, phase, speed = rng.random(3) * 2 * np.pi
        wave = (np.cos(angle) * x + np.sin(angle) * y) * scale * 2 * np.pi + phase
        moved = wave[None] + speed * np.arange(count)[:, None, None] / 9
        frames[..., channels] += np.sin(moved)[..., None] / scale**0.5
    return (127.5 + 50 * frames).clip(0, 255).astype(np.uint8)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


STORED = {
    "420": {},
    "422": {"pix_fmt": "yuv422p"},
    "full range": {"pix_fmt": "yuvj420p"},
    "BT.709": {"colorspace": "bt709"},
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("size", [(36, 64), (144, 208), (270, 480), (180, 320)])
def test_resizing_while_decoding_is_close_to_resizing_after_it(
    stored: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = encode(tmp_path / "v.mp4", textured(3, 180, 320), crf="8", preset="veryfast", **STORED[stored])
    frames = VideoFrames(path, threads=1, check_end=False)
    picked = np.stack(list(frames.pick([0, 2], size)))
    expected = resize_frames(frames.read(0, 3)[[0, 2]], *size)
    assert picked.shape == expected.shape and picked.dtype == np.uint8
    if size == (180, 320):
        np.testing.assert_array_equal(picked, expected)
    else:
        assert psnr(picked, expected) > 43
        bias = picked.astype(float).mean(axis=(0, 1, 2)) - expected.mean(axis=(0, 1, 2))
        assert np.abs(bias).max() < 0.5
    again = np.stack(list(frames.pick([0, 2], size)))
    np.testing.assert_array_equal(again, picked)


def test_turned_frames_are_resized_too(tmp_path: Path) -> None:
    flat = encode(tmp_path / "flat.mp4", textured(2, 90, 160), crf="8")
    turned = VideoFrames(remux(flat, tmp_path / "turned.mp4", rotation=90))
    assert (turned.height, turned.width) == (160, 90)
    picked = next(iter(turned.pick([1], (64, 48))))
    assert psnr(picked, resize_frames(turned.read(1, 2), 64, 48)[0]) > 43


@pytest.mark.parametrize(("codec", "stored"), [("ffv1", "bgr0"), ("libx264", "yuv444p"), ("libx264", "yuv420p10le")])
def test_rare_formats_are_resized_afterwards(codec: str, stored: str, tmp_path: Path) -> None:
    video = encode(place(tmp_path, "000000001.mp4", np.ones((9, 64, 112), np.uint8)), textured(9, 64, 112), fps=8)
    encode(video.with_suffix(".mkv"), textured(9, 64, 112), codec=codec, fps=8, pix_fmt=stored)
    video.with_suffix(".mkv").replace(video)
    frames = VideoFrames(video)
    np.testing.assert_array_equal(next(frames.pick([1], (32, 48))), frames.read(1, 2)[0])
    clips = TrainingSet(options(tmp_path, [f"000000001.mp4,0,9,8,1,{CAPTION}"], height=32, width=48))
    sample = clips[SampleKey(0, 0, False)]
    assert psnr(sample.frames, resize_frames(frames.read(0, 9), 32, 48)) > 52


@pytest.mark.parametrize("mode", ["resize", "center", "random"])
def test_samples_show_what_inference_would_see(mode: str, tmp_path: Path) -> None:
    video = encode(place(tmp_path, "000000001.mp4", np.ones((9, 120, 200), np.uint8)), textured(9, 120, 200), fps=8)
    sized: dict[str, Any] = {"height": 48, "width": 64, "video_reshape_mode": mode}
    clips = TrainingSet(options(tmp_path, [f"000000001.mp4,0,9,8,1,{CAPTION}"], **sized))
    sample = clips[SampleKey(0, 0, False)]
    box = clips._box(VideoFrames(video), SampleKey(0, 0, False))
    expected = resize_frames(VideoFrames(video).read(0, 9)[:, box.top : box.bottom, box.left : box.right], 48, 64)
    assert psnr(sample.frames, expected) > (43 if mode == "resize" else 52)


def test_offsets_are_those_of_resampling() -> None:
    for fps in (8, 12, Fraction(24000, 1001), 25, Fraction(30000, 1001), 59, 7):
        indices, _ = resample_indices(400, Fraction(fps), 8)
        np.testing.assert_array_equal(frame_offsets(40, Fraction(fps), Fraction(8)), indices[:40])


def test_the_box_has_the_aspect_of_the_target() -> None:
    assert covering_box(540, 960, 480, 720) == (0, 540, 75, 885)
    assert covering_box(960, 540, 480, 720, (0.0, 0.0)) == (0, 360, 0, 540)
    assert covering_box(960, 540, 480, 720, (1.0, 1.0)) == (600, 960, 0, 540)
    assert covering_box(1, 7, 480, 720) == (0, 1, 3, 5)
    boxes = {covering_box(9, 5, 5, 5, (place, 0.5)).top for place in np.linspace(0, 1, 50)}
    assert boxes == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("mode", ["resize", "center", "random"])
@pytest.mark.parametrize("shape", [(90, 50), (33, 71)])
def test_any_shape_stays_aligned(mode: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """White where the hole is: frames and masks of portrait and odd sizes still agree after reshaping and flips."""
    ids = np.zeros((12, *shape), np.uint8)
    for k in range(12):
        ids[k, shape[0] // 4 + k : shape[0] * 3 // 4, 4 + k : shape[1] // 2] = 3
    frames = np.repeat((ids > 0)[..., None], 3, 3).astype(np.uint8) * 255
    encode(place(tmp_path, "000000001.mp4", ids), frames, fps=8, crf="4", pix_fmt="yuv444p")
    row = f"000000001.mp4,0,12,8,3,{CAPTION}"
    clips = TrainingSet(
        options(tmp_path, [row], height=48, width=64, max_num_frames=5, video_reshape_mode=mode, random_flip=0.5)
    )
    shown = set()
    for epoch in range(6):
        sample = clips[SampleKey(epoch, 0, False)]
        assert not sample.replaced
        assert sample.frames.shape == (5, 48, 64, 3) and sample.masks.shape == (5, 48, 64)
        # A pixel of the mask is one of which any part is white: lighter than grey implies hole.
        light = sample.frames.mean(axis=3) > 127
        assert light[:, :, :].any() and not (light & ~sample.masks).any()
        assert (sample.masks & ~light).mean() < 0.12
        shown.add(sample.masks.tobytes())
    assert len(shown) > 1


def test_one_frame_is_a_clip_of_its_own(tmp_path: Path) -> None:
    encode(place(tmp_path, "000000001.mp4", numbered_ids(1)[:, ::-1]), numbered(1), fps=24)
    clips = TrainingSet(options(tmp_path, [f"000000001.mp4,0,,24,1,{CAPTION}"], max_num_frames=1, first_frame_gt=True))
    sample = clips[SampleKey(0, 0, False)]
    assert sample.frames.shape == (1, HEIGHT, WIDTH, 3) and sample.masks.any()
    assert not sample.replaced


def test_single_frames_and_first_frame_gt(clips: Path) -> None:
    known = TrainingSet(options(clips, GOOD, first_frame_gt=True))
    clip, single = known[SampleKey(0, 1, False)], known[SampleKey(0, 1, True)]
    assert not clip.masks[0].any() and clip.masks[1:].any(axis=(1, 2)).all()
    assert single.frames.shape == (1, HEIGHT, WIDTH, 3) and single.masks[0].any()
    background = TrainingSet(options(clips, GOOD, mask_background=True))[SampleKey(0, 1, False)]
    np.testing.assert_array_equal(background.masks[1:], ~clip.masks[1:])


def test_skipped_frames_are_not_shown(clips: Path) -> None:
    known = TrainingSet(options(clips, GOOD, skip_frames_start=14, skip_frames_end=20))
    for epoch in range(8):
        numbers = numbers_of(known[SampleKey(epoch, 0, False)])
        assert numbers[0] in (14, 15) and numbers[-1] < 40


def test_a_crop_shows_the_object_where_it_can(tmp_path: Path) -> None:
    """The object is there in the last three of 60 frames only."""
    ids = numbered_ids(60)
    ids[:57] = 0
    encode(place(tmp_path, "000000001.mp4", ids), numbered(60), fps=24)
    clips = TrainingSet(options(tmp_path, [f"000000001.mp4,0,60,24,1,{CAPTION}"]))
    for epoch in range(4):
        sample = clips[SampleKey(epoch, 0, False)]
        assert not sample.replaced and sample.masks.any()
        assert numbers_of(sample)[-1] >= 57


# -- what cannot be read


def test_what_cannot_be_read_is_replaced(clips: Path, tmp_path: Path) -> None:
    ids = numbered_ids(60)
    video = (clips / record_paths("000000000.mp4")[0]).read_bytes()
    cases = {
        "got none in": (None, ids, "0,60,24,1"),
        "cut off": (video[: len(video) // 2], ids, "0,60,24,1"),
        "one that can be read": (b"no video at all" * 9, ids, "0,60,24,1"),
        "expected 60, one for each frame": (video, ids[:59], "0,60,24,1"),
        "masks: expected 144x64 pixels, as the frames": (video, ids[:, :, :140], "0,60,24,1"),
        "mask_id: expected one of 1, 2, got 9": (video, ids, "0,60,24,9"),
        "mask 1: expected a hole in frames 0 to 40": (
            video,
            np.where(np.arange(60)[:, None, None] < 40, 2, ids),
            "0,40,24,1",
        ),
        "end_frame: expected at most 60, got 99": (video, ids, "0,99,24,1"),
        "frames: expected enough for 9": (video, ids, "0,60,11,1"),
    }
    rows = [*GOOD[:1]]
    for k, (data, masks, numbers) in enumerate(cases.values()):
        path = place(tmp_path, f"00000001{k}.mp4", masks.astype(np.uint8))
        if data is not None:
            path.write_bytes(data)
        rows.append(f"00000001{k}.mp4,{numbers},{CAPTION}")
    rows[-1] = rows[-1].replace("0,60,11", "36,60,11")  # the CSV's 11 fps would do, the file's 24 do not
    encode(place(tmp_path, "000000000.mp4", ids), numbered(60), fps=24)
    known = TrainingSet(options(tmp_path, rows))
    assert known.rows == list(range(10))
    for row, reason in enumerate(cases, start=1):
        sample = known[SampleKey(2, row, False)]
        assert (sample.replaced[0].row, sample.replaced[0].path) == (row, f"00000001{row - 1}.mp4")
        assert reason in sample.replaced[0].reason
        assert sample.clip_row == 0 and sample.key.row == row, "the only good one"
        again = TrainingSet(known.options, files=FileIndex(0))[SampleKey(2, row, False)]
        np.testing.assert_array_equal(again.frames, sample.frames)
        assert again.replaced == sample.replaced
    rows[0] = rows[1]
    with pytest.raises(
        InputError, match=r"expected one of 10 that can be read.*row 3: video: expected one that can be read"
    ):
        TrainingSet(options(tmp_path, rows))[SampleKey(0, 3, False)]


def test_the_list_of_unreadable_clips_survives_and_limits(tmp_path: Path) -> None:
    bad = [Unreadable(k, f"{k}.mp4", 'cut, "off"') for k in range(4)]
    log = UnreadableLog(tmp_path / "run" / "unreadable.csv", 0.1)
    log.add(bad[:1], 2)
    log.add(bad[:1], 2)
    resumed = UnreadableLog(tmp_path / "run" / "unreadable.csv", 0.1)
    resumed.add(bad[:2], 30)
    lines = (tmp_path / "run" / "unreadable.csv").read_text().splitlines()
    assert lines == ["row,path,reason", '0,0.mp4,"cut, ""off"""', '1,1.mp4,"cut, ""off"""']
    with pytest.raises(InputError, match=r"at most 10% that cannot be read, got 4 of 32"):
        resumed.add(bad[2:], 2)
    early = UnreadableLog(tmp_path / "early.csv", 0.0)
    early.add(bad[:1], 5)
    with pytest.raises(InputError, match="3 of 3"):
        UnreadableLog(tmp_path / "all.csv", 0.5).add(bad[:3], 3)


# -- rules, options, captions


def test_rows_are_dropped_by_rule_and_counted(tmp_path: Path) -> None:
    rows = [
        *GOOD[:1],
        f"a.mp4,0,60,24,1,{CAPTION[:50]}",
        f"b.mp4,0,60,24,1,{CAPTION[:51]}",
        f"../c.mp4,0,60,24,1,{CAPTION}",
        f"d.avi,0,60,24,1,{CAPTION}",
        f"e.mp4,x,60,24,1,{CAPTION}",
        f"f.mp4,0,60,0,1,{CAPTION}",
        f"g.mp4,0,60,24,1.5,{CAPTION}",
        f"h.mp4,36,60,24,1,{CAPTION}",
        f"i.mp4,35.0,60.0,24.0,1.0,{CAPTION}",
        f"j.mp4,0,,24000/1001,1,{CAPTION}",
        f"k.mp4,50,40,24,1,{CAPTION}",
    ]
    known = TrainingSet(options(tmp_path, rows))
    assert known.rows == [0, 2, 9, 10]
    assert known.dropped == {
        "caption of 50 characters or fewer": 1,
        "path is no name of an .mp4": 2,
        "numbers that cannot be read": 3,
        "too short for 9 frames at 8 fps": 2,
    }
    assert TrainingSet(options(tmp_path, rows, skip_frames_end=1)).rows == [0, 2, 10]
    with pytest.raises(InputError, match=r"got 1 x caption of 50 .*train.csv"):
        TrainingSet(options(tmp_path, rows[1:2]))
    with pytest.raises(InputError, match="no rows"):
        TrainingSet(options(tmp_path, []))
    # 30 may stand for 29.97: the slower one decides, the file tells.
    edge = [f"l.mp4,0,{181 - k},30,1,{CAPTION}" for k in range(2)]
    assert TrainingSet(options(tmp_path, edge, max_num_frames=49)).rows == [0]


def test_options_are_checked_before_anything_is_opened(tmp_path: Path) -> None:
    wrong = {
        "meta_file_path": "",
        "max_num_frames": 48,
        "video_reshape_mode": "stretch",
        "height": 0,
        "random_flip": 1.5,
        "fps": -1,
        "seed": -3,
        "p_brush": 2.0,
        "shape_scale_min": 3.0,
    }
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            TrainingSetOptions(**{"meta_file_path": "absent.csv", name: value})
    with pytest.raises(InputError, match=r"got no such file, in absent\.csv"):
        TrainingSet(TrainingSetOptions(meta_file_path="absent.csv"))
    (tmp_path / "short.csv").write_text("path,fps\na.mp4,24\n")
    with pytest.raises(InputError, match="got none called start_frame, end_frame, mask_id, caption"):
        TrainingSet(TrainingSetOptions(meta_file_path=str(tmp_path / "short.csv")))
    with pytest.raises(InputError, match="data folder: expected a folder, got none"):
        TrainingSet(options(tmp_path, GOOD, instance_data_root=str(tmp_path / "absent")))


def test_captions_are_drawn_per_key(clips: Path) -> None:
    known = TrainingSet(options(clips, GOOD, proportion_empty_prompts=0.4, id_token="<id>"))
    captions = [known.caption(SampleKey(epoch, 1, False)) for epoch in range(200)]
    assert set(captions) == {"", f"<id> {CAPTION}"}
    assert 0.3 < captions.count("") / 200 < 0.5
    key = SampleKey(captions.index(""), 1, False)
    assert known[key].caption == "" == pickle.loads(pickle.dumps(known)).caption(key)


# -- order


def test_every_row_once_per_epoch_over_any_processes() -> None:
    rows = [3 * k for k in range(24)]
    for processes, size in itertools.product((1, 2, 3), (1, 2)):
        orders = [SampleOrder(rows, size, processes, index, seed=5) for index in range(processes)]
        count = orders[0].batches_per_epoch
        batches = [list(itertools.islice(order.batches(), 2 * count)) for order in orders]
        epochs = [
            [key for one in batches for batch in one[part : part + count] for key in batch] for part in (0, count)
        ]
        for epoch, keys in enumerate(epochs):
            assert sorted(key.row for key in keys) == rows
            assert {key.epoch for key in keys} == {epoch}
        assert [key.row for key in epochs[0]] != [key.row for key in epochs[1]]


def test_global_batches_do_not_depend_on_the_processes() -> None:
    whole = SampleOrder(range(10), 6, 1, 0, seed=1, mix_train_ratio=0.5)
    parts = [SampleOrder(range(10), 2, 3, index, seed=1, mix_train_ratio=0.5) for index in range(3)]
    for batch, *some in itertools.islice(zip(whole.batches(), *(part.batches() for part in parts)), 20):
        assert batch == [key for part in some for key in part]
    assert whole.batches_per_epoch == parts[0].batches_per_epoch == 2
    first = list(itertools.islice(whole.batches(), 2))
    assert [key.row for key in first[1][4:]] == [key.row for key in first[0][:2]], "filled from the epoch's start"


def test_resuming_is_skipping() -> None:
    order = SampleOrder(range(7), 2, 2, 1, seed=3, mix_train_ratio=0.3)
    batches = list(itertools.islice(order.batches(), 40))
    for start in (0, 1, 2, 5, 17):
        assert list(itertools.islice(order.batches(start), 20)) == batches[start : start + 20]
    singles = [batch[0].single for batch in batches]
    assert all(key.single == single for batch, single in zip(batches, singles) for key in batch)
    assert 2 < sum(singles) < 25
    assert next(SampleOrder(range(7), 2, 2, 1, seed=4).batches()) != batches[0]
    with pytest.raises(InputError, match="clips: expected at least one"):
        SampleOrder([], 1, 1, 0, seed=0)


@pytest.fixture(scope="module")
def drawn(clips: Path) -> TrainingSet:
    """A set in which everything is drawn."""
    changes = {"mask_transform_prob": 1.0, "random_flip": 0.5, "video_reshape_mode": "random"}
    return TrainingSet(options(clips, GOOD, height=32, width=48, **changes))


def check_samples(samples: Iterable[TrainingSample], known: TrainingSet, keys: list[SampleKey]) -> None:
    """That the samples are those that this process makes of the keys."""
    for sample, key in zip(samples, keys, strict=True):
        expected = known[key]
        assert (sample.key, sample.caption) == (key, expected.caption)
        np.testing.assert_array_equal(sample.frames, expected.frames)
        np.testing.assert_array_equal(sample.masks, expected.masks)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers: int, drawn: TrainingSet) -> None:
    order = SampleOrder(drawn.rows, 1, 1, 0, seed=0, mix_train_ratio=0.3)
    batches = list(itertools.islice(order.batches(), 6))
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((2000, 2000, 3), np.float32), (3000, 3000))  # OpenCV starts its threads
    loader = torch.utils.data.DataLoader(
        drawn,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=begin_worker,
        timeout=60 if workers else 0,
    )
    check_samples((sample for batch in loader for sample in batch), drawn, [key for batch in batches for key in batch])


def test_new_processes_change_nothing(drawn: TrainingSet) -> None:
    """Started, not forked, as workers are where there is no fork."""
    keys = [SampleKey(1, row, row == 2) for row in drawn.rows]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        check_samples(pool.map(drawn.__getitem__, keys), drawn, keys)
