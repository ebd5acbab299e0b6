"""Dense flow: on a picture that was moved by a known amount."""

import cv2
import numpy as np
import pytest

from videopainter.vision.flow import DenseFlow, camera_flow, pixel_grid, round_trip_error, warp


def _texture(height=96, width=128):
    noise = np.random.default_rng(0).uniform(0, 255, (height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _moved(picture, dx, dy):
    return cv2.warpAffine(
        picture, np.float32([[1, 0, dx], [0, 1, dy]]), picture.shape[::-1], borderMode=cv2.BORDER_REFLECT
    )


INNER = (slice(12, -12), slice(12, -12))


@pytest.mark.parametrize("preset", ["fast", "medium"])
def test_a_shift_is_found_and_undone(preset):
    first = _texture()
    second = _moved(first, 5, -3)
    flow = DenseFlow(preset)
    there, back = flow(first, second), flow(second, first)
    assert np.abs(there[INNER] - np.float32([5, -3])).mean() < 0.3
    assert np.abs(warp(second, there).astype(int) - first)[INNER].mean() < 3
    assert round_trip_error(there, back)[INNER].mean() < 0.3
    assert round_trip_error(there, -back)[INNER].mean() > 5


def test_the_camera_is_what_the_background_does():
    flow = np.tile(np.float32([2, 1]), (96, 128, 1))
    moving = np.zeros((96, 128), bool)
    moving[20:80, 20:90] = True
    flow[moving] = (9, 9)  # more than a third of the picture
    camera = camera_flow(flow, exclude=moving)
    assert np.abs(camera - np.float32([2, 1])).max() < 0.01
    assert np.abs(camera_flow(np.tile(np.float32([np.nan, 0]), (96, 128, 1)))).max() == 0


def test_the_grid_cannot_be_spoilt():
    assert pixel_grid(4, 6)[3, 5].tolist() == [5, 3]
    with pytest.raises(ValueError, match="read-only"):
        pixel_grid(4, 6)[0, 0] = 7
