"""The limits themselves, where a door's answer would come from somewhere else, too."""

import os

import pytest
from bad_input.harness import limited
from bad_input.wrong_files import empty_png
from PIL import Image

from videopainter.data.images import image_size, load_image
from videopainter.data.rates import parse_fps
from videopainter.data.tables import read_table
from videopainter.errors import InputError
from videopainter.flags import MAX_PIXELS, MAX_SIDE, check_size


@pytest.mark.parametrize(("width", "height"), [(MAX_SIDE + 1, 2), (9000, 9000), (10**6, 10**6)])
@pytest.mark.parametrize("read", [image_size, load_image])
def test_pictures_are_refused_by_their_header(read, width, height, tmp_path):
    empty_png(tmp_path / "x.png", width, height)
    with limited(), pytest.raises(InputError, match=r"image: expected .*got .*x\.png"):
        read(tmp_path / "x.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with limited(), pytest.raises(InputError, match=r"got something else, in .*pipe\.csv"):
        read_table(tmp_path / "pipe.csv")


def test_sizes():
    check_size("size", 8192, MAX_PIXELS // 8192)
    for height, width in ((0, 5), (5, -1), (MAX_SIDE + 1, 1), (8192, MAX_PIXELS // 8192 + 1)):
        with pytest.raises(InputError, match="size: expected sides of 1 to"):
            check_size("size", height, width)


def test_a_rate_is_not_computed_to_its_last_digit():
    with limited(), pytest.raises(InputError, match="fps: expected frames per second"):
        parse_fps("1e999999999", "fps")


def test_a_picture_of_few_pixels_is_still_too_wide(tmp_path):
    """Longer than any side may be, though small; Pillow does not mind."""
    file = tmp_path / "wide.png"
    Image.new("L", (MAX_SIDE + 1, 2)).save(file)
    with pytest.raises(InputError, match=r"wide\.png"):
        load_image(file)
