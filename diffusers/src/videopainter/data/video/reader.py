"""Reading video: files, folders of frames, single images. Writing is in `writer.py`.

Files are decoded with PyAV. decord is only offered for training sets (`data/training/decord_frames.py`): of the same
files it returns wrong frames where H.264 has open GOPs or an AVI has B-frames, cannot open AV1 or MPEG-TS, and once
imported makes PyAV's VP9 encoder fail. Where both are right, decord's pixels are swscale's default ones: the same, but
1 to 1.5 levels darker.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from videopainter.data.clip import FrameSource, Sound, VideoTags, check_range, duration_of
from videopainter.data.images import IMAGE_SUFFIXES, image_size, list_images, read_image, write_image
from videopainter.data.rates import DEFAULT_FPS, parse_fps
from videopainter.data.video.color import check_color, color_note, matrix_tag, other_tags
from videopainter.data.video.containers import check_whole
from videopainter.data.video.conversion import RgbConverter
from videopainter.data.video.display import Orientation
from videopainter.data.video.timeline import Timeline
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.flags import check_size

__all__ = ["FolderFrames", "VideoFrames", "VideoWriter", "open_video", "read_image", "sound_of", "write_image"]

# libav turns any text into a video of a terminal.
_NOT_VIDEO = {"tty"}
# Reading on through this many frames is cheaper than a seek.
_READ_ON = 8


def open_video(path: Path | str, *, folder_fps: str | float | Fraction | None = None) -> FrameSource:
    """Opens a video file (what PyAV decodes), a folder of images in the order of their names, or one image.

    `folder_fps` is the rate of what has none of its own (folder, image); None is 24, that of DAVIS.
    Raises InputError for what is missing, is no video, has no frames, or was cut off.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"video: expected a file or a folder of frames, got none at {path}")
    if not path.is_dir() and not path.is_file():
        raise InputError(f"video: expected a file or a folder of frames, got neither at {path}")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return FolderFrames(path, parse_fps(DEFAULT_FPS if folder_fps is None else folder_fps))
    return VideoFrames(path)


def sound_of(frames: FrameSource) -> Sound | None:
    """The sound that belongs to an opened video file; None where it has none, or the frames are no file's."""
    return frames.sound() if isinstance(frames, VideoFrames) else None


