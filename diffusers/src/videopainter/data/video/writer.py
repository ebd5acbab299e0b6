"""Writing video: H.264 (or lossless FFV1), with the sound of the source."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError

from videopainter.data.clip import Sound, VideoTags
from videopainter.data.video.color import USUAL
from videopainter.data.video.conversion import YuvConverter
from videopainter.data.video.sound import FORMATS, SoundTrack
from videopainter.errors import InputError
from videopainter.files import publish, temporary, write_errors

# Codes of H.273, and swscale's names.
_MATRIX = {"bt709": "bt709", "smpte170m": "smpte170m", "unspecified": "smpte170m"}
# Fine enough for any source's own times.
_CLOCK = Fraction(1, 90_000)


class VideoWriter:
    """Writes chunks of frames as they come; the file appears, whole, when the `with` block ends well.

        with VideoWriter("out.mp4", fps=clip.fps, tags=tags_of(clip.frames), sound=clip.sound) as writer:
            writer.write(frames)          # uint8 RGB (t, H, W, 3), any number of times

    H.264 at constant quality `crf` (0 is the best, 51 the worst), 4:2:0 for even sizes. 4:2:0 cannot have odd
    ones: those keep their size in 4:4:4 (High 4:4:4 profile: plays in ffmpeg-based players and desktop
    Chrome and Firefox, not on most phones). `lossless` writes FFV1 RGB into .mkv, equal to the bit.
    `sound` is copied packet by packet (cut to about 25 ms) where the container allows, else becomes AAC (`plan_sound`
    says which). `times` are seconds from the first frame to each, for frames that do not come evenly. `threads` of
    x264 (0: as many as the machine has) decide what it writes: a number gives the same file on every machine.
    Suffixes: .mp4, .mov, .mkv. Raises InputError for others, or where the folder cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: Fraction | int,
        tags: VideoTags | None = None,
        sound: Sound | None = None,
        times: np.ndarray | None = None,
        crf: int = 15,
        lossless: bool = False,
        threads: int = 0,
    ) -> None:
        self.path = Path(path)
        self.fps = Fraction(fps)
        self.tags = tags or VideoTags()
        self.crf, self.lossless, self.threads = crf, lossless, threads
        self.frames_written = 0
        allowed = [".mkv"] if lossless else list(FORMATS)
        if self.path.suffix.lower() not in allowed:
            raise InputError(
                f"video: expected {', '.join(allowed)} for a {'lossless ' if lossless else ''}one, got {self.path}"
            )
        self._sound, self._times = sound, times
        self._partial = temporary(self.path)
        self._container: OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._converter: YuvConverter | None = None
        self._track: SoundTrack | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, frames: np.ndarray) -> None:
        """Appends frames, uint8 RGB (t, H, W, 3), all of the first one's size."""
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"frames to write: expected uint8 (t, H, W, 3), got {frames.dtype} {frames.shape}")
        if not len(frames):
            return
        if self._container is None:
            self._open(frames.shape[1], frames.shape[2])
        assert self._stream is not None and self._container is not None
        if frames.shape[1:3] != (self._stream.height, self._stream.width):
            raise ValueError(
                f"frames to write: expected {self._stream.width}x{self._stream.height}, got "
                f"{frames.shape[2]}x{frames.shape[1]}, in {self.path}"
            )
        with write_errors(self.path):
            for pixels in frames:
                self._container.mux(self._stream.encode(self._frame(pixels)))
                self.frames_written += 1
            if self._track is not None:
                self._track.write_until(self._end())

    def close(self) -> None:
        """Finishes the file and gives it its name. ValueError where no frame was written."""
        if self._container is None or self._stream is None:
            raise ValueError(f"frames to write: expected some, got none, in {self.path}")
        try:
            with write_errors(self.path):
                self._container.mux(self._stream.encode(None))
                if self._track is not None:
                    self._track.finish(self._end())
                self._container.close()
                self._container = None
                publish(self._partial, self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drops what was written."""
        if self._track is not None:
            self._track.close()
        if self._container is not None:
            container, self._container = self._container, None
            with contextlib.suppress(FFmpegError):  # the file is dropped anyway
                container.close()
        self._partial.unlink(missing_ok=True)

    def _open(self, height: int, width: int) -> None:
        suffix = self.path.suffix.lower()
        options = {"fflags": "+bitexact"}  # no random ids: the same frames give the same file
        if suffix in (".mp4", ".mov"):
            options["movflags"] = "+faststart"
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", format=FORMATS[suffix], options=options)
        try:
            self._stream = self._add_video(height, width)
            if not self.lossless:
                self._converter = YuvConverter(self._stream.pix_fmt or "yuv420p", _MATRIX[self.tags.color])
            if self._sound is not None:
                self._track = SoundTrack(self._container, self._sound, suffix)
        except BaseException:
            self.abort()
            raise

    def _add_video(self, height: int, width: int) -> av.VideoStream:
        assert self._container is not None
        stream = self._container.add_stream("ffv1" if self.lossless else "libx264", rate=self.fps)
        stream.width, stream.height = width, height
        stream.sample_aspect_ratio = self.tags.pixel_aspect
        if self.threads:
            stream.codec_context.thread_count = self.threads
        if self._times is not None:
            stream.codec_context.time_base = _CLOCK
        if self.lossless:
            stream.pix_fmt = "bgr0"
            return stream
        stream.pix_fmt = "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
        # x264's macroblock tree is not deterministic in a process that has imported torch.
        stream.options = {"crf": str(self.crf), "preset": "medium", "x264-params": "mbtree=0"}
        context = stream.codec_context
        context.color_range = 1  # limited
        usual = USUAL[self.tags.color]
        context.colorspace = usual
        context.color_primaries, context.color_trc = self.tags.primaries or usual, self.tags.transfer or usual
        return stream

    def _frame(self, pixels: np.ndarray) -> av.VideoFrame:
        if self._converter is None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="bgr0")
        else:
            frame = self._converter.convert(pixels)
        if self._times is None:
            frame.pts, frame.time_base = self.frames_written, 1 / self.fps
        else:
            frame.pts, frame.time_base = round(float(self._times[self.frames_written]) / _CLOCK), _CLOCK
        return frame

    def _end(self) -> Fraction:
        """When the last frame that was written ends."""
        if self._times is None:
            return self.frames_written / self.fps
        return Fraction(float(self._times[self.frames_written - 1])) + 1 / self.fps
