"""The sound of a result: copied from its source where the container holds it, else AAC of the same channels."""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from videopainter.data.clip import Sound
from videopainter.errors import InputError

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_PCM = {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be"}
# What players of a container expect; .mkv may hold all that libav can put there.
_COPIED = {
    ".mp4": {"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "flac", "alac"},
    ".mov": {"aac", "mp3", "mp3float", "ac3", "eac3", "alac", *_PCM},
}
_BITS_PER_CHANNEL = 96_000
# Samples of all channels side by side: PyAV 18 does not handle eight planes (IndexError, or memory that is not its).
_PACKED = "flt"
_USUAL = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# What is tried where AAC does not have the source's channels.
_FEWER = ("7.1", "5.1", "stereo", "mono")


@dataclass(frozen=True, kw_only=True)
class SoundPlan:
    """What becomes of a sound: `layout` and `rate` of the AAC it is encoded to, None where it is copied.

    `note` says it in a few words.
    """

    layout: str | None = None
    rate: int | None = None
    note: str


def plan_sound(sound: Sound, suffix: str) -> SoundPlan:
    """How `sound` goes into a file that ends in `suffix`; InputError, naming the way out, where it cannot.

    Decodes one packet at most, and opens the encoder: what passes here does not fail after the denoising.
    """
    with _opened(sound.file) as source:
        stream = source.streams.audio[0]
        context = stream.codec_context
        if context is None:
            raise _refusal(sound.file, "of a kind that is not known here")
        kind = f"{context.name} {_layout_of(context.layout)} {context.sample_rate} Hz"
        if _may_copy(source, suffix):
            return SoundPlan(note=f"copied ({kind})")
        try:
            next(source.decode(stream), None)
        except FFmpegError as error:
            raise _refusal(sound.file, f"({kind}) that cannot be decoded: {error.strerror}") from None
        layout, rate = _encodable(sound.file, stream)
    target = f"aac {layout} {rate} Hz"
    return SoundPlan(layout=layout, rate=rate, note=f"{kind} becomes {target}: {suffix} does not take it as it is")


def _refusal(file: Path, what: str) -> InputError:
    return InputError(f"--sound auto: sound {what}; leave it out with --sound drop: {file}")


def _opened(file: Path) -> InputContainer:
    try:
        container = av.open(str(file), options={"protocol_whitelist": "file"})
    except FFmpegError as error:
        raise InputError(f"sound: expected some that can be read, got {type(error).__name__}, in {file}") from None
    if not container.streams.audio:
        container.close()
        raise InputError(f"sound: expected some, got none, in {file}")
    return container


def _may_copy(source: InputContainer, suffix: str) -> bool:
    """Whether the container takes the packets: asked of libav itself, by writing the first ones into memory."""
    stream = source.streams.audio[0]
    allowed = _COPIED.get(suffix)
    if allowed is not None and stream.codec_context.name not in allowed:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=FORMATS[suffix]) as trial:
            copy = trial.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.size and packet.pts is not None:
                    packet.stream = copy
                    packet.pts = packet.dts = 0
                    trial.mux(packet)
                    break
            return True
    except (FFmpegError, ValueError):
        return False
    finally:
        source.seek(0)


def _encodable(file: Path, stream: av.AudioStream) -> tuple[str, int]:
    """The layout and rate nearest to the source's that the encoder opens with and samples can be brought to."""
    layout, rate = _layout_of(stream.codec_context.layout), stream.codec_context.sample_rate
    rates = av.Codec("aac", "w").audio_rates or [rate]
    nearest = min(rates, key=lambda known: (abs(known - rate), -known))
    channels = stream.codec_context.layout.nb_channels
    fewer = [name for name in _FEWER if av.AudioLayout(name).nb_channels <= channels]
    # Channels without places cannot be mixed: libav would take the first ones.
    for target in [layout, *fewer] if not layout.endswith(" channels") else []:
        try:
            _trial_encoder(target, nearest)
            silence = _frame(np.zeros((1, 2048 * channels), np.float32), layout, rate)
            av.AudioResampler(format=_PACKED, layout=target, rate=nearest).resample(silence)
        except (FFmpegError, ValueError):
            continue
        return target, nearest
    raise _refusal(file, f"of {layout} that cannot be brought to AAC's channels")


def _trial_encoder(layout: str, rate: int) -> None:
    encoder = av.AudioCodecContext.create("aac", "w")
    encoder.layout, encoder.sample_rate, encoder.format = layout, rate, "fltp"
    encoder.time_base = Fraction(1, rate)
    encoder.bit_rate = _BITS_PER_CHANNEL * av.AudioLayout(layout).nb_channels
    encoder.open()


class SoundTrack:
    """Hands a source's sound to the output piece by piece, in step with the frames."""

    def __init__(self, output: OutputContainer, sound: Sound, suffix: str) -> None:
        plan = plan_sound(sound, suffix)
        self._output, self._sound = output, sound
        self._input = _opened(sound.file)
        source = self._input.streams.audio[0]
        if plan.layout is None or plan.rate is None:
            self._stream = output.add_stream_from_template(source)
            self._packets = self._copied(source)
        else:
            self._stream = output.add_stream("aac", rate=plan.rate, layout=plan.layout)
            self._stream.bit_rate = _BITS_PER_CHANNEL * av.AudioLayout(plan.layout).nb_channels
            self._packets = self._encoded(source, plan.layout, plan.rate)
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
        """Leaves the source."""
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

    def _encoded(self, source: av.AudioStream, layout: str, rate: int) -> Generator[av.Packet]:
        self._begin_reading(source)
        first, count = round(self._sound.start * rate), round(self._sound.duration * rate)
        resampler = av.AudioResampler(format=_PACKED, layout=layout, rate=rate)
        for decoded in chain(self._input.decode(source), [None]):
            for frame in resampler.resample(_placed(decoded)):
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
    channels = frame.layout.nb_channels
    samples = np.ascontiguousarray(frame.to_ndarray()[:, skip * channels : keep * channels], dtype=np.float32)
    part = _frame(samples, frame.layout.name, frame.sample_rate)
    part.pts = at + skip
    return part


def _frame(samples: np.ndarray, layout: str, rate: int, format: str = _PACKED) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples, format=format, layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return frame


def _layout_of(layout: av.AudioLayout) -> str:
    """Its name, or the usual one for as many channels where the file does not say where they belong (Matroska)."""
    return _USUAL.get(layout.nb_channels, layout.name) if layout.name.endswith(" channels") else layout.name


def _placed(frame: av.AudioFrame | None) -> av.AudioFrame | None:
    """The same samples, with the usual places of so many channels where it has none."""
    if frame is None or _layout_of(frame.layout) == frame.layout.name:
        return frame
    if frame.format.is_planar:
        frame = av.AudioResampler(format=frame.format.packed.name).resample(frame)[0]
    placed = _frame(frame.to_ndarray(), _layout_of(frame.layout), frame.sample_rate, frame.format.name)
    placed.pts, placed.time_base = frame.pts, frame.time_base
    return placed
