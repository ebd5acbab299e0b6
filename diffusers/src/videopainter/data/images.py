"""Images on disk: single ones, and folders of them in the order of their names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from videopainter.errors import InputError, one_line
from videopainter.files import replacing
from videopainter.flags import MAX_PIXELS, check_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(file: Path | str) -> np.ndarray:
    """An image as displayed, uint8 RGB (H, W, 3); InputError where it cannot be read."""
    return np.array(load_image(file).convert("RGB"))


def write_image(file: Path | str, pixels: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) or (H, W) in the format of the suffix; the file appears whole or not at all."""
    with replacing(file) as partial:
        Image.fromarray(pixels).save(partial)


def list_images(path: Path) -> list[Path]:
    """The images of a folder, by name with numbers in their order (2 before 10); or the image itself."""
    if path.is_file():
        return [path]
    files = [f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise InputError(f"folder: expected frames ({', '.join(IMAGE_SUFFIXES[:3])}, ...), got none, in {path}")
    return sorted(files, key=lambda f: [(int(p), "") if p.isdigit() else (-1, p) for p in _split_name(f.name)])


def _split_name(name: str) -> list[str]:
    return [part for part in re.split(r"([0-9]+)", name) if part]


def image_size(file: Path) -> tuple[int, int]:
    """(width, height) as displayed, from the header alone."""
    try:
        with _opened(file) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            width, height = image.size
            return (height, width) if turned else (width, height)
    except (OSError, ValueError) as error:
        raise InputError(f"image: expected one that can be read, got {one_line(error)}, in {file}") from None


def load_image(file: Path | str) -> Image.Image:
    """An image as displayed (EXIF rotation applied), in its own mode; InputError where it cannot be read."""
    try:
        with _opened(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise InputError(f"image: expected a file, got none at {file}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"image: expected one that can be read, got {one_line(error)}, in {file}") from None


def is_whole_image(file: Path | str) -> bool:
    """Whether there is an image whose content is what was written, by its check sums; nothing is decoded."""
    try:
        with _opened(file) as image:
            image.verify()
    except (InputError, OSError, ValueError, SyntaxError):
        return False
    return True


@contextmanager
def _opened(file: Path | str) -> Iterator[Image.Image]:
    """Of an image nothing is decoded yet; InputError where its header names a size that cannot have been meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(file)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            pixels = re.search(r"\d+ pixels", str(error))
            got = pixels[0] if pixels else "more"
            raise InputError(f"image: expected at most {MAX_PIXELS} pixels, got {got}, in {file}") from None
    with image:
        check_size("image", image.height, image.width, file)
        yield image
