"""Files that people have, through the command that inpaints: sound, turned, uneven and HDR video, said in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from awkward_files import AWKWARD, HEIGHT, PHONE_TIMES, WIDTH

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.clip import VideoTags, times_of
from videopainter.data.images import write_image
from videopainter.data.video.reader import VideoFrames, open_video

QUICK = "--img_inpainting_model none --num_inference_steps 1 --inpainting_frames 5 --height 32 --width 48"

pytestmark = pytest.mark.xdist_group("hdr")  # as test_awkward_files.py


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, Path]]:
    """Inpaints five frames of one of the files; what was said, and the result. `portrait`: it is shown upright."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.set_num_threads(1)

    def run(name: str, *flags: str, code: int = 0, portrait: bool = False) -> tuple[str, Path]:
        AWKWARD[name](tmp_path / name)
        mask = np.zeros((WIDTH, HEIGHT) if portrait else (HEIGHT, WIDTH), np.uint8)
        mask[20:40, 20:40] = 255
        write_image(tmp_path / "mask.png", mask)
        result = tmp_path / "out.mp4"
        arguments = ["--video", name, "--mask", "mask.png", "--prompt", "a wall", "--output_path", str(result)]
        with pytest.raises(SystemExit) as left:
            run_door(lambda: inpaint(read_options([*arguments, *QUICK.split(), *flags])))
        said = capsys.readouterr().err
        assert left.value.code == code, said
        return said, result

    return run


def sound_in(path: Path) -> list[tuple[str, str]]:
    """(codec, layout) of each sound of a file."""
    with av.open(str(path)) as container:
        contexts = [stream.codec_context for stream in container.streams.audio]
        return [(context.name, context.layout.name) for context in contexts]


def test_surround_sound_becomes_aac_of_as_many_channels(run: Callable[..., tuple[str, Path]]) -> None:
    said, result = run("surround 7.1.mov")
    assert "pcm_s16le 7.1 48000 Hz becomes aac 7.1 48000 Hz" in said
    assert sound_in(result) == [("aac", "7.1")]


def test_sound_is_left_out_where_that_is_asked_for(run: Callable[..., tuple[str, Path]]) -> None:
    said, result = run("surround 7.1.mov", "--sound", "drop")
    assert "aac" not in said
    assert sound_in(result) == []


def test_a_phones_video_keeps_its_times_and_sound(run: Callable[..., tuple[str, Path]]) -> None:
    said, result = run("phone.mp4", "--long_video")
    assert "keep their times" in said and "copied (aac mono 48000 Hz)" in said
    times = times_of(open_video(result))
    assert times is not None
    np.testing.assert_allclose(times, np.array(PHONE_TIMES) / 1000, atol=1e-3)


def test_a_turned_video_comes_out_upright(run: Callable[..., tuple[str, Path]]) -> None:
    _, result = run("rotated.mp4", portrait=True)
    made = open_video(result)
    assert (made.height, made.width) == (WIDTH, HEIGHT)
    given = open_video(result.with_name("rotated.mp4"))
    difference = made.read(0, 5).astype(int) - given.read(0, 5)
    assert np.abs(difference[:, 50:]).mean() < 1.5


def test_hdr_becomes_sdr_and_the_background_stays(run: Callable[..., tuple[str, Path]]) -> None:
    said, result = run("hlg.mkv")
    assert "HDR (HLG) is tone-mapped to SDR, BT.709" in said
    made, given = open_video(result), open_video(result.with_name("hlg.mkv"))
    assert isinstance(made, VideoFrames) and made.tags == VideoTags() and made.notes == []
    difference = made.read(0, len(made)).astype(int) - given.read(0, len(made))
    assert np.abs(difference[:, 44:-4]).mean() < 2


def test_what_cannot_be_read_ends_in_one_line(run: Callable[..., tuple[str, Path]]) -> None:
    said, result = run("ictcp.mkv", code=2)
    assert said.startswith("error: ") and said.count("\n") == 1
    assert "ffmpeg -i" in said
    assert not result.exists()
