"""Step 3: what is painted: settings, captions, first frames, the plan, and the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from videopainter.app.filling import FillSettings
from videopainter.app.ui import views
from videopainter.app.ui.look import asset
from videopainter.app.ui.wiring import Visit, Wiring
from videopainter.errors import InputError

TEXTS = ("instruction", "prompt", "image_prompt")


def wire_fill(wiring: Wiring, opened: Sequence[Any]) -> None:
    """Ties the controls of step 3; after the events of `opened` it may be the step that is shown."""
    page, step = wiring.page, wiring.page.fill
    controls = list(step.settings.values())

    def settings_of(values: Sequence[Any]) -> dict[str, Any]:
        return settings_from(dict(zip(step.settings, values, strict=True)))

    def planned(visit: Visit, *values: Any) -> dict[Any, Any]:
        return {step.plan: plan_facts(visit, values)}

    def plan_facts(visit: Visit, values: Sequence[Any]) -> list[Any]:
        project = visit.project
        if project is None or views.reasons(project, busy=False)["fill"] is not None:
            return []
        try:
            return views.plan(project.check_fill(FillSettings.from_json(settings_of(values))))
        except ValueError as error:
            return [{"text": str(error), "note": True}]

    def task(visit: Visit, *values: Any) -> dict[Any, Any]:
        return {**step.shows(str(values[0])), step.plan: plan_facts(visit, values)}

    def start(kind: str) -> Any:
        def started(visit: Visit, *values: Any) -> dict[Any, Any]:
            wiring.desk.submit(visit.known.id, kind, settings_of(values))
            return {}

        return started

    def propose(question: str) -> Any:
        def proposed(visit: Visit, *values: Any) -> dict[Any, Any]:
            known = dict(zip(step.settings, values, strict=True))
            task = str(known["task"])
            asked = "hole" if question == "region" and task == "inpaint" else question
            said = {"question": asked, "caption": known["prompt"] or "", "instruction": known["instruction"] or ""}
            if asked == "instruction":
                said["kind"] = task
            wiring.desk.submit(visit.known.id, "captions", said)
            return {}

        return proposed

    def choose(visit: Visit, chosen: str) -> dict[Any, Any]:
        key = str(visit.event.get("key"))
        name = "" if key == chosen else key  # a second click takes it back
        return {step.first_frame: name, step.first_frames: views.first_frame_pictures(visit.known, visit.jobs, name)}

    def own_frame(visit: Visit, file: str | None) -> dict[Any, Any]:
        if not file:
            return {}
        name = visit.known.add_picture(file, Path(file).name)
        return {step.first_frame: name, step.first_frames: views.first_frame_pictures(visit.known, visit.jobs, name)}

    # Texts and numbers are planned when they are left: not with every letter.
    wiring.on(step.task.input, task, controls)
    for control in controls:
        if control not in (step.task, step.candidates, step.first_frame):
            event = control.blur if isinstance(control, gr.Textbox | gr.Number) else control.input
            wiring.on(event, planned, controls, follows=True, trigger_mode="always_last")
    questions = ("instruction", "video", "rewrite", "region")
    for button, question in zip(step.proposing, questions, strict=True):
        wiring.on(button.click, propose(question), controls)
    boxes = [step.proposal, *step.texts_by_name.values()]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    settled = step.proposal.settle(None, boxes, boxes, js=asset("settle.js"), **quiet)
    wiring.on(settled.then, planned, controls, follows=True)
    wiring.on(step.paint.click, start("first_frames"), controls)
    wiring.on(step.start.click, start("fill"), controls)
    wiring.on_part(step.first_frames.pick, choose, [step.first_frame])
    wiring.on(step.own_frame.upload, own_frame, [step.own_frame], always={step.own_frame: None})
    wiring.on(page.tabs.select, planned, controls, follows=True)
    for event in (page.status.next, *(one.then for one in opened)):  # a tab that the server selects says nothing
        wiring.on(event, planned, controls, follows=True)


def settings_from(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the controls' values are, as `FillSettings.from_json` takes them."""
    found = {name: "" if value is None and name in TEXTS else value for name, value in values.items()}
    # An empty field is None, or 0 once a browser has sent it back.
    height, width = found.pop("height", None) or None, found.pop("width", None) or None
    if (height is None) != (width is None):
        raise InputError("working size: expected both height and width, or neither")
    for name in ("seed", "steps", "overlap", "candidates"):
        if found.get(name) is None:
            raise InputError(f"{name}: expected a whole number, got none")
        found[name] = int(str(found[name]))
    size = None if height is None or width is None else [int(height), int(width)]
    return {**found, "first_frame": found.get("first_frame") or None, "size": size}
