"""What people do on the page."""

import shutil
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "data" / "demo"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def upload(page, file=DEMO / "video.mp4"):
    page.locator("#vp-upload input[type=file]").set_input_files(file)
    page.locator(".vp-stage[data-empty=no][data-shown]").wait_for()


def settled(page):
    """Until the server has answered what was drawn."""
    page.wait_for_function("document.querySelector('.vp-stage').dataset.busy !== 'yes'")


def says(page, text):
    page.locator(".vp-say", has_text=text).wait_for()


def step(page, number):
    page.get_by_role("tab").nth(number - 1).click()


def at(page, x, y):
    """A place of the demo's 360x240 pixels on the screen."""
    box = page.locator(".vp-fit").bounding_box()
    return box["x"] + box["width"] * x / 360, box["y"] + box["height"] * y / 240


def tool(page, name):
    page.locator(f"button[data-tool={name}]").click()


def drag(page, start, stop):
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *stop), steps=4)
    page.mouse.up()
    settled(page)


def project_of(page, server):
    return server.projects.open(page.locator(".vp-stage").get_attribute("data-project"))


def until(true, seconds=30):
    """Waits for something of the server's."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
