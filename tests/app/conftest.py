"""One server and one browser for all tests of the page: torch is imported once, Chromium started once."""

import numpy as np
import pytest
from page_driving import CHROMIUM, DEMO

from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter

WAIT = 60_000  # milliseconds; a machine of CI may be busy


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The app with its default flags and rules that propose captions, for two people who have a password."""
    from videopainter.app.options import AppOptions
    from videopainter.app.ui.serving import Server

    folder = tmp_path_factory.mktemp("app")
    accounts = folder / "users.txt"
    accounts.write_text("# who may come in\nann:open sesame\nben:x:y\n")
    with Server(AppOptions(port=0, auth=str(accounts), work_dir=str(folder / "work"), llm_model="template")) as server:
        yield server


@pytest.fixture(scope="session")
def browser(server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(server, browser):
    """`visit()` opens the page as another person's browser would; errors of the page's own code fail the test.

    `visit(form=True)` gives name and password as people do; else they are sent alone, which is a page less to load.
    """
    opened, wrong = [], []

    def visit(width=1280, form=False, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(WAIT)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        opened.append(context)
        if not form:
            account = {"username": "ann", "password": "open sesame"}
            assert context.request.post(f"{server.address}login", form=account).ok
        page.goto(server.address)
        if form:
            page.get_by_label("username", exact=True).fill("ann")
            page.get_by_label("password", exact=True).fill("open sesame")
            page.get_by_role("button", name="Login").click()
        page.locator("#vp-examples button").first.wait_for()
        return page

    yield visit
    for context in opened:
        context.close()
    assert not wrong


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Frames of the demo, small and few, with a ball that moves."""
    frames = open_video(DEMO / "video.mp4")
    file = tmp_path_factory.mktemp("clip") / "ball.mp4"
    with VideoWriter(file, fps=frames.fps) as writer:
        writer.write(np.ascontiguousarray(frames.read(0, 13)[:, ::2, ::2]))
    return file
