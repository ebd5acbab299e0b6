"""The app in a browser, from an upload to a result on the tiny checkpoint; several people; HTTP; a program."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from page_driving import CHROMIUM, DEMO, ROOT, at, drag, project_of, says, settled, step, tool, until, upload

from videopainter.data.video.reader import open_video

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def test_marks_an_object_in_every_way(visit, server):
    page = visit(form=True)
    upload(page)
    project = project_of(page, server)
    says(page, "Mark what is to be painted")
    page.mouse.click(*at(page, 286, 176))
    settled(page)
    says(page, "Track what you marked")
    hole = project.hole(0)
    assert hole[176, 286] and not hole[180, 90]

    tool(page, "not")
    page.mouse.click(*at(page, 90, 60))
    settled(page)
    page.get_by_role("button", name="+ Object").click()
    tool(page, "box")
    drag(page, (75, 155), (130, 215))
    tool(page, "brush")
    drag(page, (95, 185), (105, 188))
    kinds = [[type(prompt).__name__ for prompt in one.prompts] for one in project.objects]
    assert kinds == [["PointPrompt", "PointPrompt"], ["BoxPrompt", "StrokePrompt"]]
    assert not project.objects[0].prompts[1].positive and project.hole(0)[185, 103]

    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name of the object").fill("<b>The floor</b>")
    page.keyboard.press("Enter")
    until(lambda: project.objects[1].name == "<b>The floor</b>")
    page.locator("[data-object='2']", has_text="<b>The floor</b>").wait_for()

    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelectorAll('[data-object]').length === 2")
    page.get_by_role("button", name="Forget").click()
    page.wait_for_function("document.querySelectorAll('[data-object]').length === 1")
    assert [one.id for one in project.objects] == [1]


def test_marks_with_the_keyboard_and_in_two_clicks(visit, server):
    page = visit()
    upload(page)
    page.get_by_label("Video frame: draw here").focus()
    page.keyboard.press("b")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    settled(page)
    (thing,) = project_of(page, server).objects
    (box,) = thing.prompts
    assert (box.x0, box.y0) == (216, 120) and (box.x1, box.y1) == (306, 210)

    page.get_by_label("Frame", exact=True).focus()
    page.keyboard.press("End")
    page.locator(".vp-stage[data-shown='56']").wait_for()
    page.get_by_label("Video frame: draw here").focus()
    page.keyboard.press("b")
    page.mouse.click(*at(page, 40, 50))
    page.mouse.click(*at(page, 20, 20))
    settled(page)
    later = project_of(page, server).objects[0].prompts[1]
    assert later.frame == 56 and (round(later.x0), round(later.y1)) == (20, 50)


def test_a_range_a_mask_of_ones_own_and_its_shape(visit, server):
    page = visit(width=390)
    upload(page)
    project = project_of(page, server)
    step(page, 1)
    page.get_by_label("First frame", exact=True).fill("5")
    page.get_by_label("Last frame", exact=True).fill("30")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#vp-facts').textContent.includes('57 frames')")
    until(lambda: (project.range.start, project.range.stop) == (4, 30))
    page.get_by_role("button", name="Whole video").click()
    until(lambda: len(project.range) == 57)

    step(page, 2)
    page.get_by_role("button", name="Use a mask of your own").click()
    page.locator("#vp-mask-upload input[type=file]").set_input_files(DEMO / "mask.mp4")
    page.get_by_text("Your own mask", exact=True).wait_for()
    before = project.hole(0).sum()
    page.get_by_label("The other way round").check()
    until(lambda: project.mask_shape.invert)
    assert project.hole(0).sum() > before
    page.get_by_role("button", name="Forget").click()
    page.get_by_text("Your own mask", exact=True).wait_for(state="hidden")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_mistakes_are_told_in_a_line_and_nothing_is_run_as_html(visit, tmp_path):
    page = visit()
    text = tmp_path / "text.mp4"
    text.write_text("This is no video.")
    page.locator("#vp-upload input[type=file]").set_input_files(text)
    page.locator(".vp-problem", has_text="video: expected").wait_for()
    assert "text.mp4" in page.locator(".vp-problem").inner_text()
    assert str(tmp_path) not in page.locator(".vp-problem").inner_text()

    named = tmp_path / "<img src=x onerror=document.title='run'>.mp4"
    shutil.copy(DEMO / "video.mp4", named)
    upload(page, named)
    step(page, 1)
    assert "onerror" in page.locator("#vp-facts").inner_text()
    assert page.locator("#vp-facts img").count() == 0 and page.title() == "VideoPainter"
    assert page.locator(".vp-problem").inner_text() == ""


def test_from_an_upload_to_a_result_and_another(visit, server, clip):
    page = visit()
    upload(page, clip)
    project = project_of(page, server)
    tool(page, "box")
    drag(page, (238, 128), (334, 226))
    step(page, 3)
    page.locator("#vp-start-why", has_text="not tracked through all frames").wait_for()
    assert page.locator("#vp-start").is_disabled()

    step(page, 2)
    page.get_by_role("button", name="Track through the video").click()
    says(page, "Tracked")
    assert [one.tracked for one in project.objects] == [13]
    page.get_by_role("button", name="Next: fill or edit").click()
    page.locator("#vp-plan", has_text="13 frames").wait_for()
    step(page, 2)
    assert page.locator("[data-object='1']").get_attribute("title").startswith("13 frames tracked")

    # A later frame is corrected, and what is nearer to it tracked again.
    page.get_by_label("Frame", exact=True).focus()
    page.keyboard.press("End")
    page.locator(".vp-stage[data-shown='12']").wait_for()
    tool(page, "not")
    page.mouse.click(*at(page, 60, 60))
    settled(page)
    until(lambda: len(project.objects[0].prompts) == 2)
    page.get_by_role("button", name="Track through the video").click()
    says(page, "Tracked")
    until(lambda: [one.tracked for one in project.objects] == [13])

    step(page, 2)
    page.get_by_role("button", name="Watch the mask as a video").click()
    page.get_by_role("button", name="Make the preview").click()
    page.locator("#vp-film video").wait_for()

    step(page, 3)
    page.locator("#vp-plan", has_text="13 frames").wait_for()
    page.locator("#vp-start").click()
    says(page, "The result is there")
    page.locator("#vp-result video").wait_for()
    refused_paths(page, server, project)
    assert page.get_by_role("tab", selected=True).inner_text() == "4 Result"
    page.locator(".vp-after").wait_for()
    page.get_by_label("How much of the original").focus()
    page.keyboard.press("Home")
    assert page.locator(".vp-divider").evaluate("it => it.style.left") == "0%"
    with page.expect_download() as download:
        page.get_by_role("button", name="Settings", exact=True).click()
    told = json.loads(Path(download.value.path()).read_text())
    assert told["fill"]["task"] == "remove" and download.value.suggested_filename == "settings.json"
    with page.expect_download() as download:
        page.get_by_role("button", name="Video", exact=True).click()
    result = open_video(download.value.path())
    assert len(result) == 13 and not np.array_equal(result.read(0, 1), open_video(clip).read(0, 1))

    # The same again, but described, from a first frame that was chosen.
    page.get_by_role("button", name="Again with these settings").click()
    page.get_by_role("radio", name="Describe").check()
    page.get_by_label("What the whole video shows").fill("A <b>flower</b> over yellow sand.")
    page.get_by_role("button", name="First frame: choose").click()
    page.get_by_role("button", name="Paint first frames").click()
    says(page, "First frames are painted")
    page.locator("#vp-first-frames button").first.click()
    page.locator("#vp-first-frames button[aria-pressed=true]").wait_for()
    page.locator("#vp-start").click()
    says(page, "The result is there")
    until(lambda: len(project.results) == 2)
    made = project.results[1].settings
    assert made["task"] == "inpaint" and made["prompt"] == "A <b>flower</b> over yellow sand." and made["first_frame"]
    page.locator("#vp-results button").nth(1).wait_for()
    assert "A <b>flower</b>" in page.locator("#vp-result-facts").inner_text()
    assert page.locator("#vp-result-facts b").count() == 0


def test_a_result_brings_its_range_and_shape_back(server, clip, tmp_path):
    from videopainter.app.masking import MaskShape
    from videopainter.app.project import FillResult
    from videopainter.app.ui.steps.result import bring_back
    from videopainter.segmentation.prompts import FrameRange

    project = server.projects.new()
    project.set_video(clip)
    record = tmp_path / "settings.json"
    shape = {"grow": 3, "feather": 2, "shape": "hull", "invert": True}
    record.write_text(json.dumps({"range": [2, 9], "shape": shape}))
    files = {"video": clip, "mask": clip, "comparison": clip, "settings_file": record}
    bring_back(project, FillResult(id="a", **files, settings={}, made=0.0, seconds={}))
    assert project.range == FrameRange(start=2, stop=9) and project.mask_shape == MaskShape(**shape)


def refused_paths(page, server, project):
    """What is served are the links that the page was given; ten ways to other files of a project end at 403 or 404."""
    served = page.locator("#vp-result video").evaluate("it => it.src")
    assert page.request.get(served).status == 200
    link, folder = served.partition("file=")[2], project.folder
    name = folder.name
    ways = [
        f"file={folder}/project.json",
        f"file={server.projects.root}/served/../projects/{name}/project.json",
        f"file={link}/../../../projects/{name}/project.json",
        f"file={Path(link).parent}/..%2F..%2Fprojects%2F{name}%2Fproject.json",
        f"file={Path(link).parent}/%2e%2e/%2e%2e/projects/{name}/project.json",
        f"file={Path(link).parent}/..%5C..%5Cprojects%5C{name}%5Cproject.json",
        f"file=//{folder}/project.json",
        f"file=file://{folder}/project.json",
        f"file={server.projects.root}/served",
        f"file/{folder}/project.json",
        f"proxy=http://127.0.0.1:{server.port}/config",
        "file=https://example.com/",
        "file=/etc/passwd",
    ]
    assert (folder / "project.json").is_file()
    for way in ways:
        assert _status(server, page, f"/gradio_api/{way}") in (403, 404), way
    assert page.context.browser.new_context().request.get(served).status == 401  # without a password


def _status(server, page, path):
    """As it stands: clients would take `..` out of a path before they send it."""
    cookies = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers={"Cookie": cookies})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_stopped_run_goes_on_and_another_session_and_a_reload_see_their_own(visit, server):
    page, other = visit(), visit(color_scheme="dark", width=1920)
    page.locator("#vp-examples button", has_text="Describe the hole").click()
    says(page, "Choose what is to happen")
    page.locator("#vp-plan", has_text="8 guided steps").wait_for()  # the example's, which come after it
    page.get_by_role("button", name="Advanced settings").click()
    planned = page.locator("#vp-plan", has_text="60 guided steps")
    for _ in range(12):  # on a busy machine what the page asked when it opened is answered after what is typed
        page.get_by_label("number input for Steps").fill("60")
        page.keyboard.press("Tab")
        time.sleep(5 if not planned.is_visible() else 0)
        if planned.is_visible():
            break
    planned.wait_for()
    page.locator("#vp-start").click()
    # A worker imports torch, loads a model and encodes 57 frames first.
    page.locator(".vp-more", has_text=re.compile(r"[1-9]\d* of \d+ steps")).wait_for(timeout=240_000)

    upload(other)  # while the first one is at work
    says(other, "Mark what is to be painted")
    tool(other, "box")
    drag(other, (238, 128), (334, 226))
    ids = {one.locator(".vp-stage").get_attribute("data-project") for one in (page, other)}
    assert len(ids) == 2 and not project_of(other, server).mask_file

    page.reload()
    page.locator(".vp-more", has_text="of").wait_for()
    page.get_by_role("button", name="Cancel").click()
    says(page, "stopped")
    page.reload()
    says(page, "stopped")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Cancel").click()
    says(page, "stopped")
    assert not project_of(page, server).results
    assert "Object 1" in other.locator(".vp-objects").inner_text()


def test_another_video_or_project_keeps_what_was_made_and_shows_its_own(visit, server, clip):
    page = visit()
    page.locator("#vp-examples button", has_text="Remove the ball").click()
    says(page, "Choose what is to happen")
    project = project_of(page, server)
    page.get_by_role("button", name="First frame: choose").click()
    page.get_by_role("button", name="Paint first frames").click()
    until(lambda: server.desk.jobs(project.id) and server.desk.jobs(project.id)[-1].state == "done")
    step(page, 2)  # before the page asks again, as a rule
    page.get_by_label("number input for Grow").fill("40")
    page.keyboard.press("Tab")
    until(lambda: project.mask_shape.grow == 40)
    step(page, 3)
    page.locator("#vp-first-frames button").first.click()
    page.locator("#vp-first-frames button[aria-pressed=true]").wait_for()

    step(page, 1)
    page.locator("#vp-upload input[type=file]").set_input_files(clip)
    page.wait_for_function("id => document.querySelector('.vp-stage').dataset.project !== id", arg=project.id)
    assert project.mask_file and project.video.frames == 57 and project_of(page, server).video.frames == 13
    page.wait_for_function("document.querySelectorAll('#vp-first-frames button').length === 0")
    assert page.get_by_label("number input for Grow").input_value() == "16"

    step(page, 1)
    page.get_by_role("button", name="Begin a new project").click()
    says(page, "Choose a video")
    page.locator("#vp-examples button", has_text="Remove the ball").click()
    says(page, "Choose what is to happen")
    page.locator("#vp-start").click()  # without the first frame that the first project chose
    says(page, re.compile("Waiting|Painting the video"))
    page.get_by_role("button", name="Cancel").click()
    says(page, "stopped")

    # What was left behind is there again, for this browser alone, until it is deleted.
    step(page, 1)
    mine, last = page.locator("#vp-projects"), project_of(page, server)
    assert mine.locator("button[data-key]").count() == 3
    assert visit().locator("#vp-projects button").count() == 0
    mine.locator(f"button[data-key='{project.id}']").click()
    page.wait_for_function("id => document.querySelector('.vp-stage').dataset.project === id", arg=project.id)
    page.get_by_text("Your own mask", exact=True).wait_for()
    step(page, 2)
    assert page.get_by_label("number input for Grow").input_value() == "40"
    step(page, 1)
    for one in (last, project):  # another one, and the one that is open
        drop = mine.locator(f"button[data-drop='{one.id}']")
        drop.click()
        assert one.folder.is_dir()
        drop.click()
        drop.wait_for(state="detached")
        assert not one.folder.exists()
    says(page, "Choose a video")
    page.reload()
    page.locator("#vp-examples button").first.wait_for()
    assert mine.locator("button[data-key]").count() == 1


def test_two_tabs_of_a_browser_have_their_own_projects_and_know_of_each_others(visit, server, clip):
    page = visit()
    page.locator("#vp-examples button", has_text="Describe the hole").click()
    says(page, "Choose what is to happen")
    project = project_of(page, server)
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("number input for Steps").fill("90")
    page.locator("#vp-start").click()
    says(page, re.compile("Waiting|Painting the video"))

    other = page.context.new_page()
    other.goto(server.address)
    says(other, re.compile("Waiting|Painting the video"))
    tile, drop = (other.locator(f"#vp-projects button[data-{what}='{project.id}']") for what in ("key", "drop"))
    assert "at work" in tile.inner_text()
    drop.click()
    drop.click()
    other.locator(".vp-problem", has_text="waits or runs").wait_for()
    other.locator("#vp-upload input[type=file]").set_input_files(clip)  # beside the job, in a project of its own
    says(other, "Mark what is to be painted")
    assert project_of(other, server).id != project.id == project_of(page, server).id

    for _ in range(2):
        page.get_by_role("button", name="Cancel").evaluate("it => it.click()")
    says(page, "stopped")
    step(other, 1)
    drop.click()
    drop.click()
    drop.wait_for(state="detached")
    page.get_by_role("button", name="Go on").click()
    page.locator(".vp-problem", has_text="not there any more").wait_for()
    assert page.locator(".vp-stage[data-empty=yes]").count() == 1 and not project.folder.exists()
    page.locator("#vp-examples button").first.click()
    says(page, "Mark what is to be painted")
    assert project_of(page, server).id != project_of(other, server).id


def test_proposals_fill_empty_boxes_and_what_somebody_wrote_stays(visit):
    page = visit()
    page.locator("#vp-examples button", has_text="Remove the ball").click()
    says(page, "Choose what is to happen")
    page.get_by_role("radio", name="Swap").check()
    caption, hole = page.get_by_label("What the whole video shows"), page.get_by_label("What belongs in the hole")
    page.get_by_label("Instruction", exact=True).fill("change the red ball to a blue star")
    page.get_by_role("button", name="Describe the hole").click()
    until(lambda: hole.input_value() == "a blue star")
    assert not page.locator(".vp-proposal").is_visible()

    caption.fill("A red ball over sand.")
    page.get_by_role("button", name="Carry out the instruction").click()
    page.locator(".vp-proposal", has_text="A blue star over sand.").wait_for()
    assert caption.input_value() == "A red ball over sand." and hole.input_value() == "a blue star"
    caption.fill("A red ball over sand, mine.")
    page.get_by_role("button", name="Use it").click()
    until(lambda: caption.input_value() == "A blue star over sand.")
    page.locator(".vp-proposal").wait_for(state="hidden")


def test_the_steps_by_a_program(server, clip, tmp_path):
    output = tmp_path / "removed.mp4"
    command = [sys.executable, ROOT / "app" / "client_example.py", server.address, clip, output]
    options = ["--box", "102,34,154,97", "--auth", "ben:x:y"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(open_video(output)) == 13 and "fill: running" in done.stdout


def test_a_client_is_told_its_mistakes(server):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    app = Client(server.address, auth=("ann", "open sesame"), verbose=False)
    project = app.predict(api_name="/new_project")
    for arguments, name, told in (
        (["../" + project], "/timeline", "project: expected an id"),
        ([project, 1, 0, 1.0, 1.0], "/add_point", "expected"),
        ([project, {"path": "/etc/passwd"}], "/set_video", "uploaded here"),
        ([project, "dance"], "/submit", "job: expected"),
        ([project, "00"], "/status", "job: expected"),
        ([project, "fill", {"task": "remove", "speed": 3}], "/submit", "settings: expected"),
    ):
        with pytest.raises(AppError, match=told):
            app.predict(*arguments, api_name=name)


@pytest.mark.skipif("VIDEOPAINTER_AXE" not in os.environ, reason="VIDEOPAINTER_AXE does not name axe.min.js")
def test_axe_finds_nothing_serious(visit):
    for options in ({}, {"color_scheme": "dark"}, {"width": 390}):
        page = visit(**options)
        page.locator("#vp-examples button", has_text="Remove the ball").click()
        says(page, "Choose what is to happen")
        page.add_script_tag(path=os.environ["VIDEOPAINTER_AXE"])
        for number in (1, 2, 3, 4):
            step(page, number)
            page.wait_for_timeout(300)
            found = page.evaluate("axe.run()")["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
            ]
            assert not serious
