"""Writing video: H.264 (or lossless FFV1), with the sound of the source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import Colorspace

from videopainter.data.clip import Sound, VideoTags
from videopainter.data.errors import InputError

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Codecs that may be copied as they are; others become AAC.
_COPIED = {
    ".mp4": {"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "flac", "alac"},
    ".mov": {"aac", "mp3", "mp3float", "ac3", "eac3", "alac"},
}
_MATRIX = {"bt709": (1, Colorspace.ITU709), "smpte170m": (6, Colorspace.ITU601), "unspecified": (2, Colorspace.ITU601)}


class VideoWriter:
    """Writes chunks of frames as they come; the file appears, whole, when the `with` block ends well.

        with VideoWriter("out.mp4", fps=clip.fps, tags=tags_of(clip.frames), sound=clip.sound) as writer:
            writer.write(frames)          # uint8 RGB (t, H, W, 3), any number of times

    H.264 at constant quality `crf` (18 looks like the source), 4:2:0 for even sizes. 4:2:0 cannot have odd
    ones: those keep their size in 4:4:4 (High 4:4:4 profile: plays in ffmpeg-based players and desktop
    Chrome and Firefox, not on most phones). `lossless` writes FFV1 RGB into .mkv, equal to the bit.
    `sound` is copied packet by packet (cut to about 25 ms) where the container allows, else becomes AAC.
    Suffixes: .mp4, .mov, .mkv. Raises InputError for others, or where the folder cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: Fraction | int,
        tags: VideoTags | None = None,
        sound: Sound | None = None,
        crf: int = 18,
        lossless: bool = False,
    ) -> None:
        self.path = Path(path)
        self.fps = Fraction(fps)
        self.tags = tags or VideoTags()
        self.crf, self.lossless = crf, lossless
        self.frames_written = 0
        allowed = [".mkv"] if lossless else list(_FORMATS)
        if self.path.suffix.lower() not in allowed:
            raise InputError(
                f"a {'lossless ' if lossless else ''}video is written as {', '.join(allowed)}, not {self.path}"
            )
        self._sound = sound
        self._partial = self.path.with_name(f".{self.path.stem}.partial-{os.getpid()}{self.path.suffix}")
        self._container: OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._track: _SoundTrack | None = None

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
            raise ValueError(f"frames to write must be uint8 (t, H, W, 3), {frames.dtype} {frames.shape} came")
        if not len(frames):
            return
        if self._container is None:
            self._open(frames.shape[1], frames.shape[2])
        assert self._stream is not None and self._container is not None
        if frames.shape[1:3] != (self._stream.height, self._stream.width):
            raise ValueError(f"frame size changed from {self._stream.width}x{self._stream.height} in {self.path}")
        for pixels in frames:
            self._container.mux(self._stream.encode(self._frame(pixels)))
            self.frames_written += 1
        if self._track is not None:
            self._track.write_until(self.frames_written / self.fps)

    def close(self) -> None:
        """Finishes the file and gives it its name. ValueError where no frame was written."""
        if self._container is None or self._stream is None:
            raise ValueError(f"no frame was written to {self.path}")
        try:
            self._container.mux(self._stream.encode(None))
            if self._track is not None:
                self._track.finish(self.frames_written / self.fps)
            self._container.close()
        except BaseException:
            self.abort()
            raise
        self._container = None
        os.replace(self._partial, self.path)

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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", format=_FORMATS[suffix], options=options)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from None
        try:
            self._stream = self._add_video(height, width)
            if self._sound is not None:
                self._track = _SoundTrack(self._container, self._sound, _COPIED.get(suffix))
        except BaseException:
            self.abort()
            raise

    def _add_video(self, height: int, width: int) -> av.VideoStream:
        assert self._container is not None
        stream = self._container.add_stream("ffv1" if self.lossless else "libx264", rate=self.fps)
        stream.width, stream.height = width, height
        stream.sample_aspect_ratio = self.tags.pixel_aspect
        if self.lossless:
            stream.pix_fmt = "bgr0"
            return stream
        stream.pix_fmt = "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
        # x264's macroblock tree is not deterministic in a process that has imported torch.
        stream.options = {"crf": str(self.crf), "preset": "medium", "x264-params": "mbtree=0"}
        context = stream.codec_context
        context.color_range = 1  # limited
        context.colorspace = _MATRIX[self.tags.color][0]
        if self.tags.color != "unspecified":
            context.color_primaries = context.color_trc = _MATRIX[self.tags.color][0]
        return stream

    def _frame(self, pixels: np.ndarray) -> av.VideoFrame:
        assert self._stream is not None
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = self.frames_written, 1 / self.fps
        if self.lossless:
            return frame.reformat(format="bgr0")
        matrix = _MATRIX[self.tags.color][1]
        return frame.reformat(format=self._stream.pix_fmt, dst_colorspace=matrix)


