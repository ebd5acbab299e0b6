"""What moves by itself does so at any frame rate."""

import cv2
import numpy as np

from videopainter.data.clip import ArrayFrames
from videopainter.preparation.objects.moving import moving_shares, moving_things


def test_the_same_motion_is_the_same_at_four_times_the_frames():
    """A ball that needs a second to leave its place: at 32 frames a second none of the nearer ones lacks it."""
    wide = np.random.default_rng(5).integers(20, 140, (20, 40, 3), dtype=np.uint8)
    wide = cv2.resize(wide, (250, 120), interpolation=cv2.INTER_CUBIC)
    slow = np.stack([wide[10:106, 10 + k : 154 + k].copy() for k in range(30)])
    for k, frame in enumerate(slow):
        cv2.circle(frame, (30 + 3 * k, 50), 13, (255, 230, 60), -1, cv2.LINE_AA)
    (expected,) = moving_things(ArrayFrames(slow, 8), [14])
    quick = ArrayFrames(slow.repeat(4, axis=0), 32)
    (found,) = moving_things(quick, [58])
    assert found.frame == 58 and np.array_equal(found.mask, expected.mask)
    assert moving_shares(quick, [58, 61], lambda _: expected.mask[None])[0] > 0.8
