"""Makes the files that people have and test sets lack: odd sound, HDR, mirrored, uneven. PyAV alone.

python tests/awkward_files.py FOLDER      # all of them, to look at or to try elsewhere
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH, COUNT, FPS = 64, 96, 24, 24
# When each frame of the phone's video is shown, in milliseconds: it slows down in the dark, and stands still once.
PHONE_TIMES = np.cumsum([0, *[33] * 7, 400, *[67] * 8, *[34] * 7]).tolist()


def picture(number: int) -> np.ndarray:
    """A soft scene without symmetry, uint8 RGB: a bright corner, colour from left to right, a bar that moves."""
    y, x = np.linspace(0, 1, HEIGHT)[:, None], np.linspace(0, 1, WIDTH)[None]
    rgb = np.stack(np.broadcast_arrays(60 + 120 * x, 70 + 90 * y, 150 - 80 * x * y), -1)
    rgb[: HEIGHT // 4, : WIDTH // 4] = (230, 220, 200)
    at = 8 + 3 * number % (WIDTH - 16)
    rgb[HEIGHT // 2 : HEIGHT // 2 + 8, at : at + 8] = (200, 40, 40)
    return rgb.round().astype(np.uint8)


def video(
    path: Path,
    *,
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    turn: dict[str, float | bool] | None = None,
    sound: Callable[[av.container.OutputContainer], av.AudioStream] | None = None,
    samples: np.ndarray | None = None,
) -> Path:
    """COUNT pictures as H.264 in BT.709, with the `samples` (channels, n) int16 as the stream that `sound` adds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS if times is None else 1000)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "8", **(options or {})}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        if turn:
            stream.set_display_rotation(**turn)
        track = sound(container) if sound else None
        for k in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(k), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=1)
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None and samples is not None:
            add_samples(container, track, samples)
    return path


def add_samples(container: av.container.OutputContainer, track: av.AudioStream, samples: np.ndarray) -> None:
    layout = track.codec_context.layout.name
    packed = np.ascontiguousarray(samples.T.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
    frame.sample_rate, frame.pts = track.codec_context.sample_rate, 0
    container.mux(track.encode(frame))
    container.mux(track.encode(None))


def tones(channels: int, rate: int, seconds: float = 1.0) -> np.ndarray:
    """Another tone on each channel, int16 (channels, n): 300, 400, ... Hz; (the LFE gets 60 Hz)."""
    time = np.arange(int(rate * seconds)) / rate
    pitches = [60 if channels > 5 and k == 3 else 300 + 100 * k for k in range(channels)]
    return (np.stack([np.sin(2 * np.pi * pitch * time) for pitch in pitches]) * 8000).astype(np.int16)


def with_sound(path: Path, codec: str, layout: str, rate: int) -> Path:
    channels = av.AudioLayout(layout).nb_channels
    return video(
        path,
        sound=lambda container: container.add_stream(codec, rate=rate, layout=layout),
        samples=tones(channels, rate),
    )


def wide(
    path: Path, *, transfer: int, primaries: int = 9, matrix: int = 9, height: int = HEIGHT, width: int = WIDTH
) -> Path:
    """Steps of brightness from left to right, 10 bits, FFV1 (so that codes are exact): `wide_codes`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p10le"
        context = stream.codec_context
        context.color_range, context.colorspace = 1, matrix
        context.color_primaries, context.color_trc = primaries, transfer
        for _ in range(3):
            frame = av.VideoFrame(width, height, "yuv444p10le")
            for plane, codes in zip(frame.planes, wide_codes(height, width)):
                padded = np.zeros((height, plane.line_size // 2), np.uint16)
                padded[:, :width] = codes
                plane.update(padded.tobytes())
            frame.color_range, frame.colorspace = 1, matrix
            frame.color_primaries, frame.color_trc = primaries, transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def wide_codes(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(3, height, width) 10-bit codes: twelve greys above, twelve reds below."""
    codes = np.full((3, height, width), 512, np.uint16)
    codes[0] = np.repeat(np.linspace(64, 700, 12).round().astype(np.uint16), width // 12)
    codes[2, height // 2 :] = 600
    return codes


def edit_list(path: Path, hidden: int = 6) -> Path:
    """The first pictures are before the time 0, which mp4 tells by an edit list."""
    whole = video(path.with_name("whole.mp4"), options={"g": "12"})
    with av.open(str(whole)) as given, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        shift = round(Fraction(hidden, FPS) / given.streams.video[0].time_base)
        for packet in given.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    return path


AWKWARD: dict[str, Callable[[Path], Path]] = {
    "surround 7.1.mkv": lambda path: with_sound(path, "pcm_s16le", "7.1", 48000),
    "surround 7.1.mov": lambda path: with_sound(path, "pcm_s16le", "7.1", 48000),
    "surround 5.1.mov": lambda path: with_sound(path, "pcm_s16le", "5.1", 48000),
    "mono.mov": lambda path: with_sound(path, "pcm_s16le", "mono", 44100),
    "192 kHz.mov": lambda path: with_sound(path, "pcm_s16le", "stereo", 192000),
    "adpcm.mov": lambda path: with_sound(path, "adpcm_ima_qt", "stereo", 44100),
    "hdr10.mkv": lambda path: wide(path, transfer=16),
    "hlg.mkv": lambda path: wide(path, transfer=18),
    "bt2020.mkv": lambda path: wide(path, transfer=14),
    "ictcp.mkv": lambda path: wide(path, transfer=16, matrix=14),
    "mirrored.mp4": lambda path: video(path, turn={"degrees": 0, "hflip": True}),
    "upside down.mp4": lambda path: video(path, turn={"degrees": 0, "vflip": True}),
    "selfie.mp4": lambda path: video(path, turn={"degrees": 90, "hflip": True}),
    "selfie left.mp4": lambda path: video(path, turn={"degrees": -90, "hflip": True}),
    "rotated.mp4": lambda path: video(path, turn={"degrees": -90}),
    "phone.mp4": lambda path: video(
        path,
        times=PHONE_TIMES,
        sound=lambda container: container.add_stream("aac", rate=48000, layout="mono"),
        samples=tones(1, 48000, PHONE_TIMES[-1] / 1000),
    ),
    "edit list.mp4": edit_list,
    "open gop.mp4": lambda path: video(path, options={"g": "8", "x264-params": "open-gop=1:bframes=3"}),
}


def make_all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in AWKWARD.items():
        make(folder / name)
        print(folder / name)


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