class _SoundTrack:
    """Hands a source's sound to the output piece by piece, in step with the frames."""

    def __init__(self, output: OutputContainer, sound: Sound, copied: set[str] | None) -> None:
        self._output, self._sound = output, sound
        try:
            self._input = av.open(str(sound.file), options={"protocol_whitelist": "file"})
            source = self._input.streams.audio[0]
        except (FFmpegError, IndexError) as error:
            raise InputError(f"no sound can be read from {sound.file} ({type(error).__name__})") from None
        if copied is None or source.codec_context.name in copied:
            self._stream = output.add_stream_from_template(source)
            self._packets = self._copied(source)
        else:
            self._stream = output.add_stream("aac", rate=source.codec_context.sample_rate)
            self._stream.bit_rate = 192_000
            self._packets = self._encoded(source)
        self._waiting: av.Packet | None = None

    def write_until(self, seconds: Fraction) -> None:
        """Writes the packets that begin before `seconds` of the output."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or _begin(packet) >= seconds:
                return
            self._waiting = None
            self._output.mux(packet)

    def finish(self, seconds: Fraction) -> None:
        """Writes the rest, as far as the frames go."""
        self.write_until(seconds)
        self.close()

    def close(self) -> None:
        self._packets.close()
        self._input.close()

    def _begin_reading(self, source: av.AudioStream) -> None:
        if self._sound.start > 0:
            self._input.seek(int(self._sound.start * av.time_base))

    def _copied(self, source: av.AudioStream) -> Generator[av.Packet]:
        self._begin_reading(source)
        unit = source.time_base or Fraction(1, source.sample_rate)
        shift = round(self._sound.start / unit)
        for packet in self._input.demux(source):
            if packet.pts is None or packet.size == 0 or packet.pts < shift:
                continue
            if (packet.pts - shift) * unit >= self._sound.duration:
                return
            packet.pts = packet.dts = packet.pts - shift
            packet.stream = self._stream
            yield packet

    def _encoded(self, source: av.AudioStream) -> Generator[av.Packet]:
        self._begin_reading(source)
        rate = source.codec_context.sample_rate
        first, count = round(self._sound.start * rate), round(self._sound.duration * rate)
        resampler = av.AudioResampler(format="fltp", layout=source.codec_context.layout.name, rate=rate)
        for decoded in self._input.decode(source):
            for frame in resampler.resample(decoded):
                at = round((frame.pts or 0) * (frame.time_base or Fraction(1, rate)) * rate) - first
                if at >= count:
                    break
                part = _part(frame, at, count)
                if part is not None:
                    yield from self._stream.encode(part)
            else:
                continue
            break
        yield from self._stream.encode(None)


def _begin(packet: av.Packet) -> Fraction:
    return (packet.pts or 0) * (packet.time_base or Fraction(1))


def _part(frame: av.AudioFrame, at: int, count: int) -> av.AudioFrame | None:
    """The samples of a frame that begins `at` samples after the start and lie inside [0, count)."""
    skip, keep = max(0, -at), min(frame.samples, count - at)
    if skip >= keep:
        return None
    samples = np.ascontiguousarray(frame.to_ndarray()[:, skip:keep], dtype=np.float32)
    part = av.AudioFrame.from_ndarray(samples, format="fltp", layout=frame.layout.name)
    part.sample_rate = frame.sample_rate
    part.pts, part.time_base = at + skip, Fraction(1, frame.sample_rate)
    return part
