"""Files that people have and test sets lack: each is read, written and heard right, or ends in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from awkward_files import AWKWARD, COUNT, FPS, HEIGHT, PHONE_TIMES, WIDTH, picture, tones, wide_codes
from awkward_files import wide as wide_file

from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip, Sound, VideoTags, duration_of, notes_of, times_of
from videopainter.data.rates import resample
from videopainter.data.video import tone_table
from videopainter.data.video.conversion import RgbConverter, YuvConverter
from videopainter.data.video.reader import VideoFrames, VideoWriter, open_video, sound_of
from videopainter.data.video.sound import plan_sound
from videopainter.errors import InputError
from videopainter.files import user_cache
from videopainter.runs.samples import source_notes

CLIPS = Path(os.environ.get("VIDEOPAINTER_CLIPS", Path(__file__).parents[2] / "shared" / "clips"))
PEXELS = CLIPS / "vpbench/pexels/pexels/raw_video/000000112/000000112319_6693826.mp4"
FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.xdist_group("hdr")  # one process makes the tables of colours: seconds each


@pytest.fixture(scope="session")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("awkward")

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else AWKWARD[name](path)

    return get


def opened(path: Path) -> VideoFrames:
    frames = open_video(path)
    assert isinstance(frames, VideoFrames)
    return frames


def clip_of(frames: VideoFrames) -> Clip:
    holes = ArrayMasks(np.zeros((len(frames), frames.height, frames.width), bool))
    return Clip(name="clip", frames=frames, masks=holes, sound=sound_of(frames))


def written(clip: Clip, path: Path) -> VideoFrames:
    with VideoWriter(
        path, fps=clip.fps, tags=clip.frames.tags, times=times_of(clip.frames), sound=clip.sound
    ) as writer:
        writer.write(clip.frames.read(0, len(clip)))
    return opened(path)


# -- colour


def exact_rgb(codes: np.ndarray, *, matrix: int, full: bool) -> np.ndarray:
    """RGB of 8-bit Y, Cb, Cr (3, ...) by the standards' formulas."""
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}[matrix]
    y, u, v = codes.astype(float)
    y, u, v = (y, u - 128, v - 128) if full else ((y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224)
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1)


@pytest.mark.parametrize("format", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize(("matrix", "full"), [(1, False), (6, False), (1, True), (6, True)])
def test_pictures_are_read_as_the_standards_say(format: str, matrix: int, full: bool) -> None:
    draw = np.random.default_rng(0)
    errors = []
    for _ in range(12):
        codes = draw.integers([70, 100, 100], [180, 156, 156])
        frame = av.VideoFrame(32, 16, format)
        for plane, code in zip(frame.planes, codes):
            plane.update(np.full(plane.buffer_size, code, np.uint8).tobytes())
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        errors.append(RgbConverter().convert(frame)[8, 16] - exact_rgb(codes, matrix=matrix, full=full))
    assert np.abs(np.mean(errors)) < 0.15
    assert np.abs(errors).max() <= 1.01


def soft_noise(count: int = 4) -> np.ndarray:
    """Smooth colours with a little grain, uint8 (count, 96, 128, 3)."""
    y, x = np.linspace(0, 1, 96)[:, None], np.linspace(0, 1, 128)[None]
    scene = np.stack(np.broadcast_arrays(60 + 130 * x, 80 + 90 * y, 170 - 100 * x * y), -1)
    grain = np.random.default_rng(1).normal(0, 2, (count, 96, 128, 1))
    return (scene + grain).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_writing_and_reading_alone_leave_brightness_and_colour_where_they_are(matrix: str) -> None:
    frames = soft_noise()
    pictures, rgb = YuvConverter("yuv420p", matrix), RgbConverter()
    now = list(frames)
    for generation in range(10):
        now = [rgb.convert(pictures.convert(pixels)) for pixels in now]
        shift = np.stack(now).astype(float) - frames
        assert np.abs(shift.mean((0, 1, 2))).max() < 0.1, generation
    assert psnr(np.stack(now), frames) > 50


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float32) - b) ** 2)))