class VideoFrames:
    """The frames of a video file, as displayed (turned and mirrored as the file says, HDR as SDR), by number.

    Timestamps are indexed once, without decoding; a read seeks to the key frame before it, or reads on where
    the last one ended. `fps` is the mean rate; where frames do not come evenly, `times` holds when each is shown,
    in seconds after the first, else it is None. `notes` tells what reading changes, a line each.

    `threads` is how many decode (0: as many as the machine has). Opening decodes the last frame, too, to see that the
    file is whole; where it is one long group of pictures that is the price of reading all of it, so `check_end=False`
    leaves it to the read.
    """

    def __init__(self, path: Path | str, *, threads: int = 0, check_end: bool = True) -> None:
        self.path = Path(path)
        self._threads = threads
        self._container: InputContainer | None = None
        self._decoder: Iterator[av.VideoFrame] | None = None
        self._stream: av.VideoStream | None = None
        self._next = 0  # number of the frame that the decoder gives next
        self._converter = RgbConverter()
        self._lock = threading.RLock()
        _READERS.add(self)
        check_whole(self.path)
        try:
            self._index()
            self._learn(self._first_shown())
            if check_end:
                self._fetch(len(self) - 1)
        except FFmpegError as error:
            raise InputError(f"video: expected one that can be read, got {error.strerror}, in {self.path}") from None

    # -- what the file holds

    def _index(self) -> None:
        """Frame times and key frames from the packets: exact, and as fast as reading the file."""
        container, stream = self._open()
        self._timeline = Timeline(container.demux(stream), stream.time_base)
        if self._timeline.times is None:
            self._timeline.length = self._count()
        if not self._timeline.length:
            raise InputError(f"video: expected frames, got none, in {self.path}")
        self.has_sound = bool(container.streams.audio)
        self._aspect = stream.sample_aspect_ratio
        self._rate = stream.average_rate or stream.guessed_rate

    def _count(self) -> int:
        self._restart()
        return sum(1 for _ in self._decoder or ())

    def _learn(self, frame: av.VideoFrame) -> None:
        """Sizes, colours and rate, from the first frame."""
        check_color(frame, self.path)
        self._orientation = Orientation.of(frame)
        self.stored_size = (frame.height, frame.width)
        self.height, self.width = self._orientation.size(frame.height, frame.width)
        check_size("video", self.height, self.width, self.path)
        aspect = Fraction(self._aspect or 1) or Fraction(1)
        primaries, transfer = other_tags(frame)
        self.tags = VideoTags(
            color=matrix_tag(frame),
            pixel_aspect=1 / aspect if self._orientation.swap else aspect,
            primaries=primaries,
            transfer=transfer,
        )
        self.fps = parse_fps(self._timeline.rate(self._rate), where=self.path)
        self.times = self._timeline.uneven(self.fps)
        note = color_note(frame)
        self.notes = [note] if note else []

    def _first_shown(self) -> av.VideoFrame:
        """The first frame that decodes; what a stream cut before its first key frame holds ahead is not shown."""
        self._restart()
        frame = next(self._decoder, None) if self._decoder is not None else None
        if frame is None:
            raise InputError(f"video: expected frames, got none that can be decoded, in {self.path}")
        self._timeline.begin_at(frame.pts)
        self._next = 1
        return frame

    def sound(self) -> Sound | None:
        """The sound beside these frames; None where the file has none."""
        if not self.has_sound:
            return None
        return Sound(file=self.path, start=self._timeline.start, duration=duration_of(self))

    def __len__(self) -> int:
        return self._timeline.length

    # -- decoding

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop` (exclusive), uint8 RGB (T, H, W, 3)."""
        check_range(start, stop, len(self))
        out = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        with self._lock:
            for number in range(start, stop):
                out[number - start] = self._pixels(self._fetch(number), number)
        return out

    def pick(self, numbers: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """Frames `numbers` (rising), one after the other, uint8 RGB (H, W, 3).

        Equal to reading them one by one, but of the pictures between them only those are decoded that others need,
        and only those asked for are converted.

        `size` (height, width) resizes them on the way where the stored format allows it; see `RgbConverter.resize`.
        """
        if any(not 0 <= number < len(self) for number in numbers) or any(np.diff(numbers) <= 0):
            raise IndexError(f"frames {list(numbers)} of {len(self)}, rising")
        with self._lock:
            todo = deque(numbers)
            for frame in self._sparse(list(numbers)):
                number = todo.popleft()
                if frame is None:
                    frame = self._fetch(number)
                yield self._pixels(frame, number, size)

    def _sparse(self, numbers: list[int]) -> Iterator[av.VideoFrame | None]:
        """The frames `numbers`, None for those that only `_fetch` finds."""
        given = 0
        if self._timeline.times is not None:
            entries = np.searchsorted(self._timeline.keys, numbers, side="right") - 1
            for entry in np.unique(entries):
                group = [number for number, at in zip(numbers, entries) if at == entry]
                for frame in self._group(max(0, int(entry)), group):
                    yield frame
                    given += 1
                if given != np.searchsorted(entries, entry, side="right"):
                    break
        yield from [None] * (len(numbers) - given)

    def _group(self, entry: int, numbers: list[int]) -> Iterator[av.VideoFrame]:
        """Frames `numbers`, all behind key frame `entry`, as far as they come in order."""
        times, keys = self._timeline.times, self._timeline.keys
        assert times is not None
        wanted = {int(times[number]) for number in numbers}
        todo = deque(numbers)
        self._decoder = None
        try:
            if self._container is None:
                self._open()
                rewind = entry > 0
            else:
                rewind = True
            container, stream = self._container, self._stream
            assert container is not None and stream is not None
            if rewind:
                container.seek(int(times[keys[entry]]) if len(keys) else 0, stream=stream)
            for packet in container.demux(stream):
                needed = packet.pts is None or packet.pts in wanted
                stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
                for frame in packet.decode():
                    number = self._timeline.number_of(frame.pts, self._next)
                    if number > todo[0]:
                        return
                    if number == todo[0]:
                        todo.popleft()
                        yield frame
                        if not todo:
                            return
        except FFmpegError:
            return
        finally:
            if self._stream is not None:
                self._stream.codec_context.skip_frame = "DEFAULT"

    def close(self) -> None:
        """Closes the file; a later read opens it again."""
        with self._lock:
            self._close_file()
            self._converter = RgbConverter()

    def _close_file(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = self._decoder = self._stream = None

    def __getstate__(self) -> dict:
        gone = dict.fromkeys(("_container", "_decoder", "_stream", "_converter", "_lock"))
        return {**self.__dict__, **gone}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _converter=RgbConverter(), _lock=threading.RLock())
        _READERS.add(self)

    def _open(self) -> tuple[InputContainer, av.VideoStream]:
        # Only local files: a playlist must not send the reader to the network.
        container = av.open(str(self.path), options={"protocol_whitelist": "file"})
        self._container = container
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or container.format.name in _NOT_VIDEO:
            raise InputError(f"video: expected a video stream, got none, in {self.path}")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = self._threads
        self._stream = stream
        return container, stream

    def _restart(self) -> None:
        self._close_file()  # the converter stays: that of HDR takes seconds to set up
        container, stream = self._open()
        self._decoder, self._next = container.decode(stream), 0

    def _fetch(self, number: int) -> av.VideoFrame:
        try:
            if self._reads_on(number) and (frame := self._advance(number)) is not None:
                return frame
            for entry in self._timeline.entries(number):
                self._seek(entry)
                if (frame := self._advance(number)) is not None:
                    return frame
        except FFmpegError as error:
            reason = f": {error.strerror}"
        else:
            reason = ""
        self._decoder = None
        raise InputError(
            f"video: expected {len(self)} frames, got frame {number} that cannot be decoded{reason}, in {self.path}"
        )

    def _reads_on(self, number: int) -> bool:
        """Whether the frame is best reached from where the decoder stands."""
        if self._decoder is None or number < self._next:
            return False
        return number - self._next <= _READ_ON or self._timeline.entries(number)[0] <= self._next

    def _seek(self, entry: int) -> None:
        times = self._timeline.times
        if entry == 0 or times is None or self._container is None:
            self._restart()
        container, stream = self._container, self._stream
        if entry and times is not None and container is not None and stream is not None:
            container.seek(int(times[entry]), stream=stream)
            self._decoder = container.decode(stream)

    def _advance(self, number: int) -> av.VideoFrame | None:
        """Decodes up to frame `number`; None where the stream goes past it or ends."""
        for frame in self._decoder or ():
            at = self._timeline.number_of(frame.pts, self._next)
            self._next = at + 1
            if at == number:
                return frame
            if at > number:
                break
        self._decoder = None
        return None

    def _pixels(self, frame: av.VideoFrame, number: int, size: tuple[int, int] | None = None) -> np.ndarray:
        if (frame.height, frame.width) != self.stored_size:
            raise InputError(
                f"video: expected one size, {self.stored_size[1]}x{self.stored_size[0]}, "
                f"got {frame.width}x{frame.height} at frame {number}, in {self.path}"
            )
        if size is None:
            pixels = self._converter.convert(frame)
        else:
            pixels = self._converter.resize(frame, *self._orientation.size(*size))
        return self._orientation.apply(pixels)


_READERS: weakref.WeakSet[VideoFrames] = weakref.WeakSet()


def _close_readers() -> None:
    """Before a fork: a child that frees a decoder would wait for threads that only the parent has."""
    for reader in list(_READERS):
        reader.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_readers)


class FolderFrames:
    """A folder of equally large images, or one image, as frames of a video at `fps`."""

    def __init__(self, path: Path | str, fps: Fraction) -> None:
        self.path = Path(path)
        self.fps = Fraction(fps)
        if self.fps <= 0:
            raise InputError(f"video_fps: expected a rate above 0 for a folder of frames, got {fps}, in {self.path}")
        self.files = list_images(self.path)
        sizes = [image_size(file) for file in self.files]
        self.width, self.height = sizes[0]
        for file, size in zip(self.files, sizes):
            if size != sizes[0]:
                raise InputError(
                    f"frames: expected one size, {self.width}x{self.height} as {self.files[0].name}, "
                    f"got {size[0]}x{size[1]}, in {file}"
                )

    def __len__(self) -> int:
        return len(self.files)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images `start` to `stop` (exclusive), uint8 RGB (T, H, W, 3)."""
        check_range(start, stop, len(self))
        out = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        for k, file in enumerate(self.files[start:stop]):
            out[k] = read_image(file)
        return out
