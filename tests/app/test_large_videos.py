"""Videos of unusual sizes from upload to result in the browser: minutes, so VIDEOPAINTER_LARGE_VIDEOS=1 runs them."""

import os
import re
import time
from fractions import Fraction

import numpy as np
import psutil
import pytest
from page_driving import CHROMIUM, project_of, says, settled, step, tool

from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif("VIDEOPAINTER_LARGE_VIDEOS" not in os.environ, reason="VIDEOPAINTER_LARGE_VIDEOS is not set"),
]
# Frames, height, width.
SIZES = {"4K": (24, 2160, 3840), "portrait": (40, 640, 360), "one frame": (1, 240, 320), "200 frames": (200, 240, 432)}


def draw(file, frames, height, width):
    """A square that moves over noise that stands still."""
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(60, 120, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with VideoWriter(file, fps=Fraction(24)) as writer:
        for k in range(frames):
            picture, left = noise.copy(), width // 8 + k * width // 400
            picture[height // 4 : height // 2, left : left + width // 4] = (230, 60, 40)
            writer.write(picture[None])


@pytest.mark.parametrize("name", SIZES)
def test_a_video_of_any_size_from_upload_to_result(name, visit, server, tmp_path):
    frames, height, width = SIZES[name]
    draw(tmp_path / "clip.mp4", frames, height, width)
    page, began = visit(), time.perf_counter()
    page.set_default_timeout(300_000)

    def told(what):
        nonlocal began
        held = [psutil.Process(pid).memory_info().rss >> 20 for pid in (os.getpid(), *server.desk.pids)]
        print(f"{name}, {what}: {time.perf_counter() - began:.1f} s; MiB of server and workers: {held}")
        began = time.perf_counter()

    page.locator("#vp-upload input[type=file]").set_input_files(tmp_path / "clip.mp4")
    page.locator(".vp-stage[data-empty=no][data-shown]").wait_for()
    told("uploaded and shown")
    box = page.locator(".vp-fit").bounding_box()
    assert abs(box["width"] / box["height"] - width / height) < 0.02

    def place(x, y):
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    tool(page, "box")
    page.mouse.move(*place(0.11, 0.23))
    page.mouse.down()
    page.mouse.move(*place(0.39, 0.52), steps=3)
    page.mouse.up()
    settled(page)
    told("a box answered")
    project = project_of(page, server)
    assert project.hole(0)[height * 3 // 8, width // 4]
    page.get_by_label("Frame", exact=True).focus()
    page.keyboard.press("End")
    page.locator(f".vp-stage[data-shown='{frames - 1}']").wait_for()
    told("the last frame shown")
    page.get_by_role("button", name="Track through the video").click()
    says(page, re.compile("Tracked|did not work"))
    told("tracked")
    assert project.hole(frames - 1)[height * 3 // 8, width // 4 + (frames - 1) * width // 400]
    step(page, 3)
    page.locator("#vp-start:enabled").click()
    says(page, re.compile("The result is there|did not work"))
    assert not page.get_by_text("did not work").is_visible(), page.locator(".vp-more").inner_text()
    page.locator(".vp-after[src]").wait_for()
    told("removed and shown")
    result = open_video(project.results[-1].video)
    assert (len(result), result.height, result.width) == (frames, height, width)
    first = result.read(0, 1)[0, height * 3 // 8, width // 4].astype(int)
    assert first[0] - first[1] < 60, "the red square is gone"
