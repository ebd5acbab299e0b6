"""Masks that are hardly meant get one line of warning, and the run goes on."""

import numpy as np
import pytest
from bad_input.harness import Case, call_here
from bad_input.wrong_files import FRAMES, HEIGHT, WIDTH, box, write_video
from PIL import Image

from videopainter.data.masks.looks import mask_notes
from videopainter.data.masks.opening import open_masks
from videopainter.data.masks.views import DilatedMasks, InvertedMasks
from videopainter.data.video.reader import open_video


def soft() -> np.ndarray:
    """A box whose outline is a wide ramp."""
    across = np.clip(np.abs(np.arange(WIDTH) - WIDTH / 2) * -20 + 300, 0, 255)
    return np.broadcast_to(across, (HEIGHT, WIDTH)).astype(np.uint8)


def white(count: int) -> np.ndarray:
    return np.full((count, HEIGHT, WIDTH, 3), 255, np.uint8)


def photograph(count: int) -> np.ndarray:
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    grey = 128 + 60 * np.sin(down / 9) + 60 * np.cos(across / 7)
    return np.repeat(grey.astype(np.uint8)[None, ..., None], 3, axis=3).repeat(count, axis=0)


@pytest.mark.parametrize(
    ("name", "pixels", "told"),
    [
        ("box.mp4", box(FRAMES), []),
        ("white.mp4", white(FRAMES), ["covers 100%"]),
        ("photo.mp4", photograph(FRAMES), ["like a photograph"]),
        ("soft.png", soft(), ["not black and white"]),
        ("box.png", box(1)[0], []),
    ],
)
def test_notes(name, pixels, told, files, tmp_path):
    path = tmp_path / name
    Image.fromarray(pixels).save(path) if path.suffix == ".png" else write_video(path, pixels)
    masks = open_masks(path, frames=open_video(files / "video.mp4"))
    for view in (masks, DilatedMasks(masks, 3)):
        notes = mask_notes(view)
        assert len(notes) == len(told)
        assert all(words in note for note, words in zip(notes, told))


def test_ids_and_painted_backgrounds_are_as_they_are(files):
    frames = open_video(files / "video.mp4")
    masks = open_masks(files / "ids.npz", frames=frames, mask_id=3)
    assert mask_notes(masks) == []
    assert mask_notes(InvertedMasks(masks)) == []


def test_the_command_says_it_once_and_goes_on(files, tmp_path):
    write_video(tmp_path / "white.mp4", white(FRAMES))
    words = f"--video {{f}}/video.mp4 --mask {tmp_path}/white.mp4 --output_path result.mp4 --num_videos_per_prompt 2"
    told = call_here(Case("infer/inpaint.py", f"{words} --output_path out/", ""), files, tmp_path).stderr
    assert told.splitlines()[0] == "video: the mask covers 100% of the frames: white is what is painted"
    assert told.count("covers 100%") == 1
    assert "was built before" in told  # and then models were loaded, which this harness refuses
