"""Reading and writing video: every frame in its place, exact rates, whole files or one clear line."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip, PickedFrames, Sound, VideoTags, tags_of
from videopainter.data.rates import parse_fps, resample, resample_indices
from videopainter.data.video.reader import VideoWriter, open_video, read_image, sound_of, write_image
from videopainter.errors import InputError

NTSC = Fraction(30000, 1001)
BITS = 9


def numbered(count: int, height: int = 64, width: int = 144) -> np.ndarray:
    """Moving frames whose top row of 16-pixel squares spells the frame's number in black and white."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    ramp = np.linspace(30, 220, width).astype(np.uint8)
    for k in range(count):
        frames[k, 16:] = np.roll(ramp, 3 * k)[None, :, None]
        for bit in range(BITS):
            frames[k, :16, 16 * bit : 16 * bit + 16] = 255 * (k >> bit & 1)
    return frames


def number_of(frame: np.ndarray) -> int:
    return sum(int(frame[4:12, 16 * bit + 4 : 16 * bit + 12].mean() > 127) << bit for bit in range(BITS))


def encode(
    path: Path, frames: np.ndarray, *, codec: str = "libx264", fps: Fraction | int = NTSC, **options: str
) -> Path:
    pix_fmt = options.pop("pix_fmt", "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, *, shift: int = 0, rotation: int = 0, **options: str) -> Path:
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        if rotation:
            stream.set_display_rotation(rotation)
        for packet in given.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                container.mux(packet)
    return target


CODECS = {
    "open_gop.mp4": {"codec": "libx264", "g": "12", "x264-params": "open-gop=1:bframes=3"},
    "intra_refresh.mp4": {"codec": "libx264", "g": "12", "x264-params": "intra-refresh=1:bframes=0"},
    "hevc.mp4": {"codec": "libx265", "x265-params": "log-level=-1:keyint=12"},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "bf": "2", "g": "12"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "ffv1.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "stream.ts": {"codec": "libx264", "g": "12"},
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_gives_the_asked_frames_in_any_order(name: str, tmp_path: Path) -> None:
    frames = open_video(encode(tmp_path / name, numbered(40), **CODECS[name]))
    assert (len(frames), frames.fps, frames.height, frames.width) == (40, NTSC, 64, 144)
    order = random.Random(0)
    straight = frames.read(0, 40)
    assert [number_of(frame) for frame in straight] == list(range(40))
    for _ in range(25):
        start = order.randrange(40)
        stop = min(40, start + order.randrange(1, 6))
        np.testing.assert_array_equal(frames.read(start, stop), straight[start:stop])


@pytest.mark.parametrize("fps", [8, 25, Fraction(24000, 1001), NTSC, Fraction(60000, 1001), Fraction(7, 3)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_rates_are_written_and_read_exactly(fps: Fraction, suffix: str, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / f"out{suffix}", fps=fps) as writer:
        writer.write(numbered(9))
    frames = open_video(tmp_path / f"out{suffix}")
    assert (len(frames), frames.fps) == (9, fps)


@pytest.mark.parametrize("size", [(241, 351), (320, 180), (1, 1), (2, 2), (17, 16)])
def test_any_size_keeps_its_size(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.full((3, *size, 3), (200, 90, 40), np.uint8)
    with VideoWriter(tmp_path / "out.mp4", fps=8) as writer:
        writer.write(pixels[:1])
        writer.write(pixels[1:])
    read = open_video(tmp_path / "out.mp4").read(0, 3)
    assert read.shape == pixels.shape
    assert np.abs(read.astype(int) - pixels).max() <= 6


@pytest.mark.parametrize("color", ["bt709", "smpte170m", "unspecified"])
def test_colours_and_tags_survive(color: str, tmp_path: Path) -> None:
    pixels = np.zeros((2, 32, 64, 3), np.uint8)
    pixels[:, :, :32], pixels[:, :, 32:] = (220, 30, 30), (20, 200, 60)
    tags = VideoTags(color=color, pixel_aspect=Fraction(4, 3))
    with VideoWriter(tmp_path / "out.mp4", fps=8, tags=tags) as writer:
        writer.write(pixels)
    frames = open_video(tmp_path / "out.mp4")
    assert tags_of(frames) == tags
    flat = frames.read(0, 2)[:, 4:-4, [8, 20, 44, 56]].astype(int)
    assert np.abs(flat - pixels[:, 4:-4, [8, 20, 44, 56]]).max() <= 6


def test_lossless_is_equal_to_the_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 33, 47, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "out.mkv", fps=NTSC, lossless=True) as writer:
        writer.write(noise)
    np.testing.assert_array_equal(open_video(tmp_path / "out.mkv").read(0, 5), noise)
    with pytest.raises(InputError, match=r"\.mkv"):
        VideoWriter(tmp_path / "out.mp4", fps=8, lossless=True)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(rotation: int, tmp_path: Path) -> None:
    frame = np.zeros((4, 48, 64, 3), np.uint8)
    frame[:, :24, :32] = 250
    flat = encode(tmp_path / "flat.mp4", frame)
    turned = open_video(remux(flat, tmp_path / "turned.mp4", rotation=rotation))
    expected = np.rot90(frame[0], rotation // 90)
    assert (turned.height, turned.width) == expected.shape[:2]
    assert np.abs(turned.read(1, 2)[0].astype(int) - expected).mean() < 8


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path: Path) -> None:
    source = encode(tmp_path / "whole.mp4", numbered(40), g="30")
    with av.open(str(source)) as container:
        unit = container.streams.video[0].time_base
    cut = open_video(remux(source, tmp_path / "cut.mp4", shift=round(10 / NTSC / unit)))
    assert len(cut) == 30
    assert [number_of(cut.read(k, k + 1)[0]) for k in (0, 29, 3, 19, 20, 21)] == [10, 39, 13, 29, 30, 31]


def test_a_stream_cut_in_the_middle_begins_with_its_first_whole_picture(tmp_path: Path) -> None:
    data = encode(tmp_path / "whole.ts", numbered(60), g="20").read_bytes()
    (tmp_path / "late.ts").write_bytes(data[188 * (len(data) // 188 // 5) :])
    late = open_video(tmp_path / "late.ts")
    numbers = [number_of(frame) for frame in late.read(0, len(late))]
    assert 0 < numbers[0] <= 20
    assert numbers == list(range(numbers[0], 60))


def test_variable_rate_keeps_every_frame_and_the_mean_rate(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "vfr.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 144, 64, "yuv420p"
        time = 0
        for k, pixels in enumerate(numbered(31)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            time += 30 if k % 2 else 70
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = open_video(tmp_path / "vfr.mp4")
    assert [number_of(frame) for frame in frames.read(0, 31)] == list(range(31))
    assert float(frames.fps) == pytest.approx(20, rel=0.03)


def test_reading_a_long_video_does_not_grow_memory(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", np.tile(numbered(50, 240, 320), (10, 1, 1, 1)), preset="ultrafast")
    program = """
import sys
from videopainter.data.video.reader import open_video
def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6
frames = open_video(sys.argv[1])
for _ in range(4):
    for start in range(0, 440, 36): frames.read(start, start + 49)
    print(rss())
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    first, *_, last = map(float, run.stdout.split())
    assert last - first < 40, run.stdout  # all frames would be 115 MB


def test_a_reader_works_in_another_process(tmp_path: Path) -> None:
    frames = open_video(encode(tmp_path / "v.mp4", numbered(20)))
    frames.read(0, 3)
    copy = pickle.loads(pickle.dumps(frames))
    assert number_of(copy.read(7, 8)[0]) == 7
    if hasattr(os, "fork") and (child := os.fork()) == 0:
        os._exit(number_of(frames.read(11, 12)[0]))
    elif hasattr(os, "fork"):
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    assert number_of(frames.read(3, 4)[0]) == 3


# -- folders and images


def test_a_folder_of_frames_is_a_video_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "frames with space é"
    for k in (1, 2, 10):
        write_image(folder / f"{k}.png", np.full((6, 8, 3), k, np.uint8))
    (folder / "notes.txt").write_text("not a frame")
    frames = open_video(folder)
    assert (len(frames), frames.fps, frames.height, frames.width) == (3, 24, 6, 8)
    assert frames.read(0, 3)[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert open_video(folder, folder_fps="23.976").fps == Fraction(24000, 1001)
    write_image(folder / "11.png", np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(InputError, match=r"got 9x6, in .*11\.png"):
        open_video(folder)


def test_one_image_is_one_frame_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), (9, 9, 9)).save(tmp_path / "photo.jpg", exif=exif)
    frames = open_video(tmp_path / "photo.jpg")
    assert frames.read(0, 1).shape == (1, 8, 4, 3)
    assert read_image(tmp_path / "photo.jpg").shape == (8, 4, 3)


# -- mistakes


def broken_files(folder: Path) -> dict[str, Path]:
    whole = encode(folder / "whole.mp4", numbered(40), g="10")
    fast = remux(whole, folder / "fast.mp4", movflags="+faststart")
    files = {"whole": whole, "fast": fast}
    for name, source in (
        ("mp4", whole),
        ("fast", fast),
        ("mkv", remux(whole, folder / "whole.mkv")),
        ("webm", encode(folder / "whole.webm", numbered(20), codec="libvpx-vp9")),
        ("avi", encode(folder / "whole.avi", numbered(20), codec="mpeg4")),
    ):
        data = source.read_bytes()
        for percent in (10, 50, 95):
            files[f"{name} at {percent} %"] = folder / f"cut {percent}{source.name}"
            files[f"{name} at {percent} %"].write_bytes(data[: len(data) * percent // 100])
    return files


def test_cut_files_are_found_out_at_once(tmp_path: Path) -> None:
    files = broken_files(tmp_path)
    assert len(open_video(files.pop("whole"))) == len(open_video(files.pop("fast"))) == 40
    for name, file in files.items():
        with pytest.raises(InputError, match=r"cut off|cannot be|can be read|not finished") as error:
            open_video(file)
        assert str(file) in str(error.value), name
        assert "\n" not in str(error.value)


def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path) -> None:
    cases = {
        "text.mp4": b"hello world\n" * 500,
        "empty.mp4": b"",
        "script.txt": b"hello world\n" * 500,
        "noise.mkv": bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
        "broken.png": b"\x89PNG\r\n\x1a\n" + b"0" * 50,
        "playlist.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "empty folder").mkdir()
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        beep(container, container.add_stream("aac", rate=44100, layout="mono"), seconds=1)
    for name in [*cases, "sound.m4a", "empty folder", "missing.mp4"]:
        with pytest.raises(InputError) as error:
            open_video(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_libav_says_nothing_on_stderr(tmp_path: Path) -> None:
    cut = broken_files(tmp_path)["fast at 50 %"]
    program = "import sys; from videopainter.data.video.reader import open_video\ntry: open_video(sys.argv[1])\n"
    program += "except ValueError: pass"
    run = subprocess.run([sys.executable, "-c", program, str(cut)], capture_output=True, text=True, check=True)
    assert run.stderr == ""


def test_damage_inside_is_named_when_it_is_met(tmp_path: Path) -> None:
    """The index and both ends of this file are whole."""
    path = encode(tmp_path / "v.mp4", numbered(60), g="10", bf="0")
    data = bytearray(path.read_bytes())
    start, size = data.index(b"mdat"), len(data)
    data[start + size // 4 : start + size // 2] = bytes(size // 2 - size // 4)
    path.write_bytes(data)
    assert number_of(open_video(path).read(59, 60)[0]) == 59
    with pytest.raises(InputError, match=r"expected 60 frames, got frame \d+ that cannot be decoded"):
        read_all(path)


def read_all(path: Path) -> np.ndarray:
    frames = open_video(path)
    return frames.read(0, len(frames))


# -- writing


def write_all(path: Path, *chunks: np.ndarray | Exception, sound: Sound | None = None) -> None:
    with VideoWriter(path, fps=8, sound=sound) as writer:
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            writer.write(chunk)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    silent = encode(tmp_path / "silent.mp4", numbered(3))
    out = tmp_path / "out.mp4"
    with pytest.raises(RuntimeError, match="boom"):
        write_all(out, numbered(3), RuntimeError("boom"))
    with pytest.raises(ValueError, match="expected some, got none"):
        write_all(out)
    with pytest.raises(ValueError, match="expected 144x64, got 144x32"):
        write_all(out, numbered(3), numbered(3, height=32))
    with pytest.raises(InputError, match="sound: expected some, got none"):
        write_all(out, numbered(3), sound=Sound(file=silent, start=Fraction(0), duration=Fraction(1)))
    assert [p.name for p in tmp_path.iterdir()] == ["silent.mp4"]


def test_an_old_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    with VideoWriter(out, fps=8) as writer:
        writer.write(numbered(3))
        assert out.read_bytes() == b"old"
    assert len(open_video(out)) == 3
    with pytest.raises(InputError, match="webm"):
        VideoWriter(tmp_path / "out.webm", fps=8)


# -- sound


def beep(container: av.container.OutputContainer, stream: av.AudioStream, *, seconds: int) -> None:
    """A 440 Hz tone in every odd second."""
    time = np.arange(seconds * stream.rate) / stream.rate
    tone = np.sin(2 * np.pi * 440 * time) * (np.floor(time) % 2 == 1)
    frame = av.AudioFrame.from_ndarray((tone * 16000).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = stream.rate, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def beeping(path: Path, codec: str = "aac") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 144, 64, "yuv420p"
        sound = container.add_stream(codec, rate=44100, layout="mono")
        for pixels in numbered(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        beep(container, sound, seconds=4)
    return path


def loud_seconds(path: Path) -> tuple[float, float]:
    """When the first tone begins and the last one ends."""
    loud: list[np.ndarray] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=44100)
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                times = float(frame.pts * frame.time_base) + np.arange(frame.samples) / 44100
                loud.append(times[np.abs(frame.to_ndarray()[0]) > 0.1])
    times = np.concatenate(loud)
    return float(times[0]), float(times[-1])


@pytest.mark.parametrize(("source", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac"), ("a.mov", "pcm_s16le")])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_stays_in_step(source: str, codec: str, suffix: str, tmp_path: Path) -> None:
    frames = open_video(beeping(tmp_path / source, codec))
    clip = Clip(name="beeps", frames=frames, masks=ArrayMasks(np.zeros((100, 64, 144), bool)), sound=sound_of(frames))
    for part, begin, end in ((clip, 1.0, 4.0), (clip.cut(13, 88), 0.48, 3.0), (resample(clip, 8).cut(4, 32), 0.5, 3.5)):
        out = tmp_path / f"out{suffix}"
        with VideoWriter(out, fps=part.fps, sound=part.sound) as writer:
            for start in range(0, len(part), 10):
                writer.write(part.frames.read(start, min(start + 10, len(part))))
        first, last = loud_seconds(out)
        assert first == pytest.approx(begin, abs=0.02)
        assert last == pytest.approx(end, abs=0.04)
        assert len(open_video(out)) == len(part)


def test_a_silent_source_has_no_sound(tmp_path: Path) -> None:
    assert sound_of(open_video(encode(tmp_path / "v.mp4", numbered(3)))) is None
    assert sound_of(ArrayFrames(numbered(3))) is None


# -- rates


def test_rates_people_write() -> None:
    assert parse_fps("23.976") == parse_fps(23.98) == parse_fps("24000/1001") == Fraction(24000, 1001)
    assert parse_fps("29.97") == NTSC
    assert parse_fps(8) == parse_fps("8") == parse_fps(8.0) == 8
    assert parse_fps(12.5) == Fraction(25, 2)
    for wrong in ("fast", "", "-3", "1/0", float("nan"), float("inf")):
        with pytest.raises(InputError):
            parse_fps(wrong)


@pytest.mark.parametrize("fps", [NTSC, Fraction(24000, 1001), Fraction(30), Fraction(16), Fraction(25), Fraction(9)])
@pytest.mark.parametrize("target", [8, 5, "23.976", "7/3"])
@pytest.mark.parametrize("count", [1, 2, 3, 49, 174])
def test_resampling_takes_the_nearest_frame_and_keeps_the_duration(fps: Fraction, target: str, count: int) -> None:
    indices, rate = resample_indices(count, fps, target)
    if parse_fps(target) >= fps:
        assert rate == fps
        assert indices.tolist() == list(range(count))
        return
    assert rate == parse_fps(target)
    assert (np.diff(indices) > 0).all()
    for k, index in enumerate(indices.tolist()):
        distances = [abs(i / fps - k / rate) for i in range(count)]
        assert distances[index] == min(distances)
    assert abs(len(indices) / rate - count / fps) <= 1 / rate


def test_rates_as_in_the_benchmark() -> None:
    assert len(resample_indices(174, NTSC, 8)[0]) == 47  # 5.8 s
    assert resample_indices(7, Fraction(16), 8)[0].tolist() == [0, 2, 4, 6]
    assert resample_indices(5, Fraction(16), 0)[1] == 16


def test_picked_frames_are_the_sources(tmp_path: Path) -> None:
    frames = open_video(encode(tmp_path / "v.mp4", numbered(40)))
    picked = PickedFrames(frames, np.array([0, 4, 5, 6, 30, 39]), Fraction(8))
    assert [number_of(frame) for frame in picked.read(1, 6)] == [4, 5, 6, 30, 39]
    assert picked.read(2, 2).shape == (0, 64, 144, 3)
    assert tags_of(picked) == tags_of(frames)


def test_clips_check_what_does_not_fit() -> None:
    frames = ArrayFrames(numbered(4))
    with pytest.raises(InputError, match="expected 4 masks, one for each frame, got 3"):
        Clip(name="x", frames=frames, masks=ArrayMasks(np.zeros((3, 64, 144), bool)))
    with pytest.raises(InputError, match="expected masks of 144x64 pixels, as the frames, got 144x60"):
        Clip(name="x", frames=frames, masks=ArrayMasks(np.zeros((4, 60, 144), bool)))
    with pytest.raises(InputError, match="uint8"):
        ArrayFrames(np.zeros((4, 8, 8, 3), np.float32))
