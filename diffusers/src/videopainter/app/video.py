"""A project's video on disk, and its frames fast enough to scrub through."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from videopainter.app.jobs import JOB_KINDS, JobBook
from videopainter.app.limits import Limits, as_whole, check_video_upload, display_name, named, own_suffix
from videopainter.data.clip import FrameSource, FramesView, duration_of, notes_of
from videopainter.data.images import load_image
from videopainter.data.video.reader import VideoFrames, open_video, sound_of
from videopainter.errors import InputError
from videopainter.files import WriteError, read_json, remove_folder, replacing, sha256_file, write_bytes, write_json
from videopainter.segmentation.prompts import FrameRange

_STATE, COVER = "project.json", "cover.jpg"
_PROXY_SIDE, _PROXY_QUALITY, _COVER_WIDTH = 640, 88, 240
# Longest side at which masks are made; those of larger videos are enlarged.
_MASKED_SIDE = 1920
# What belongs to a video, and goes with it.
_OF_A_VIDEO = ("proxies", "session", "brush", "mask", "results", "jobs", "pictures")


@dataclass(frozen=True, kw_only=True)
class VideoView:
    """A project's video: `fps` is a mean, `notes` what reading it changes, `name` what its user calls it."""

    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    sound: bool
    notes: list[str] = field(default_factory=list)
    name: str = ""


class FrameCache:
    """The frames that were read last, of all projects together; `budget` in bytes. Any thread."""

    def __init__(self, budget: int = 256 * 2**20) -> None:
        self._budget, self._held = budget, 0
        self._frames: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int], read: Callable[[], np.ndarray]) -> np.ndarray:
        """A frame, read where it is not there; nobody writes to it."""
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        frame = read()
        frame.setflags(write=False)
        with self._lock:
            if key not in self._frames:
                self._frames[key] = frame
                self._held += frame.nbytes
            while self._held > self._budget:
                self._held -= self._frames.popitem(last=False)[1].nbytes
        return frame


class WorkFrames(FramesView):
    """A video's frames, no larger than masks are made at; single ones come from a cache."""

    def __init__(self, source: FrameSource, cache: FrameCache, name: str) -> None:
        super().__init__(source)
        self._cache, self._name = cache, name
        self.scale = min(1.0, _MASKED_SIDE / max(source.height, source.width))
        if self.scale < 1:
            self.height, self.width = round(source.height * self.scale), round(source.width * self.scale)

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 RGB (stop - start, height, width, 3)."""
        if stop - start == 1:
            return self._cache.get((self._name, start), lambda: self._read(start, stop))
        return self._read(start, stop)

    def _read(self, start: int, stop: int) -> np.ndarray:
        if self.scale == 1:
            return self.source.read(start, stop)
        out = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        for k in range(start, stop):  # one large frame at a time
            out[k - start] = resized_picture(self.source.read(k, k + 1)[0], self.width)
        return out


def state_file(folder: Path) -> Path:
    """Where a project keeps what it is."""
    return folder / _STATE


def read_state(folder: Path) -> dict[str, Any]:
    """What a project's folder says of it; nothing where it is new."""
    file = state_file(folder)
    return read_json(file, "project") if file.exists() else {}


