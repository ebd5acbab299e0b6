"""Results as GIF and as folders of images, and what must not be replaced by them."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.data.video.pictures import (
    GIF_LIMIT,
    FolderWriter,
    GifWriter,
    check_gif,
    check_image_folder,
    image_name_of,
    open_writer,
)
from videopainter.data.video.reader import open_video
from videopainter.errors import InputError
from videopainter.runs.results.outputs import output_paths

ROOT = Path(__file__).parents[1]
FRAMES = np.random.default_rng(0).integers(0, 256, (7, 16, 24, 3), np.uint8)


def test_images_come_back_to_the_bit_and_whole(tmp_path):
    with open_writer(tmp_path / "out", image_name="%03d.png", fps=8) as writer:
        writer.write(FRAMES[:4])
        assert not (tmp_path / "out").exists()
        writer.write(FRAMES[4:])
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == [f"{i:03d}.png" for i in range(7)]
    assert np.array_equal(open_video(tmp_path / "out").read(0, 7), FRAMES)
    with FolderWriter(tmp_path / "out", "%03d.png") as writer:
        writer.write(FRAMES[:2])
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("writer", [lambda p: GifWriter(p / "a.gif", fps=8), lambda p: FolderWriter(p / "a", "%d.png")])
def test_a_failed_run_leaves_nothing(tmp_path, writer):
    pictures = writer(tmp_path)
    pictures.write(FRAMES)
    pictures.__exit__(RuntimeError, RuntimeError(), None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fps", "total"), [(8, 880), (24, 290), (30, 240)])
def test_a_gif_lasts_as_long_as_the_video(tmp_path, fps, total):
    flat = np.repeat((np.arange(7, dtype=np.uint8) * 30)[:, None, None, None], 3, 3) + np.zeros(
        (7, 16, 24, 3), np.uint8
    )
    with open_writer(tmp_path / "a.gif", fps=fps) as writer:
        writer.write(flat[:5])
        writer.write(flat[5:])
    assert np.abs(iio.imread(tmp_path / "a.gif").astype(int) - flat).max() <= 3
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 7 and image.info["loop"] == 0
        lengths = [image.seek(frame) or image.info["duration"] for frame in range(7)]
    assert abs(sum(lengths) - total) <= 10


def test_names_of_results():
    one, two = [(None, "clip")], [(0, "a"), (1, "b")]
    assert output_paths("x/%05d.png", one, [1]) == {(0, 1): Path("x")}
    assert output_paths("x/{name}/%05d.jpg", two, [1]) == {(0, 1): Path("x/a"), (1, 1): Path("x/b")}
    assert output_paths("x.gif", one, [1]) == {(0, 1): Path("x.gif")}
    assert image_name_of("100%/a.mp4") is None
    for wrong in ("x/%d.mp4", "x/%s%s.png", "x/%.png", "x/100%.png"):
        with pytest.raises(InputError, match="expected images such as"):
            image_name_of(wrong)
    with pytest.raises(InputError, match="several samples"):
        output_paths("x/%05d.png", two, [1])


def test_nothing_else_is_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"letter\.txt"):
        check_image_folder(tmp_path / "photos")
    with pytest.raises(InputError, match="got a file"):
        check_image_folder(tmp_path / "photos/letter.txt")
    with pytest.raises(InputError, match="MiB"):
        check_gif(Path("x.gif"), GIF_LIMIT // 300 + 1, 10, 10)
    check_gif(Path("x.mp4"), GIF_LIMIT // 300 + 1, 10, 10)


@pytest.mark.parametrize(("name", "result"), [("out/%03d.png", "out"), ("out.gif", "out.gif")])
def test_the_door_writes_pictures(tmp_path, monkeypatch, capfd, name, result):
    monkeypatch.chdir(tmp_path)
    demo = ROOT / "data/demo"
    iio.imwrite("mask.png", np.pad(np.full((16, 16), 255, np.uint8), ((24, 24), (40, 40))))
    for number, frame in enumerate(open_video(demo / "video.mp4").read(0, 5)):
        Path("clip").mkdir(exist_ok=True)
        iio.imwrite(f"clip/{number}.png", np.array(Image.fromarray(frame).resize((96, 64))))
    flags = ["--video", "clip", "--mask", "mask.png", "--prompt", "hills", "--num_inference_steps", "1"]
    flags += ["--guidance_scale", "1", "--quiet", "--output_path", name]
    assert inpaint(read_options(flags)) == 0
    made = open_video(Path(result)).read(0, 5)
    assert made.shape == (5, 64, 96, 3) and json.loads(Path("out.json").read_text())["result"] == result
    assert inpaint(read_options(flags)) == 0 and "finished already" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["clip", "mask.png", "out.json", result])
