"""Opened videos and mask arrays, kept so that what was learned of a file's structure serves the next epoch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from videopainter.data.masks.ids import IdArray
from videopainter.data.video.reader import VideoFrames

_T = TypeVar("_T", VideoFrames, IdArray)


class FileIndex:
    """The last `size` files that were opened: frame times and sizes, no pixels. 0 opens every file anew.

    A file that has changed since is opened again. Pickled copies (loader workers) begin empty.
    """

    def __init__(self, size: int = 4096) -> None:
        self.size = size
        self._known: OrderedDict[Path, tuple[tuple[int, int], VideoFrames | IdArray]] = OrderedDict()

    def video(self, path: Path) -> VideoFrames:
        """The video of that path; InputError where it is none."""
        # One thread: the loader's workers are what runs side by side.
        return self._get(path, lambda: VideoFrames(path, threads=1, check_end=False))

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
        return {"size": self.size, "_known": OrderedDict()}
