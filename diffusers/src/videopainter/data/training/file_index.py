"""Opened videos and mask arrays, kept so that what was learned of a file's structure serves the next epoch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from videopainter.data.masks.ids import IdArray
from videopainter.data.training.decord_frames import DecordFrames
from videopainter.data.video.reader import VideoFrames

_T = TypeVar("_T", VideoFrames, IdArray)


class FileIndex:
    """The last `size` files that were opened: frame times and sizes, no pixels. 0 opens every file anew.

    A file that has changed since is opened again. Pickled copies (loader workers) begin empty. `video_reader` is one of
    `VIDEO_READERS`.
    """

    def __init__(self, size: int = 4096, video_reader: str = "pyav") -> None:
        self.size, self.video_reader = size, video_reader
        self._known: OrderedDict[Path, tuple[tuple[int, int], VideoFrames | IdArray]] = OrderedDict()

    def video(self, path: Path) -> VideoFrames:
        """The video of that path; InputError where it is none."""
        return self._get(path, lambda: self._open(path))

    def _open(self, path: Path) -> VideoFrames:
        # One thread: the loader's workers are what runs side by side.
        if self.video_reader == "decord":
            return DecordFrames(path, threads=1)
        return VideoFrames(path, threads=1, check_end=False)

    def masks(self, path: Path) -> IdArray:
        """The ids of that path; InputError where there are none."""
        return self._get(path, lambda: IdArray(path))

    def _get(self, path: Path, make: Callable[[], _T]) -> _T:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        known = self._known.pop(path, None)
        made: Any = known[1] if known is not None and known[0] == stamp else make()
        self._known[path] = (stamp, made)
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": OrderedDict()}
