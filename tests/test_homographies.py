"""The camera's motion between two frames, against motions that are known."""

import cv2
import numpy as np
import pytest

from videopainter.vision.homographies import apply, camera_step, scaled

HEIGHT, WIDTH = 120, 180


def texture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Blobs of several sizes, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    total = sum(
        cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), s) * s for s in (1.5, 3.0, 6.0)
    )
    return np.clip(128 + 60 * total, 0, 255).astype(np.uint8)


MOTIONS = {
    "shift": np.array([[1, 0, 5.3], [0, 1, -2.7], [0, 0, 1]]),
    "zoom": np.array([[1.04, 0.01, -3], [-0.01, 1.04, -2], [0, 0, 1]]),
    "tilt": np.array([[1.01, 0.02, 2], [0, 1.02, -3], [1e-4, -5e-5, 1]]),
}


@pytest.mark.parametrize("kind", list(MOTIONS))
def test_a_known_motion_is_found_although_an_object_moves_otherwise(kind):
    motion, image = MOTIONS[kind], texture()
    other = cv2.warpPerspective(image, motion, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    mover = texture(1, 40, 60)
    image[40:80, 60:120] = mover
    other[50:90, 50:110] = mover
    nothing = np.zeros_like(image)
    found = camera_step(image, other, nothing, nothing)
    corners = np.float32([[10, 10], [170, 10], [170, 110], [10, 110]])
    assert found is not None
    np.testing.assert_allclose(apply(found, corners), apply(motion, corners), atol=0.35)


def test_blocked_pixels_have_no_say():
    image = texture()
    other = np.roll(image, 4, axis=1)
    blocked = np.zeros_like(image)
    blocked[10:110, 30:170] = 1
    image[blocked > 0] = texture(2)[blocked > 0]  # most of the frame moves otherwise, and is blocked
    other[blocked > 0] = texture(2)[blocked > 0]
    found = camera_step(image, other, blocked, blocked)
    assert found is not None
    np.testing.assert_allclose(found, [[1, 0, 4], [0, 1, 0], [0, 0, 1]], atol=0.6)  # blocked, it would be 0


def test_another_shot_has_no_motion():
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert camera_step(texture(), texture(7), nothing, nothing) is None
    assert camera_step(nothing, nothing + 200, nothing, nothing) is None


def test_plain_frames_that_are_alike_stand_still():
    plain = np.full((HEIGHT, WIDTH), 90, np.uint8)
    found = camera_step(plain, plain + 1, np.zeros_like(plain), np.zeros_like(plain))
    np.testing.assert_array_equal(found, np.eye(3))


def test_a_scaled_motion_moves_the_same_places():
    places = np.float32([[3, 4], [50, 20]])
    larger = (places + 0.5) * 4 - 0.5
    moved = (apply(MOTIONS["tilt"], places) + 0.5) * 4 - 0.5
    np.testing.assert_allclose(apply(scaled(MOTIONS["tilt"], 4), larger), moved, rtol=1e-4)