class ProjectVideo:
    """A project's folder, as far as its video goes. All state is in the folder; methods may be called by any thread.

    Raises InputError, in one line, for what does not fit.
    """

    def __init__(self, folder: Path, limits: Limits, cache: FrameCache, book: JobBook) -> None:
        self.folder, self.id, self._book = folder, folder.name, book
        self.lock = threading.RLock()
        self._limits, self._cache = limits, cache
        self._opened: dict[str, Any] = {}

    # -- state

    @cached_property
    def _state(self) -> dict[str, Any]:
        return read_state(self.folder)

    def _remember(self, **values: Any) -> None:
        """Changes the state on disk."""
        self._state.update(values)
        write_json(state_file(self.folder), self._state)

    # -- video

    def set_video(self, path: Path | str, name: str | None = None) -> VideoView:
        """Takes an uploaded video, or an image, into the folder; masks and results of another one are forgotten.

        `name` is shown to its user, nothing more.
        """
        path = Path(path)
        shown = display_name(path.name if name is None else name)
        check_video_upload(path, self._limits, shown)
        with self.lock:
            self.check_idle()
            digest = sha256_file(path)
            if digest != self._state.get("video", {}).get("sha256"):
                self._take(path, shown, digest)
            facts = self.video
            assert facts is not None
            return facts

    def is_of(self, path: Path | str) -> bool:
        """Whether a file is the project's video."""
        known = self._state.get("video")
        return known is not None and known["sha256"] == sha256_file(Path(path))

    def check_idle(self, kinds: Sequence[str] = JOB_KINDS) -> None:
        """InputError where a job (of some kinds) waits for the project or works on it."""
        if self._book.is_busy(self.id, kinds):
            raise InputError("a job of this project waits or runs: wait until it has ended, or cancel it")

    def _take(self, path: Path, shown: str, digest: str) -> None:
        file = self.folder / f"video_{digest[:8]}{own_suffix(path)}"
        with named(file, shown):
            with replacing(file) as partial:
                shutil.copyfile(path, partial)
            try:
                frames = open_video(file)
                facts = {"file": file.name, "name": shown, "sha256": digest, "frames": len(frames)}
                first = frames.read(0, 1)[0]
            except InputError:
                file.unlink(missing_ok=True)
                raise
        self._forget_video()
        with contextlib.suppress(WriteError):
            write_bytes(self.folder / COVER, encode_jpeg(resized_picture(first, _COVER_WIDTH)))
        self._remember(video=facts, range=[0, len(frames)], shape={}, mask=None)
        for old in self.folder.glob("video_*"):
            if old.name != file.name:
                old.unlink()

    def _forget_video(self) -> None:
        self._opened.clear()
        for name in _OF_A_VIDEO:
            remove_folder(self.folder / name)
        self._book.drop_finished(self.id)

    @property
    def video(self) -> VideoView | None:
        """What the project's video is; None before there is one."""
        if not self._state.get("video"):
            return None
        frames = self.frames
        return VideoView(
            frames=len(frames),
            fps=float(frames.fps),
            width=frames.width,
            height=frames.height,
            seconds=float(duration_of(frames)),
            sound=sound_of(frames) is not None,
            notes=list(notes_of(frames)),
            name=self._state["video"]["name"],
        )

    @property
    def video_file(self) -> Path:
        """Our copy of the video. InputError before there is one."""
        if not self._state.get("video"):
            raise InputError("video: expected one to be uploaded first, got none")
        return self.folder / self._state["video"]["file"]

    @property
    def frames(self) -> FrameSource:
        """The video's frames as they are."""
        with self.lock:
            if "frames" not in self._opened:
                self._opened["frames"] = open_video(self.video_file)
            return self._opened["frames"]

    @property
    def work_frames(self) -> WorkFrames:
        """The frames at the size at which masks are made."""
        with self.lock:
            if "work" not in self._opened:
                self._opened["work"] = WorkFrames(self.frames, self._cache, self.video_file.as_posix())
            return self._opened["work"]

    def close(self) -> None:
        """Lets files and memory go; they are opened again where they are needed."""
        with self.lock:
            frames = self._opened.get("frames")
            if isinstance(frames, VideoFrames):
                frames.close()
            self._opened.clear()

    # -- range and frames

    @property
    def range(self) -> FrameRange:
        """The frames that are worked on."""
        start, stop = self._state.get("range") or (0, 0)
        return FrameRange(start=start, stop=stop)

    def set_range(self, start: int, stop: int) -> None:
        """Frames `start` to `stop` (exclusive) are worked on."""
        start, stop, length = as_whole("range", start), as_whole("range", stop), len(self.frames)
        if not 0 <= start < stop <= length:
            raise InputError(f"range: expected START < STOP within 0:{length}, got {start}:{stop}")
        with self.lock:
            self.check_idle()
            self._check_range(start, stop)
            self._remember(range=[start, stop])

    def _check_range(self, start: int, stop: int) -> None:
        """InputError where something else does not go with a range."""

    def check_frame(self, number: int) -> int:
        """A frame's number. InputError for one that the video has not."""
        number, length = as_whole("frame", number), len(self.frames)
        if not 0 <= number < length:
            raise InputError(f"frame: expected 0 to {length - 1}, got {number}")
        return number

    def frame(self, number: int, width: int | None = None) -> np.ndarray:
        """A frame of the video, uint8 RGB (H, W, 3), or as a picture of `width`: small ones are kept on disk."""
        number = self.check_frame(number)
        if width is not None and width <= self._proxy_width:
            return resized_picture(self._proxy(number), width)
        frame = self.work_frames.read(number, number + 1)[0]
        if frame.shape[1] < (width or self.frames.width):
            frame = self.frames.read(number, number + 1)[0]
        return frame if width is None else resized_picture(frame, width)

    @property
    def _proxy_width(self) -> int:
        frames = self.frames
        return max(1, round(frames.width * min(1.0, _PROXY_SIDE / max(frames.height, frames.width))))

    def _proxy(self, number: int) -> np.ndarray:
        with self.lock:  # of one video, also where another comes while its frame is read
            work, width, video = self.work_frames, self._proxy_width, self.video_file.stem
        file = self.folder / "proxies" / video / f"{number:06d}.jpg"
        if file.exists():
            return np.asarray(load_image(file).convert("RGB"))
        frame = resized_picture(work.read(number, number + 1)[0], width)
        with contextlib.suppress(WriteError):  # on a full disk it is made again
            write_bytes(file, encode_jpeg(frame, _PROXY_QUALITY))
        return frame


def resized_picture(picture: np.ndarray, width: int) -> np.ndarray:
    """uint8 (H, W, 3) or (H, W) at `width` pixels; as it is where it has them, or fewer."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def encode_jpeg(picture: np.ndarray, quality: int = 90) -> bytes:
    """A picture uint8 RGB (H, W, 3) as a JPEG file's bytes."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()
