"""Copied background against what is known to be behind the hole."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.reshape import Box
from videopainter.data.synthetic.scenes import render_clip
from videopainter.propagation.alignment import carried_places
from videopainter.propagation.candidates import fitted_gain
from videopainter.propagation.footage import Footage
from videopainter.propagation.own_motion import OtherView, own_motion
from videopainter.propagation.propagator import Filled, fill_frame
from videopainter.propagation.settings import PropagationSettings
from videopainter.propagation.sources import candidates_near

SETTINGS = PropagationSettings(reach=16)
HEIGHT, WIDTH, LENGTH = 96, 144, 13
HOLE = (slice(30, 66), slice(50, 80))


def wall(seed: int = 0) -> np.ndarray:
    """A textured wall, larger than the frames: uint8 (200, 300, 3)."""
    rng = np.random.default_rng(seed)
    blobs = [
        cv2.GaussianBlur(rng.normal(size=(200, 300, 3)).astype(np.float32), (0, 0), s) * s for s in (2.0, 4.0, 8.0)
    ]
    return np.clip(120 + 45 * sum(blobs), 10, 240).astype(np.uint8)


def panning(speed: float, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    """The camera moves to the right by `speed` pixels a frame."""
    picture = wall(seed)
    frames = []
    for t in range(length):
        move = np.array([[1, 0, 40 + speed * t], [0, 1, 40]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(picture, move, (WIDTH, HEIGHT), flags=flags))
    return np.stack(frames)


def holes(length: int = LENGTH) -> np.ndarray:
    masks = np.zeros((length, HEIGHT, WIDTH), bool)
    masks[:, *HOLE] = True
    return masks


def footage(frames: np.ndarray, masks: np.ndarray, settings: PropagationSettings = SETTINGS) -> Footage:
    """What is under the hole is noise: whoever looked at it would be found out."""
    noise = np.random.default_rng(9).integers(0, 256, frames.shape[1:], dtype=np.uint8)
    hidden = np.where(masks[..., None], noise, frames)
    return Footage(ArrayFrames(hidden), ArrayMasks(masks), settings)


def filled(frames: np.ndarray, masks: np.ndarray, t: int, settings: PropagationSettings = SETTINGS) -> Filled:
    seen = footage(frames, masks, settings)
    with ThreadPoolExecutor(2) as pool:
        seen.move_to(t, t + 1, pool)
    return fill_frame(seen, t)


def error(result: Filled, truth: np.ndarray) -> float:
    """Root mean square over what was copied."""
    return float(np.sqrt(((result.frame.astype(float) - truth)[result.known] ** 2).mean()))


@pytest.mark.parametrize("speed", [4.0, 5.3, -6.5])
def test_a_moving_camera_shows_what_is_behind_the_hole(speed):
    frames, masks = panning(speed), holes()
    result = filled(frames, masks, 6)
    assert result.known[masks[6]].mean() > 0.95
    assert error(result, frames[6]) < 3.0
    np.testing.assert_array_equal(result.frame[~masks[6]], frames[6][~masks[6]])
    assert not result.known[~masks[6]].any()
    assert (result.error[~result.known] == 0).all() and (result.error[result.known] > 0).all()


def test_each_frame_keeps_its_own_light():
    frames, masks = panning(5.0), holes()
    gains = 0.7 + 0.05 * np.arange(LENGTH)  # exposure goes up
    ramp = np.linspace(-12, 12, WIDTH)[None, None, :, None] * np.linspace(-1, 1, LENGTH)[:, None, None, None]
    lit = np.clip(frames * gains[:, None, None, None] + ramp, 0, 255).astype(np.uint8)
    result = filled(lit, masks, 6)
    assert result.known[masks[6]].mean() > 0.9
    assert error(result, lit[6]) < 4.0


def test_what_no_frame_shows_stays_a_hole():
    still = np.repeat(panning(0.0, 1), LENGTH, axis=0)
    assert not filled(still, holes(), 6).known.any()


def test_nothing_comes_over_a_cut():
    first, second = panning(5.0, 8), panning(5.0, 8, seed=5)
    masks = holes(16)
    masks[:8] = False
    masks[9:] = masks[8]
    still = np.repeat(second[:1], 8, axis=0)
    assert not filled(np.concatenate([first, still]), masks, 8).known.any()


def test_a_background_that_moves_by_itself_is_not_believed():
    frames = panning(0.0)
    noise = np.random.default_rng(3).integers(0, 256, (LENGTH, HEIGHT, WIDTH, 3)).astype(np.float32)
    water = np.stack([cv2.GaussianBlur(x, (0, 0), 3) for x in noise])
    water = np.clip((water - water.mean()) * 5 + 120, 0, 255).astype(np.uint8)
    frames = np.where(np.arange(HEIGHT)[None, :, None, None] > 20, water, frames)
    masks = np.zeros((LENGTH, HEIGHT, WIDTH), bool)
    for t in range(LENGTH):
        masks[t, 40:70, 10 + 8 * t : 40 + 8 * t] = True
    assert filled(frames, masks, 6).known[masks[6]].mean() < 0.1


def test_a_frame_depends_on_its_neighbourhood_alone():
    frames, masks = panning(1.5, 72), holes(72)
    settings = replace(SETTINGS, reach=8, carry_below=1.1)
    moving = footage(frames, masks, settings)
    with ThreadPoolExecutor(2) as pool:
        for t in range(28, 37, 4):
            moving.move_to(t, t + 4, pool)
            fill_frame(moving, t + 1)
        moving.move_to(36, 37, pool)
    once, alone = fill_frame(moving, 36), filled(frames, masks, 36, settings)
    # The reach, and as far again as what moves by itself is looked for; fixed places are multiples of 4.
    part = filled(frames[12:61], masks[12:61], 24, settings)
    np.testing.assert_array_equal(once.frame, alone.frame)
    np.testing.assert_array_equal(once.known, part.known)
    np.testing.assert_array_equal(once.frame, part.frame)


def test_motion_carried_along_ends_where_the_camera_goes():
    seen = footage(panning(4.0), holes())
    with ThreadPoolExecutor(2) as pool:
        seen.move_to(6, 7, pool)
    box = Box(20, 80, 30, 100)
    grid = np.stack(np.meshgrid(np.arange(30, 100), np.arange(20, 80)), axis=-1)
    for s, places in carried_places(seen, 6, box, [2, 9]):
        inner = (slice(4, -4), slice(20, -4))  # the left edge is out of sight in frame 9
        np.testing.assert_allclose(
            (places - grid)[inner], np.broadcast_to([4.0 * (6 - s), 0], (60, 70, 2))[inner], atol=0.8
        )


def test_an_object_that_moves_is_removed():
    options = {"num_frames": 24, "height": 120, "width": 180, "rich": True}
    seen, empty = render_clip(11, **options), render_clip(11, **options, without=1)
    masks = seen.footprint(1)
    t = int(masks.any(axis=(1, 2)).nonzero()[0][0]) + 10
    result = filled(seen.frames, masks, t, PropagationSettings(reach=24))
    assert masks[t].any()
    assert result.known[masks[t]].mean() > 0.3
    assert error(result, empty.frames[t]) < 6.0


def test_the_buffer_is_capped_in_bytes():
    frames, masks = panning(3.0, 30), holes(30)
    small = footage(frames, masks, replace(SETTINGS, buffer_bytes=30 * HEIGHT * WIDTH * 4))
    assert 1 <= small.reach < 8
    with ThreadPoolExecutor(1) as pool:
        for t in range(0, 30, 5):
            small.move_to(t, t + 5, pool)
            assert len(small._views) <= 2 * (small.reach + small._beyond) + 5 <= 30


@pytest.mark.parametrize("t", [10, 14])
def test_what_crosses_the_hole_is_not_taken_for_background(t):
    """A plain box passes in front of the hole: near frames show it there, and not what is behind."""
    frames, masks = panning(3.0, 40), holes(40)
    for k in range(40):
        box = slice(36, 60), slice(20 + 2 * k, 40 + 2 * k)
        frames[k, *box] = (200, 30, 30)
        masks[k, *box] = False
    result = filled(frames, masks, t, replace(SETTINGS, doubt=0.2))
    red = (result.frame[..., 0].astype(int) - result.frame[..., 1] > 100) & result.known
    assert red[masks[t]].mean() < 0.01
    assert result.known[masks[t]].mean() > 0.4


def test_a_mover_is_told_from_what_it_uncovers():
    still = cv2.cvtColor(wall()[:96, :144], cv2.COLOR_RGB2GRAY)
    free, frames = np.zeros_like(still), []
    for left in (20, 40, 60):
        frame = still.copy()
        frame[40:60, left : left + 20] = 255
        frames.append(frame)
    before, now, after = frames
    others = [OtherView(grey=x, blocked=free, motion=np.eye(3)) for x in (before, after)]
    found = own_motion(now, [others])
    assert (found[42:58, 42:58] == 255).mean() > 0.9 and (found[42:58, 22:38] == 0).all()
    assert (found[42:58, 62:78] == 0).all() and (found[:36] == 0).all()
    hidden = [replace(x, blocked=free + 1) for x in others]
    assert 0 < own_motion(now, [hidden]).max() == own_motion(now, [hidden]).min() < 128


def test_sources_have_fixed_places():
    near = candidates_near(40, 40)
    assert near == sorted(set(near)) and 40 not in near
    assert {38, 39, 41, 42} <= set(near)
    far = {s for s in near if abs(s - 40) > 32}
    assert far and all(s % 8 == 0 for s in far)
    assert far & set(candidates_near(41, 40)) == {s for s in far if 1 <= s <= 81 and abs(s - 41) > 8}


def test_a_gain_is_found_in_spite_of_outliers():
    rng = np.random.default_rng(2)
    source = rng.uniform(20, 180, (500, 3)).astype(np.float32)
    target = source * np.float32([1.2, 1.0, 0.8]) + 4
    target[:60] = rng.uniform(0, 255, (60, 3))
    np.testing.assert_allclose(fitted_gain(source, target), [1.2, 1.0, 0.8], atol=0.02)
