"""The same steps for programs: Gradio's client, or HTTP. Long jobs go by their id. See app/README.md.

What these functions take and give is their signature, which Gradio shows at `?view=api`; so it is what is documented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import FileData

from videopainter.app.desk import Desk
from videopainter.app.filling import FillSettings
from videopainter.app.jobs import JobStatus
from videopainter.app.masking import MaskShape
from videopainter.app.project import FillResult
from videopainter.app.projects import Projects
from videopainter.app.ui.served import Served, uploaded
from videopainter.errors import InputError, one_line


def add_api(projects: Projects, desk: Desk, served: Served) -> None:
    """Adds the endpoints to the page that is being built."""
    for function in (*_video(projects), *_mask(projects), *_jobs(projects, desk, served)):
        gr.api(_told(function), api_name=function.__name__, concurrency_limit=None)


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mistakes reach a client as their line, others as none."""

    @wraps(function)
    def called(*values: Any) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            raise gr.Error(one_line(error), print_exception=False) from None

    return called


def _video(projects: Projects) -> list[Callable[..., Any]]:
    def new_project() -> str:
        """Begin a project: its id, which all other steps take. Whoever knows it can open the project."""
        return projects.new().id

    def set_video(project: str, video: dict) -> dict:
        """Give a project its video (an uploaded file); what is known of it."""
        file = uploaded(video)
        return asdict(projects.open(project).set_video(file, file.name))

    def set_range(project: str, start: int, stop: int) -> dict:
        """Work on frames `start` to `stop` (exclusive), counted from 0."""
        found = projects.open(project)
        found.set_range(start, stop)
        return {"start": found.range.start, "stop": found.range.stop}

    return [new_project, set_video, set_range]


def _mask(projects: Projects) -> list[Callable[..., Any]]:
    def add_point(project: str, object: int, frame: int, x: float, y: float, positive: bool = True) -> dict:
        """A pixel of the video that belongs to an object (1 to 254), or does not."""
        found = projects.open(project)
        found.point(object, frame, x, y, positive)
        return _objects(found)

    def add_box(project: str, object: int, frame: int, x0: float, y0: float, x1: float, y1: float) -> dict:
        """A box round an object, in pixels of the video."""
        found = projects.open(project)
        found.box(object, frame, x0, y0, x1, y1)
        return _objects(found)

    def add_stroke(project: str, object: int, frame: int, places: list[list[float]], positive: bool = True) -> dict:
        """A line [[x, y], ...] over an object, or over what is not it."""
        found = projects.open(project)
        found.stroke(object, frame, places, positive)
        return _objects(found)

    def add_words(project: str, object: int, frame: int, words: str) -> dict:
        """What an object is, in words; where the app has a model that knows words."""
        found = projects.open(project)
        found.words(object, frame, words)
        return _objects(found)

    def undo(project: str, object: int) -> dict:
        """Take back what was said last of an object."""
        found = projects.open(project)
        found.undo(object)
        return _objects(found)

    def set_mask(project: str, mask: dict) -> dict:
        """Use an uploaded mask (white is painted) instead of objects."""
        file, found = uploaded(mask), projects.open(project)
        found.set_mask(file, file.name)
        return _objects(found)

    def set_shape(project: str, grow: int = 16, feather: int = 0, shape: str = "exact", invert: bool = False) -> dict:
        """What becomes of the masks: grown and softened by pixels; shape exact, hull or box; or everything else."""
        found = projects.open(project)
        found.shape(MaskShape(grow=grow, feather=feather, shape=shape, invert=invert))  # type: ignore[arg-type]
        return asdict(found.mask_shape)

    def timeline(project: str) -> list[dict]:
        """Of every frame of the range: none, absent, unsure or sure, and a confidence from 0 to 1."""
        return [asdict(one) for one in projects.open(project).timeline()]

    return [add_point, add_box, add_stroke, add_words, undo, set_mask, set_shape, timeline]


def _objects(project: Any) -> dict:
    """The objects of a project, and whether a mask of one's own is used instead."""
    names = ("id", "name", "tracked", "unsure")
    objects = [{name: getattr(one, name) for name in names} for one in project.objects]
    return {"objects": objects, "own_mask": project.mask_file is not None}


def _jobs(projects: Projects, desk: Desk, served: Served) -> list[Callable[..., Any]]:
    def plan(project: str, settings: dict) -> dict:
        """What a fill will compute: frames, windows, size, steps, and about how many seconds, where that is known."""
        return asdict(projects.open(project).check_fill(FillSettings.from_json(settings)))

    def submit(project: str, kind: str, settings: dict | None = None) -> str:
        """Begin a job: track, mask_video, captions, first_frames or fill; its id. The last three take settings."""
        return desk.submit(project, kind, settings)

    def status(project: str, job: str) -> dict:
        """How far a job is: state waiting, running, done, failed or cancelled; its place, progress, seconds left."""
        found = asdict(_own(project, job))
        return {name: value for name, value in found.items() if name not in ("preview", "answer")}

    def cancel(project: str, job: str) -> str:
        """Stop a job; what it finished is kept, and submitting the same again goes on there."""
        desk.cancel(_own(project, job).id)
        return _own(project, job).state

    def results(project: str) -> list[dict]:
        """What was made, the newest last: files to download, and the settings, to be given to `submit` again."""
        return [_result(one, served) for one in projects.open(project).results]

    def _own(project: str, job: str) -> JobStatus:
        jobs = desk.jobs(projects.open(project).id)
        found = next((one for one in jobs if one.id == job), None)
        if found is None:
            raise InputError("job: expected one of this project, got another id")
        return found

    return [plan, submit, status, cancel, results]


def _result(result: FillResult, served: Served) -> dict[str, Any]:
    files = {"video": result.video, "mask": result.mask, "comparison": result.comparison}
    links = {name: served.link(file, f"{name}{Path(file).suffix}") for name, file in files.items() if file}
    return {
        "id": result.id,
        "settings": result.settings,
        **{name: FileData(path=link).model_dump() for name, link in links.items() if link},
    }