def test_colour_stays_in_its_place_over_generations(tmp_path: Path) -> None:
    """H.264's colour lies at the left of its two pixels: written in their middle it moves half a pixel each time."""
    y, x = np.mgrid[:64, :128]
    blob = np.exp(-(((x - 63.5) / 6) ** 2) - ((y - 31.5) / 6) ** 2)[..., None]
    frames = (128 + blob * (60, -30, 0)).round().astype(np.uint8)[None]
    for _ in range(4):
        with VideoWriter(tmp_path / "v.mp4", fps=8, crf=1) as writer:
            writer.write(frames)
        frames = open_video(tmp_path / "v.mp4").read(0, 1)
    colour = np.abs(frames[0, ..., 0].astype(float) - frames[0, ..., 1])
    assert (colour * x).sum() / colour.sum() == pytest.approx(63.5, abs=0.15)


@pytest.mark.skipif(not PEXELS.exists(), reason="real clips are not at VIDEOPAINTER_CLIPS")
def test_a_real_clip_keeps_its_background_at_the_default_quality(tmp_path: Path) -> None:
    source = opened(PEXELS)
    first = now = source.read(0, 24)
    for generation in range(3):
        with VideoWriter(tmp_path / "v.mp4", fps=source.fps, tags=source.tags) as writer:
            writer.write(now)
        now = open_video(tmp_path / "v.mp4").read(0, 24)
        if generation == 0:
            assert psnr(now, first) >= 46
    assert abs(float((now.astype(np.float32) - first).mean())) < 0.1


def test_other_primaries_and_transfers_keep_their_tags(tmp_path: Path) -> None:
    tags = VideoTags(primaries=12, transfer=13)  # Display P3, sRGB: a phone's photo film, a screen's recording
    with VideoWriter(tmp_path / "v.mp4", fps=8, tags=tags) as writer:
        writer.write(soft_noise(2))
    assert opened(tmp_path / "v.mp4").tags == tags


