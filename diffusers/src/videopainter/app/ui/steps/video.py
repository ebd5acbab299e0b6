"""Step 1: a video comes in, and the part of it that is worked on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from videopainter.app.mask_views import MaskShape
from videopainter.app.ui import views
from videopainter.app.ui.examples import Example
from videopainter.app.ui.served import Served
from videopainter.app.ui.steps.about import about, shaped
from videopainter.app.ui.steps.result import no_result, show_result
from videopainter.app.ui.wiring import Page, Visit, Wiring
from videopainter.errors import InputError


def wire_video(wiring: Wiring, served: Served, examples: Sequence[Example]) -> list[Any]:
    """Ties the controls of step 1. Returns the events after which a project is there that was not."""
    page, step = wiring.page, wiring.page.video
    known = {example.key: example for example in examples}

    def upload(visit: Visit, file: str | None) -> dict[Any, Any]:
        if not file:
            return {}
        visit.bring(Path(file), Path(file).name)
        visit.turn(frame=0, object=1, view="mask")
        return {**arrived(visit), page.tabs: gr.Tabs(selected="mask")}

    def arrived(visit: Visit) -> dict[Any, Any]:
        return {**shelf(visit, page), **project_controls(visit, page, served)}

    def reopen(visit: Visit) -> dict[Any, Any]:
        project = visit.projects.own(visit.browser, visit.event.get("key"))
        visit.leave()
        visit.project = project
        visit.turn(frame=project.range.start, object=1, view="mask")
        turned = {page.tabs: gr.Tabs(selected="result" if project.results else "mask")}
        return {page.fill.proposal: {}, **arrived(visit), **turned}

    def remove(visit: Visit) -> dict[Any, Any]:
        project = visit.projects.own(visit.browser, visit.event.get("key"))
        visit.projects.remove(project.id)
        if visit.project is None or visit.project.id != project.id:
            return shelf(visit, page)
        visit.leave()
        return {**empty(page), **shelf(visit, page)}

    def example(visit: Visit) -> dict[Any, Any]:
        chosen = known.get(str(visit.event.get("key")))
        if chosen is None:
            raise InputError("That example is not there.")
        project = visit.bring(chosen.video, chosen.video.name)
        if chosen.mask:
            project.set_mask(chosen.mask, chosen.mask.name)
        visit.turn(frame=0, object=1, view="mask")
        settings = {getattr(page.fill, name): value for name, value in chosen.settings.items()}
        settings |= page.fill.shows(chosen.settings.get("task", "remove"))
        turned = {page.tabs: gr.Tabs(selected="fill" if chosen.mask else "mask")}
        return {**arrived(visit), **settings, **turned}

    def span(visit: Visit, start: float | None, stop: float | None) -> dict[Any, Any]:
        project = visit.known
        if start is None or stop is None:
            raise InputError("First and last frame: expected two numbers, got none.")
        project.set_range(int(start) - 1, int(stop))
        # The numbers are what was typed; the other one may be typed into by now.
        return about(visit, page, numbers=False)

    def left(visit: Visit, start: float | None, stop: float | None) -> dict[Any, Any]:
        """A number was left, by a click on a button, too, which may have been answered before."""
        project = visit.project
        if project is None or project.video is None:
            return {}
        now = [project.range.start, project.range.stop]
        if visit.stage.get("range") != now:
            return about(visit, page)
        return {} if (start, stop) == (now[0] + 1, now[1]) else span(visit, start, stop)

    def from_here(visit: Visit) -> dict[Any, Any]:
        project = visit.known
        project.set_range(visit.frame, max(visit.frame + 1, project.range.stop))
        return about(visit, page)

    def to_here(visit: Visit) -> dict[Any, Any]:
        project = visit.known
        project.set_range(min(project.range.start, visit.frame), visit.frame + 1)
        return about(visit, page)

    def whole(visit: Visit) -> dict[Any, Any]:
        project = visit.known
        assert project.video is not None
        project.set_range(0, project.video.frames)
        return about(visit, page)

    def anew(visit: Visit) -> dict[Any, Any]:
        visit.leave()
        return {**empty(page), **shelf(visit, page)}

    # `input`, `upload` and `click` are what users do; nothing here listens for `change`, which outputs cause as well.
    wiring.on(step.upload.upload, upload, [step.upload], always={step.upload: None})
    opened = [wiring.on_part(step.examples.pick, example), wiring.on_part(step.mine.pick, reopen)]
    wiring.on_part(step.mine.drop, remove)
    for number in (step.start, step.stop):
        wiring.on(number.submit, span, [step.start, step.stop])
        wiring.on(number.blur, left, [step.start, step.stop])
    wiring.on(step.from_here.click, from_here)
    wiring.on(step.to_here.click, to_here)
    wiring.on(step.whole.click, whole)
    wiring.on(step.anew.click, anew)
    return opened


def project_controls(visit: Visit, page: Page, served: Served) -> dict[Any, Any]:
    """All controls that tell of a project, for one that comes to the page, or another video of it."""
    project = visit.project
    if project is None or project.video is None:
        return empty(page)
    return {
        **no_result(page),
        **about(visit, page),
        **shaped(page, project.mask_shape),
        page.fill.first_frame: "",
        page.fill.first_frames: views.first_frame_pictures(project, visit.jobs, ""),
        **show_result(visit, page, served, None, turn=False),
    }


def shelf(visit: Visit, page: Page) -> dict[Any, Any]:
    """The browser's projects."""
    now = visit.shelved()
    return {page.video.mine: views.project_tiles(visit.projects.cards(visit.browser), now)}


def empty(page: Page) -> dict[Any, Any]:
    """A page without a project."""
    return {
        page.video.facts: [],
        page.video.part: gr.Column(visible=False),
        page.video.start: gr.Number(1, maximum=1),
        page.video.stop: gr.Number(1, maximum=1),
        page.mask.candidates: {"items": []},
        page.mask.film: gr.Video(None, visible=False),
        **shaped(page, MaskShape()),
        page.fill.first_frame: "",
        page.fill.first_frames: {"items": []},
        page.fill.proposal: {},
        page.fill.plan: [],
        **no_result(page),
        page.tabs: gr.Tabs(selected="video"),
    }
