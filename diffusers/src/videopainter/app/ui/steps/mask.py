"""Step 2: what is to be painted, from clicks, boxes, strokes, words or a mask of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from videopainter.app.masking import MaskShape
from videopainter.app.ui import views
from videopainter.app.ui.wiring import Visit, Wiring
from videopainter.errors import InputError


def wire_mask(wiring: Wiring) -> None:
    """Ties the stage and the controls of step 2."""
    page, step = wiring.page, wiring.page.mask

    def place(visit: Visit) -> dict[Any, Any]:
        say(visit, visit.event)
        return {step.candidates: {"items": []}}

    def choices(visit: Visit) -> dict[Any, Any]:
        """After a first click: what else it may mean. Asked for once the click itself was answered."""
        return {step.candidates: views.candidate_pictures(visit.known, visit.object)}

    def undo(visit: Visit) -> dict[Any, Any]:
        visit.known.undo(int(visit.event["object"]))
        return {step.candidates: {"items": []}}

    def forget(visit: Visit) -> dict[Any, Any]:
        project = visit.known
        if project.mask_file is not None:
            project.set_mask(None)
            return {}
        project.forget(int(visit.event["object"]))
        left = [one.id for one in project.objects]
        visit.turn(object=left[0] if left else 1)
        return {step.candidates: {"items": []}}

    def find(visit: Visit, words: str) -> dict[Any, Any]:
        visit.known.words(visit.object, visit.frame, words)
        visit.turn(view="mask")
        return {step.candidates: {"items": []}}

    def rename(visit: Visit) -> dict[Any, Any]:
        visit.known.rename(visit.event["object"], str(visit.event.get("name") or ""))
        return {}

    def choose(visit: Visit) -> dict[Any, Any]:
        project = visit.known
        project.choose(visit.object, int(visit.event["key"]))
        return {step.candidates: views.candidate_pictures(project, visit.object)}

    def shape(visit: Visit, grow: float, feather: float, kind: str, invert: bool) -> dict[Any, Any]:
        visit.known.shape(MaskShape(grow=int(grow), feather=int(feather), shape=kind, invert=bool(invert)))  # type: ignore[arg-type]
        return {}

    def upload(visit: Visit, file: str | None) -> dict[Any, Any]:
        if not file:
            return {}
        visit.known.set_mask(Path(file), Path(file).name)
        visit.turn(view="mask")
        return {step.candidates: {"items": []}}

    def start(kind: str) -> Any:
        def started(visit: Visit) -> dict[Any, Any]:
            wiring.desk.submit(visit.known.id, kind)
            return {}

        return started

    placed = wiring.on_part(page.stage.place, place, trigger_mode="multiple")
    wiring.on(placed.then, choices, follows=True, trigger_mode="multiple")
    wiring.on_part(page.stage.undo, undo)
    wiring.on_part(page.stage.forget, forget)
    wiring.on_part(page.stage.rename, rename)
    wiring.on_part(step.candidates.pick, choose)
    wiring.on(step.find.click, find, [step.words])
    wiring.on(step.words.submit, find, [step.words])
    for control in step.shaping:
        wiring.on(control.input, shape, step.shaping, trigger_mode="always_last")
    wiring.on(step.upload.upload, upload, [step.upload], always={step.upload: None})
    wiring.on(step.track.click, start("track"))
    wiring.on(step.make_film.click, start("mask_video"))


def say(visit: Visit, said: Any) -> None:
    """A click, a box or a stroke of the stage, given to the project."""
    project, kind = visit.known, said.get("kind")
    number, frame, positive = int(said["object"]), int(said["frame"]), bool(said.get("positive", True))
    if kind == "point":
        project.point(number, frame, float(said["x"]), float(said["y"]), positive)
    elif kind == "box":
        project.box(number, frame, *(float(said[name]) for name in ("x0", "y0", "x1", "y1")))
    elif kind == "stroke":
        project.stroke(number, frame, [(float(x), float(y)) for x, y in said["places"]], positive)
    else:
        raise InputError("Drawing: expected a point, a box or a stroke, got something else.")