@pytest.fixture(scope="module")
def wide(awkward: Callable[[str], Path], tmp_path_factory) -> Iterator[dict[str, VideoFrames]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # not what other code has left
        yield {name: opened(awkward(name)) for name in ("hdr10.mkv", "hlg.mkv", "bt2020.mkv")}


@pytest.mark.slow
def test_hdr_is_mapped_to_sdr_and_said(wide: dict[str, VideoFrames], tmp_path: Path) -> None:
    for name, says in (("hdr10.mkv", "PQ"), ("hlg.mkv", "HLG"), ("bt2020.mkv", "BT.2020")):
        frames = wide[name]
        assert says in " ".join(notes_of(frames)), name
        assert says in source_notes(clip_of(frames), Path("out.mp4"))[0]
        assert frames.tags == VideoTags()
        shown = frames.read(0, 1)[0]
        grey = shown[8, 4::8].astype(int)
        assert (np.diff(grey[:, 1]) >= 0).all()
        assert np.abs(grey - grey[:, 1:2]).max() <= 1, name
        plain = (np.linspace(64, 700, WIDTH // 8) - 64) / 876 * 255
        if name == "bt2020.mkv":
            np.testing.assert_allclose(grey[:, 1], plain, atol=1)
        elif name == "hdr10.mkv":  # PQ spends more codes on the dark
            assert grey[5, 1] < plain[5] - 15 and grey[-1, 1] > plain[-1] + 10
        else:
            assert grey[-1, 1] < plain[-1] - 15
        red = shown[-8, 40].astype(int)
        assert red[0] > red[1] + 60  # read as BT.709 they differ by 51
        assert written(clip_of(frames), tmp_path / "out.mp4").notes == []


@pytest.mark.slow
@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg to compare with")
@pytest.mark.parametrize(("name", "peak"), [("hdr10.mkv", 1000), ("hlg.mkv", 1000), ("bt2020.mkv", None)])
def test_hdr_is_near_what_ffmpeg_makes_of_it(
    name: str, peak: int | None, wide: dict[str, VideoFrames], awkward: Callable[[str], Path]
) -> None:
    """zimg's primaries are exact; tone curves are a matter of taste, so HDR is compared in order and in hue only."""
    tone = "tonemap=mobius:desat=0," if peak else ""
    chain = f"zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,{tone}zscale=t=bt709:m=bt709:r=tv,format=yuv444p"
    theirs = by_ffmpeg(awkward(name), f"{chain},format=rgb24")
    if theirs is None:
        pytest.skip("this ffmpeg has no zscale")
    ours = wide[name].read(0, 1)[0]
    if peak is None:
        assert np.abs(ours[8, 4::8].astype(int) - theirs[0, 8, 4::8]).max() <= 1
    else:
        assert np.corrcoef(ours[8, 4::8, 1], theirs[0, 8, 4::8, 1])[0, 1] > 0.9
        assert (ours[-8, 28::8].argmax(-1) == theirs[0, -8, 28::8].argmax(-1)).all()


@pytest.mark.slow
def test_a_kind_of_hdr_is_worked_out_once_whatever_the_size(
    wide: dict[str, VideoFrames], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each colour is what the table says: pictures of one colour lose nothing on the way."""
    expected = wide["hlg.mkv"].read(0, 1)[0]
    monkeypatch.setattr(tone_table, "_kept", None)
    small = opened(wide_file(tmp_path / "small.mkv", transfer=18, height=32, width=48)).read(0, 1)[0]
    assert small.shape == (32, 48, 3)
    assert np.abs(small[::16, 2::4].astype(int) - expected[8::32, 4::8]).max() <= 1


@pytest.mark.slow
def test_another_process_finds_the_table_and_a_damaged_one_is_made_anew(
    wide: dict[str, VideoFrames], awkward: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = wide["bt2020.mkv"].read(0, 1)
    black = np.zeros((tone_table._NODES**3, 3), np.uint16)
    monkeypatch.setattr(tone_table, "_mapped", lambda picture: black)  # instead of seconds
    files = list((user_cache() / "colours").glob("*.npy"))
    assert len(files) == len(tone_table._TABLES)
    monkeypatch.setattr(tone_table, "_TABLES", {})
    np.testing.assert_array_equal(opened(awkward("bt2020.mkv")).read(0, 1), expected)
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr(tone_table, "_TABLES", {})
    assert not opened(awkward("bt2020.mkv")).read(0, 1).any()
    assert sum(file.stat().st_size == black.nbytes + 128 for file in files) == 1


def test_colours_that_cannot_be_read_are_refused_with_the_command_that_converts(awkward: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"ffmpeg -i .*ictcp\.mkv") as error:
        open_video(awkward("ictcp.mkv"))
    assert "\n" not in str(error.value)


def test_the_corpus_is_what_it_says(awkward: Callable[[str], Path]) -> None:
    assert wide_codes().max() <= 700
    for name, transfer in (("hdr10.mkv", 16), ("hlg.mkv", 18)):
        with av.open(str(awkward(name))) as container:
            frame = next(container.decode(video=0))
            assert (int(frame.color_trc), int(frame.color_primaries), int(frame.colorspace)) == (transfer, 9, 9)


# -- orientation and time


TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored.mp4": lambda pixels: pixels[:, ::-1],
    "upside down.mp4": lambda pixels: pixels[::-1],
    "rotated.mp4": lambda pixels: np.rot90(pixels, -1),
    "selfie.mp4": lambda pixels: np.rot90(pixels)[:, ::-1],
    "selfie left.mp4": lambda pixels: np.rot90(pixels, -1)[:, ::-1],
}


@pytest.mark.parametrize("name", TURNS)
def test_pictures_are_turned_and_mirrored_as_the_file_says(name: str, awkward: Callable[[str], Path]) -> None:
    frames = opened(awkward(name))
    expected = TURNS[name](picture(5))
    assert (frames.height, frames.width) == expected.shape[:2]
    assert np.abs(frames.read(5, 6)[0].astype(int) - expected).mean() < 3
    small = next(frames.pick([5], (frames.height // 2, frames.width // 2)))
    assert np.abs(small.astype(int) - expected[::2, ::2]).mean() < 6


def by_ffmpeg(path: Path, filters: str = "", *, turned: bool = True) -> np.ndarray | None:
    """Frames as the ffmpeg program shows them, without any that it would add or drop; None where it cannot."""
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", *([] if turned else ["-noautorotate"]), "-i", str(path), "-vsync", "passthrough"]
    command += [*(["-vf", filters] if filters else []), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    run = subprocess.run(command, capture_output=True, check=False)
    if run.returncode:
        return None
    frames = opened(path)
    size = (frames.height, frames.width) if turned else frames.stored_size
    return np.frombuffer(run.stdout, np.uint8).reshape(-1, *size, 3)


@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg to compare with")
@pytest.mark.parametrize("name", [*TURNS, "phone.mp4", "edit list.mp4", "open gop.mp4"])
def test_frames_are_those_of_ffmpeg(name: str, awkward: Callable[[str], Path]) -> None:
    frames = opened(awkward(name))
    ours = frames.read(0, len(frames))
    shown = by_ffmpeg(awkward(name))
    assert shown is not None
    # Which frames, and how they lie. ffmpeg's own scaler puts colour elsewhere (half a pixel off in version 5).
    assert shown.shape == ours.shape
    assert psnr(ours, shown) > 36
    # zimg's colours are exact; they are to be compared before a turn, which would move colour's place.
    stored = by_ffmpeg(awkward(name), "zscale=cin=left:f=bilinear,format=gbrp", turned=False)
    if stored is None:
        pytest.skip("this ffmpeg has no zscale")
    exact = np.stack([TURNS.get(name, np.asarray)(pixels) for pixels in stored]).astype(int)
    assert np.abs(ours - exact).max() <= 1
    assert np.abs((ours - exact).mean((0, 1, 2))).max() < 0.02


def test_hidden_frames_and_open_groups(awkward: Callable[[str], Path]) -> None:
    cut, open_gop = opened(awkward("edit list.mp4")), opened(awkward("open gop.mp4"))
    assert len(cut) == COUNT - 6
    for frames, first in ((cut, 6), (open_gop, 0)):
        for number in (len(frames) - 1, 0, 9, 7):
            shown = frames.read(number, number + 1)[0].astype(int)
            assert np.abs(shown - picture(first + number)).mean() < 3


def test_uneven_frames_keep_their_times(awkward: Callable[[str], Path], tmp_path: Path) -> None:
    source = opened(awkward("phone.mp4"))
    expected = np.array(PHONE_TIMES) / 1000
    np.testing.assert_allclose(times_of(source), expected, atol=1e-3)
    clip = clip_of(source)
    assert "keep their times" in source_notes(clip, tmp_path / "x.mp4")[0]
    for suffix in (".mp4", ".mov", ".mkv"):
        result = written(clip, tmp_path / f"out{suffix}")
        np.testing.assert_allclose(times_of(result), expected, atol=1.1e-3)
    part = clip.cut(5, 20)
    result = written(part, tmp_path / "part.mp4")
    np.testing.assert_allclose(times_of(result), expected[5:20] - expected[5], atol=1e-3)
    assert part.sound is not None
    assert float(part.sound.start - clip.sound.start) == pytest.approx(expected[5], abs=1e-3)
    assert part.sound.duration == duration_of(part.frames)


def test_uneven_frames_are_resampled_by_their_times(awkward: Callable[[str], Path]) -> None:
    clip = resample(clip_of(opened(awkward("phone.mp4"))), 8)
    times = times_of(clip.frames)
    assert times is not None
    assert clip.fps == 8
    expected = np.array(PHONE_TIMES) / 1000
    assert np.abs(times[:, None] - expected).min(axis=1).max() < 1e-3
    moving = times[times > 0.7]
    assert np.abs(moving * 8 - np.round(moving * 8)).max() / 8 < 0.035
    assert times[-1] == pytest.approx(PHONE_TIMES[-1] / 1000, abs=0.13)


def test_even_frames_have_no_times(awkward: Callable[[str], Path]) -> None:
    for name in ("rotated.mp4", "open gop.mp4", "edit list.mp4"):
        assert times_of(opened(awkward(name))) is None
    assert times_of(ArrayFrames(soft_noise())) is None


# -- sound


CASES = [
    # source, result, codec, layout, rate of the result
    ("surround 7.1.mkv", ".mp4", "aac", "7.1", 48000),
    ("surround 7.1.mov", ".mp4", "aac", "7.1", 48000),
    ("surround 7.1.mov", ".mov", "pcm_s16le", "7.1", 48000),
    ("surround 5.1.mov", ".mp4", "aac", "5.1", 48000),
    ("mono.mov", ".mp4", "aac", "mono", 44100),
    ("192 kHz.mov", ".mp4", "aac", "stereo", 96000),
    ("192 kHz.mov", ".mkv", "pcm_s16le", None, 192000),
    ("adpcm.mov", ".mp4", "aac", "stereo", 44100),
    ("adpcm.mov", ".mkv", "aac", "stereo", 44100),
    ("phone.mp4", ".mp4", "aac", "mono", 48000),
]


@pytest.mark.parametrize(("name", "suffix", "codec", "layout", "rate"), CASES)
def test_sound_keeps_its_channels_and_is_announced(
    name: str,
    suffix: str,
    codec: str,
    layout: str | None,
    rate: int,
    awkward: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    clip = clip_of(opened(awkward(name)))
    assert clip.sound is not None
    note = plan_sound(clip.sound, suffix).note
    assert note in " ".join(source_notes(clip, tmp_path / f"x{suffix}"))
    with av.open(str(awkward(name))) as given:
        kept = given.streams.audio[0].codec_context.name == codec and "becomes" not in note
    assert note.startswith("copied") == kept
    result = tmp_path / f"out{suffix}"
    written(clip, result)
    with av.open(str(result)) as container:
        stream = container.streams.audio[0]
        context = stream.codec_context
        assert (context.name, context.sample_rate) == (codec, rate)
        assert layout is None or context.layout.name == layout
        channels = heard(container)
    expected = tones(len(channels), rate)
    for k, (ours, wanted) in enumerate(zip(channels, expected)):
        assert pitch(ours, rate) == pytest.approx(pitch(wanted, rate), abs=4), f"channel {k}"
    if name != "phone.mp4":
        assert channels.shape[1] / rate == pytest.approx(COUNT / FPS, abs=0.05)


def heard(container: av.container.InputContainer) -> np.ndarray:
    """Samples (channels, n); packed first, as PyAV does not handle eight planes."""
    channels = container.streams.audio[0].codec_context.layout.nb_channels
    resampler = av.AudioResampler(format="flt")
    parts = [frame.to_ndarray()[0] for decoded in container.decode(audio=0) for frame in resampler.resample(decoded)]
    return np.concatenate(parts).reshape(-1, channels).T


def pitch(samples: np.ndarray, rate: int) -> float:
    middle = samples[len(samples) // 4 : len(samples) // 4 * 3].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(spectrum.argmax() * rate / len(middle))


def test_sound_that_cannot_be_kept_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Twenty channels without places: neither a copy in .mp4 nor AAC."""
    path = tmp_path / "many.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="22.2")
        samples = np.zeros((1, 24 * 4800), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="22.2")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    at = data.index(b"fmt ") + 8
    data[at + 20 : at + 24] = bytes(4)  # the channels' places
    path.write_bytes(data)
    sound = Sound(file=path, start=Fraction(0), duration=Fraction(1, 10))
    with pytest.raises(InputError, match=r"--sound drop.*many\.wav") as error:
        plan_sound(sound, ".mp4")
    assert "\n" not in str(error.value)
    assert plan_sound(sound, ".mkv").note.startswith("copied")


def test_heights_of_the_corpus(awkward: Callable[[str], Path]) -> None:
    assert opened(awkward("phone.mp4")).read(0, 1).shape == (1, HEIGHT, WIDTH, 3)
