"""Writing a result as pictures: a GIF, or one image per frame. `open_writer` picks by the name of the result."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import imageio.v3 as iio
import numpy as np

from videopainter.data.images import IMAGE_SUFFIXES
from videopainter.data.video.sound import FORMATS
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.files import publish, publish_folder, temporary, write_errors

GIF = ".gif"
# imageio hands all frames to Pillow at the end: more than this would not be a GIF that anybody opens.
GIF_LIMIT = 512 * 2**20
_GIF_TICK = Fraction(1, 100)  # a GIF counts time in hundredths of a second


def open_writer(path: Path, *, image_name: str | None = None, **how: Any) -> VideoWriter | PicturesWriter:
    """The writer of a result: GIF by its suffix, a folder of images with `image_name` (``%05d.png``), else a video.

    `how` goes to `VideoWriter`; pictures need no more than its `fps`.
    """
    if image_name is not None:
        return FolderWriter(path, image_name)
    if path.suffix.lower() == GIF:
        return GifWriter(path, fps=how["fps"])
    return VideoWriter(path, **how)


def holds_sound(path: Path) -> bool:
    """Whether a result of that name can have sound."""
    return path.suffix.lower() in FORMATS


def check_gif(path: Path, frames: int, height: int, width: int) -> None:
    """InputError where a GIF would be too large to be put together in memory."""
    size = frames * height * width * 3
    if path.suffix.lower() == GIF and size > GIF_LIMIT:
        raise InputError(
            f"--output_path: expected at most {GIF_LIMIT >> 20} MiB of frames for a GIF, got {size >> 20} MiB "
            f"({frames} frames of {width}x{height}); write .mp4, or make it smaller with --resize_to: {path}"
        )


class PicturesWriter:
    """What writers of pictures share with `VideoWriter`: chunks in order, all or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = temporary(path)

    def __enter__(self) -> PicturesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()

    def write(self, frames: np.ndarray) -> None:
        """Appends frames, uint8 RGB (t, H, W, 3)."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives what was written its name."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drops what has no name yet."""
        raise NotImplementedError


class GifWriter(PicturesWriter):
    """A GIF that repeats for ever, 256 colours a frame, its rate rounded to hundredths of a second.

    Holds all frames until the end (imageio does): see `check_gif`.
    """

    def __init__(self, path: Path, *, fps: Fraction | int) -> None:
        super().__init__(path)
        self._ticks = 1 / Fraction(fps) / _GIF_TICK
        self._frames: list[np.ndarray] = []

    def write(self, frames: np.ndarray) -> None:
        self._frames += list(frames.copy())

    def close(self) -> None:
        # Rounded at the end of each frame, not one by one: the whole keeps its length.
        ends = [round(self._ticks * (index + 1)) for index in range(len(self._frames))]
        lengths = np.diff([0, *ends]).clip(2)  # shorter ones are slowed down by browsers
        milliseconds = [int(ticks) * 10 for ticks in lengths]
        with write_errors(self.path):
            iio.imwrite(self._partial, np.stack(self._frames), extension=GIF, duration=milliseconds, loop=0)
            publish(self._partial, self.path)

    def abort(self) -> None:
        self._frames.clear()
        self._partial.unlink(missing_ok=True)


class FolderWriter(PicturesWriter):
    """A folder with one image per frame, numbered from 0 by `image_name` (``%05d.png``)."""

    def __init__(self, path: Path, image_name: str) -> None:
        super().__init__(path)
        self._name, self._written = image_name, 0

    def write(self, frames: np.ndarray) -> None:
        with write_errors(self.path):
            self._partial.mkdir(parents=True, exist_ok=True)
            for frame in frames:
                iio.imwrite(self._partial / (self._name % self._written), frame)
                self._written += 1

    def close(self) -> None:
        # Of what was there before only images are replaced, and `check_image_folder` saw that there are no others.
        publish_folder(self._partial, self.path)

    def abort(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


def image_name_of(output_path: str) -> str | None:
    """The last part of ``folder/%05d.png`` where that is what a result is called, else None.

    Raises:
        InputError: a number pattern that cannot be filled, or a suffix that is no image's.
    """
    name = Path(output_path).name
    if "%" not in name:
        return None
    try:
        fits = name % 0 != name % 1
    except (TypeError, ValueError):
        fits = False
    if not fits or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"--output_path: expected images such as folder/%05d.png, got {output_path}")
    return name


def check_image_folder(folder: Path) -> None:
    """InputError where writing images to `folder` would take away something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_path: expected a folder for the images, got a file: {folder}")
    files = folder.iterdir() if folder.is_dir() else ()
    other = next((file.name for file in files if file.suffix.lower() not in IMAGE_SUFFIXES), None)
    if other is not None:
        raise InputError(f"--output_path: expected a new folder or one of images alone, found {other}: {folder}")
