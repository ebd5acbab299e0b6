"""Step 4: what came of it, to look at, to take home, and to begin again from."""

from __future__ import annotations

from typing import Any

import gradio as gr

from videopainter.app.filling import FillSettings
from videopainter.app.mask_views import MaskShape
from videopainter.app.project import FillResult, Project
from videopainter.app.ui import views
from videopainter.app.ui.fill_controls import NO_RESULT
from videopainter.app.ui.frames import chosen_result
from videopainter.app.ui.served import Served
from videopainter.app.ui.steps.about import about, shaped
from videopainter.app.ui.wiring import Page, Visit, Wiring
from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.segmentation.prompts import FrameRange


def wire_result(wiring: Wiring, served: Served) -> None:
    """Ties the controls of step 4."""
    page, step = wiring.page, wiring.page.result

    def choose(visit: Visit) -> dict[Any, Any]:
        return show_result(visit, page, served, str(visit.event.get("key")))

    def again(visit: Visit) -> dict[Any, Any]:
        result = chosen_result(visit.known, visit.stage.get("result"))
        if result is None:
            raise InputError("There is no result yet.")
        settings = FillSettings.from_json(result.settings)
        bring_back(visit.known, result)
        values = {name: getattr(settings, name) for name in page.fill.settings if hasattr(settings, name)}
        controls = {getattr(page.fill, name): value for name, value in values.items() if value is not None}
        height, width = settings.size or (None, None)
        return {
            **about(visit, page),
            **shaped(page, visit.known.mask_shape),
            **page.fill.shows(settings.task),
            **controls,
            page.fill.instruction: gr.Textbox(settings.instruction, visible=settings.task != "inpaint"),
            page.fill.height: height,
            page.fill.width: width,
            page.fill.first_frame: settings.first_frame or "",
            page.fill.first_frames: views.first_frame_pictures(visit.known, visit.jobs, settings.first_frame or ""),
            page.tabs: gr.Tabs(selected="fill"),
        }

    def drop(visit: Visit) -> dict[Any, Any]:
        project = visit.known
        result = chosen_result(project, visit.stage.get("result"))
        if result is None:
            raise InputError("There is no result yet.")
        project.forget_result(result.id)
        visit.turn(result=None, view="mask")
        return {**no_result(page), **show_result(visit, page, served, None, turn=False)}

    wiring.on(step.drop.click, drop)
    wiring.on_part(step.made.pick, choose)
    wiring.on(step.again.click, again)


def bring_back(project: Project, result: FillResult) -> None:
    """The range and the shape that a result was made with. The masks stay what they are now."""
    told = read_json(result.settings_file)
    span, shape = FrameRange(start=told["range"][0], stop=told["range"][1]), MaskShape(**told["shape"])
    if span != project.range:
        project.set_range(span.start, span.stop)
    if shape != project.mask_shape:
        project.shape(shape)


def show_result(visit: Visit, page: Page, served: Served, key: str | None, *, turn: bool = True) -> dict[Any, Any]:
    """A result (None: the last one) in step 4, and on the stage beside the original, which turns to it."""
    step, project = page.result, visit.known
    result = chosen_result(project, key)
    if result is None:
        return {}
    visit.turn(result=result.id, **({"view": "result"} if turn else {}))
    files = {
        step.video: (result.video, f"result{result.video.suffix}"),
        step.mask: (result.mask, f"mask{result.mask.suffix}"),
        step.comparison: (result.comparison, f"comparison{result.comparison.suffix}"),
        step.settings: (result.settings_file, "settings.json"),
    }
    downloads = {}
    for button, (file, name) in files.items():
        link = served.link(file, name)
        downloads[button] = gr.DownloadButton(value=link, interactive=link is not None)
    return {
        **downloads,
        step.film: gr.Video(served.link(result.video, f"result{result.video.suffix}"), visible=True),
        step.facts: views.result_facts(result),
        step.made: views.result_pictures(project, result.id),
        step.again: gr.Button(interactive=True),
        step.drop: gr.Button(interactive=True),
    }


def no_result(page: Page) -> dict[Any, Any]:
    """Step 4 where nothing was made yet."""
    step = page.result
    downloads = (step.video, step.mask, step.comparison, step.settings)
    return {
        step.film: gr.Video(None, visible=False),
        step.made: {"items": []},
        step.facts: NO_RESULT,
        **{button: gr.DownloadButton(value=None, interactive=False) for button in downloads},
        **{button: gr.Button(interactive=False) for button in (step.again, step.drop)},
    }
