"""Training clips that decord reads, where it was seen to read them right.

decord2 3.4 gives other frames than those asked for where H.264 or HEVC has open GOPs or intra refresh, in AVI and in
MPEG-TS; counts frames that an edit list hides; and mistakes the shape of narrow ones. It says so of none. So each file
is compared with PyAV when it is opened, and PyAV reads what differs.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError, one_line
from videopainter.flags import check_installed

VIDEO_READERS = ("pyav", "decord")
# Mean difference of a frame's pixels, in levels, that is no other frame: decord's colours are 1 to 1.5 levels darker.
TOLERANCE = 2.0
# As much nearer another frame must be than the one that was asked for: frames of a still scene are alike.
_NEARER = 0.1
# Key frames around which frames are compared: there decord goes wrong. And others, evenly spread.
_KEYS, _OTHERS = 6, 8
_COMPARED_PIXELS = 2**16
# Frames that are in memory at once.
_GROUP = 8
_logger = logging.getLogger("videopainter.training")


def check_video_reader(name: str) -> None:
    """InputError for a reader that is unknown or not installed."""
    if name not in VIDEO_READERS:
        raise InputError(f"video_reader: expected one of {', '.join(VIDEO_READERS)}, got {name!r}")
    if name == "decord":
        check_installed("video_reader decord", "decord", install="decord2")


class DecordFrames(VideoFrames):
    """A video file of which `pick` asks decord, or PyAV where `inexact` says how decord's frames differ.

    Everything else is PyAV's: number of frames, rate and times, and `read`.
    """

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        super().__init__(path, threads=threads, check_end=False)
        difference = self._compared()
        self.inexact = f"{difference}, in {self.path}" if difference else ""

    def pick(self, numbers: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """As `VideoFrames.pick`; decord's frames come at their own size."""
        if self.inexact:
            yield from super().pick(numbers, size)
            return
        try:
            yield from self._picked(self._opened(), numbers)
        except _errors() as error:
            raise InputError(f"decord: expected frames {list(numbers)}, got {_first(error)}, in {self.path}") from None

    def _opened(self) -> Any:
        return _decord().VideoReader(str(self.path), num_threads=1)

    def _picked(self, reader: Any, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """uint8 RGB (H, W, 3), in the order asked for; ValueError where they have another shape."""
        for k in range(0, len(numbers), _GROUP):
            for frame in reader.get_batch(list(numbers[k : k + _GROUP])).asnumpy():
                if frame.shape != (self.height, self.width, 3):
                    raise ValueError(f"frames of shape {frame.shape}, not {(self.height, self.width, 3)}")
                yield frame

    def _compared(self) -> str:
        """How decord's frames differ from PyAV's in number, shape or pixels; empty where they do not."""
        numbers = self._samples()
        around = sorted({near for number in numbers for near in self._around(number)})
        part = slice(None, None, max(1, round((self.height * self.width / _COMPARED_PIXELS) ** 0.5)))
        ours = {n: frame[part, part].astype(np.int16) for n, frame in zip(around, super().pick(around))}
        self.close()
        try:
            reader = self._opened()
            if len(reader) != len(self):
                return f"{len(reader)} frames, not {len(self)}"
            # Each by itself, so that decord has to find it, and in a row, as a clip is read.
            jumps = np.random.default_rng(0).permutation(numbers).tolist()
            for order in (*([number] for number in jumps), numbers):
                for number, frame in zip(order, self._picked(reader, order)):
                    theirs = frame[part, part]
                    errors = {near: float(np.abs(ours[near] - theirs).mean()) for near in self._around(number)}
                    if errors[number] > min(TOLERANCE, min(errors.values()) + _NEARER):
                        return f"frame {number} is {errors[number]:.1f} levels from its own"
        except _errors() as error:
            return _first(error)
        return ""

    def _samples(self) -> list[int]:
        """Numbers of the frames that are compared, rising: beside key frames, at both ends, between them."""
        last = len(self) - 1
        keys = self._timeline.keys
        keys = keys[np.linspace(0, len(keys) - 1, _KEYS).astype(int)] if len(keys) else []
        beside = (int(key) + step for key in keys for step in (-2, -1, 0, 1))
        spread = np.linspace(0, last, _OTHERS).astype(int).tolist()
        return sorted({number for number in (*beside, *spread) if 0 <= number <= last})

    def _around(self, number: int) -> range:
        return range(max(0, number - 1), min(len(self), number + 2))


class InexactFiles:
    """Counts the files that PyAV reads though decord was asked for, and says so each time when they have doubled."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def add(self, reasons: Iterable[str]) -> None:
        """`TrainingSample.inexact` of samples that were read."""
        before = len(self.found)
        reasons = [reason for reason in reasons if reason]
        self.found.update(reasons)
        if len(self.found).bit_length() > before.bit_length():
            files = "1 file" if len(self.found) == 1 else f"{len(self.found)} files"
            _logger.warning("video_reader: decord is not exact with %s so far, PyAV reads them: %s", files, reasons[-1])


def _decord() -> Any:
    # Only now: imported before PyAV it breaks PyAV's VP9 encoder.
    decord = importlib.import_module("decord")
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _errors() -> tuple[type[Exception], ...]:
    """What decord raises."""
    decord = _decord()
    return (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, IndexError, ValueError)


def _first(error: BaseException) -> str:
    """The first line of decord's complaint; a trace follows."""
    return one_line(str(error).strip().partition("\n")[0])
