"""Where a crop around a small hole lies: never without the hole, no larger than it must be, and still where it can."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from videopainter.data.clip import ArrayMasks
from videopainter.data.crops import CropPath, crop_path, hole_boxes, steadiest
from videopainter.models.backbones.grid import FINEST

TRAINED, AREA = (480, 720), 480 * 720
UHD, FULL_HD, PORTRAIT = (2160, 3840), (1080, 1920), (1920, 1080)


def works_at(height: int, width: int) -> tuple[int, int]:
    return FINEST.working_size(height, width, AREA)


def path_of(boxes, frame=UHD, working_size=works_at, trained=TRAINED) -> CropPath:
    return crop_path(np.array(boxes), frame, working_size, trained, FINEST.multiple)


def walking(frames: int, size=(200, 100), start=(900, 300), step=(0, 60)) -> list[tuple[int, int, int, int]]:
    tops, lefts = (start[axis] + step[axis] * np.arange(frames) for axis in (0, 1))
    return [(t, t + size[0], x, x + size[1]) for t, x in zip(tops, lefts)]


def shrinks(crop: CropPath) -> float:
    return math.sqrt(crop.height * crop.width / math.prod(works_at(crop.height, crop.width)))


def test_holes_are_found_in_every_frame():
    masks = np.zeros((19, 40, 60), bool)
    masks[3, 5:9, 20:21] = masks[17, 0, 59] = masks[17, 39, 0] = True
    boxes = hole_boxes(ArrayMasks(masks))
    expected = np.zeros((19, 4), int)
    expected[3], expected[17] = (5, 9, 20, 21), (0, 40, 0, 60)
    assert np.array_equal(boxes, expected)


def test_a_small_still_hole_gets_the_trained_size_around_it():
    crop = path_of([(1000, 1100, 2000, 2150)] * 5)
    assert (crop.height, crop.width) == TRAINED
    assert not crop.moves
    assert crop.box(4) == (810, 1290, 1715, 2435)  # the hole in its middle


def test_a_hole_in_a_corner_gets_a_crop_in_that_corner():
    crop = path_of([(2100, 2160, 0, 50)] * 3)
    assert crop.box(0) == (1680, 2160, 0, 720)


def test_a_crop_follows_a_hole_that_crosses_the_picture():
    boxes = walking(50)
    crop = path_of(boxes)
    assert (crop.height, crop.width) == TRAINED
    assert crop.moves
    assert np.ptp(crop.tops) == 0
    for frame, (top, bottom, left, right) in enumerate(boxes):
        box = crop.box(frame)
        assert box.top + 50 <= top and bottom + 50 <= box.bottom
        assert box.left + 50 <= left and right + 50 <= box.right
    steps = np.diff(crop.lefts)
    assert steps.min() >= 0
    assert steps.max() <= 61


def test_a_crop_stays_where_all_holes_can_be_seen_from_one_place():
    assert not path_of(walking(9, step=(5, 20))).moves


def test_a_trembling_mask_does_not_move_a_crop_that_follows():
    boxes = walking(60)
    trembling = [(t + k % 3, b + k % 3, x, y) for k, (t, b, x, y) in enumerate(boxes)]
    assert np.ptp(path_of(trembling).tops) == 0


@pytest.mark.parametrize(
    ("boxes", "frame"),
    [
        ([(0, 0, 0, 0)] * 4, UHD),  # no hole
        ([(0, 2160, 0, 3840)] * 4, UHD),
        ([(300, 1900, 500, 3300)] * 4, UHD),  # a large one
        ([(100, 150, 100, 150)] * 4, (448, 784)),  # a video that the model takes as it is
        ([(100, 150, 100, 150)] * 4, (240, 432)),  # one that it enlarges
    ],
)
def test_where_no_crop_is_worth_it_all_of_the_video_is_taken(boxes, frame):
    crop = path_of(boxes, frame)
    assert crop.covers(*frame)
    assert not crop.moves


def test_a_larger_hole_gets_a_crop_of_its_own_shape():
    """A standing person: a crop as wide as the trained one would show the hole smaller."""
    crop = path_of([(400, 1600, 1500, 1900)] * 3)
    assert crop.height >= 1200 and crop.width >= 400
    assert crop.height > crop.width
    assert shrinks(crop) < 0.7 * shrinks(CropPath.whole(*UHD, 1))


def test_a_size_that_is_set_is_the_crops_shape():
    crop = path_of([(500, 1300, 1000, 1300)] * 3, working_size=lambda *_: (256, 512), trained=(256, 512))
    assert crop.width == 2 * crop.height


@pytest.mark.parametrize("frame", [UHD, FULL_HD, PORTRAIT, (720, 1280), (1080, 1080), (300, 4000)])
def test_every_crop_holds_its_hole_and_never_enlarges(frame):
    rng = np.random.default_rng(0)
    for _ in range(150):
        count = int(rng.integers(1, 30))
        sizes = np.ceil(rng.uniform(0.01, rng.uniform(0.02, 1), (count, 2)) * frame).astype(int)
        starts = (rng.random((count, 2)) * (np.array(frame) - sizes + 1)).astype(int)
        stops = starts + sizes
        boxes = np.stack([starts[:, 0], stops[:, 0], starts[:, 1], stops[:, 1]], axis=1)
        boxes[rng.random(count) < 0.2] = 0
        crop = path_of(boxes, frame)
        whole = CropPath.whole(*frame, count)
        if crop.covers(*frame):
            assert not crop.moves
            continue
        works = works_at(crop.height, crop.width)
        assert crop.height >= works[0] and crop.width >= works[1]
        assert 1.25 * shrinks(crop) <= shrinks(whole)
        assert (crop.tops >= 0).all() and (crop.tops + crop.height <= frame[0]).all()
        assert (crop.lefts >= 0).all() and (crop.lefts + crop.width <= frame[1]).all()
        for frame_index, (top, bottom, left, right) in enumerate(boxes):
            if bottom > 0:
                box = crop.box(frame_index)
                assert box.top <= top and bottom <= box.bottom and box.left <= left and right <= box.right


def test_cut_and_put_are_inverse():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (6, 40, 60, 3), np.uint8)
    crop = CropPath(16, 24, np.arange(8), 3 * np.arange(8))
    parts = crop.cut(frames, 2)
    assert parts.shape == (6, 16, 24, 3)
    assert np.array_equal(parts[3], frames[3, 5:21, 15:39])
    again = frames.copy()
    crop.put(again, parts, 2)
    assert np.array_equal(again, frames)
    crop.put(again, 255 - parts, 2)
    assert np.array_equal(crop.cut(again, 2), 255 - parts)
    assert (again != frames).any(axis=-1).sum() <= 6 * 16 * 24
    back = CropPath.from_json(crop.to_json())
    assert (back.box(7), back.height, back.width) == (crop.box(7), 16, 24)


def test_the_steadiest_path_has_the_least_movement():
    """Against all paths on a small grid; ends are loose, so that doing nothing is best where it can be."""
    rng = np.random.default_rng(2)
    moved = 0
    for _ in range(60):
        lows = rng.integers(0, 5, 6)
        highs = lows + rng.integers(0, 3, 6)
        path = steadiest(lows, highs)
        assert (lows <= path).all() and (path <= highs).all()
        every = itertools.product(*(range(low, high + 1) for low, high in zip(lows, highs)))
        least = min(int(np.abs(np.diff(one)).sum()) for one in every)
        assert np.abs(np.diff(path)).sum() == least
        moved += least > 0
    assert moved > 30


def test_the_steadiest_path_goes_on_evenly():
    lows = np.concatenate([np.zeros(10, int), np.full(200, -10_000), np.full(10, 1000)])
    highs = np.concatenate([np.zeros(10, int), np.full(200, 10_000), np.full(10, 1000)])
    path = steadiest(lows, highs)
    assert (path[:10] == 0).all() and (path[-10:] == 1000).all()
    assert set(np.diff(path[9:211])) <= {4, 5}
