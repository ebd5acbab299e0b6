"""Between the controls and a project: opens it, calls a step, shows what came of it, tells mistakes in a line.

A step is `step(visit, *values) -> dict of component -> value`; what every step may change (stage, status, buttons) is
added here. Which project is meant comes from the browser, which keeps its id, and nothing is kept between two calls: a
server that was started again goes on where the last one was.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from videopainter.app.desk import Desk
from videopainter.app.jobs import JobStatus
from videopainter.app.options import AppOptions
from videopainter.app.project import Project
from videopainter.app.projects import Projects
from videopainter.app.ui import views
from videopainter.app.ui.controls import MaskStep, VideoStep
from videopainter.app.ui.fill_controls import FillStep, ResultStep
from videopainter.app.ui.frames import check_token
from videopainter.errors import InputError, one_line


@dataclass(frozen=True, kw_only=True)
class Page:
    """Every control of the page."""

    here: gr.BrowserState
    browser: gr.BrowserState
    stage: gr.HTML
    status: gr.HTML
    timer: gr.Timer
    tabs: gr.Tabs
    video: VideoStep
    mask: MaskStep
    fill: FillStep
    result: ResultStep

    @property
    def changing(self) -> list[Any]:
        """All that a step may change."""
        parts = [self.here, self.browser, self.stage, self.status, self.timer, self.tabs]
        for step in (self.video, self.mask, self.fill, self.result):
            parts += vars(step).values()
        return parts


@dataclass(kw_only=True)
class Visit:
    """One call: whose project it is, what the page shows, and what it is to show."""

    projects: Projects
    desk: Desk
    project: Project | None
    stage: Mapping[str, Any]
    shown: Mapping[str, Any]  # the status, as the page has it
    browser: str = ""  # whose projects are on its shelf
    first_frame: str = ""  # the picture that is chosen
    came: str = ""  # the id of the project that the page had when it called
    event: Mapping[str, Any] = field(default_factory=dict)
    goto: dict[str, Any] = field(default_factory=dict)  # what the stage is to turn to

    @property
    def known(self) -> Project:
        """The project. InputError where there is none yet, or the page shows another video than its."""
        if self.project is None or self.project.video is None:
            raise InputError("Choose a video first.")
        check_token(self.project, self.event.get("token") or self.stage.get("token"))
        return self.project

    @property
    def frame(self) -> int:
        return int(self.stage.get("frame") or 0)

    @property
    def object(self) -> int:
        return int(self.stage.get("object") or 1)

    @property
    def jobs(self) -> list[JobStatus]:
        return self.desk.jobs(self.project.id) if self.project else []

    def shelved(self) -> str:
        """Puts the project on the browser's shelf; its id, or none."""
        if self.project is None:
            return ""
        if self.project.video is not None:
            self.browser = self.projects.shelf.put(self.browser, self.project.id)
        return self.project.id

    def leave(self) -> None:
        """To a page without a project, or with another one."""
        self.project, self.stage = None, {}

    def bring(self, video: Path, name: str) -> Project:
        """The project with a video that somebody brought: a new one where this one has work on another video, or does
        some."""
        project = self.project = self.project or self.projects.new()
        is_used = project.video is not None and (project.has_work or any(job.is_open for job in self.jobs))
        if is_used and not project.is_of(video):
            project = self.projects.new()
        project.set_video(video, name)
        self.project, self.stage = project, {}
        return project

    def turn(self, **goto: Any) -> None:
        """What the stage is to show: `frame`, `object`, `view`, `result`."""
        self.goto |= goto


Step = Callable[..., dict[Any, Any]]
_GONE = "The project of this page is not there any more."


class Wiring:
    """Ties controls to steps."""

    def __init__(self, blocks: gr.Blocks, page: Page, projects: Projects, desk: Desk, options: AppOptions) -> None:
        self.blocks, self.page = blocks, page
        self.projects, self.desk, self.options = projects, desk, options
        # What is shown once a job is done.
        self.ended: Callable[[Visit, JobStatus], dict[Any, Any]] = lambda visit, job: {}
        # What is shown where the project is not there any more.
        self.emptied: Callable[[], dict[Any, Any]] = dict

    def on(self, listener: Callable[..., Any], step: Step, inputs: Sequence[Any] = (), **how: Any) -> Any:
        """Calls `step` at an event of a control, one that users cause: what a step sets calls no step.

        how: Gradio's settings of an event, and `follows` (nobody did anything: what was told of a mistake stays) and
        `always` (component -> value, also where the step fails).
        """

        def called(*values: Any) -> dict[Any, Any]:
            return self._call(step, {}, values, told)

        how, told = self._split(how)
        return self._tie(listener, called, inputs, how)

    def on_part(self, listener: Callable[..., Any], step: Step, inputs: Sequence[Any] = (), **how: Any) -> Any:
        """As `on`, for a part of our own, whose event says more: `visit.event`."""

        def called(event: gr.EventData, *values: Any) -> dict[Any, Any]:
            said = event._data if isinstance(event._data, dict) else {}
            return self._call(step, said, values, told)

        how, told = self._split(how)
        return self._tie(listener, called, inputs, how)

    def _split(self, how: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        ours = {"follows": how.pop("follows", False), "always": how.pop("always", {})}
        return how, ours

    def _tie(self, listener: Callable[..., Any], called: Callable[..., Any], inputs: Sequence[Any], how: Any) -> Any:
        page = self.page
        settings: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
        always = [page.here, page.browser, page.stage, page.status, page.fill.first_frame]
        return listener(called, [*always, *inputs], page.changing, **{**settings, **how})

    def _call(self, step: Step, event: Mapping[str, Any], values: Sequence[Any], how: Any) -> dict[Any, Any]:
        here, browser, stage, shown, first_frame, *rest = values
        stage, shown = (value if isinstance(value, dict) else {} for value in (stage, shown))
        visit = Visit(projects=self.projects, desk=self.desk, project=None, stage=stage, shown=shown, event=event)
        visit.browser, visit.first_frame, visit.came = str(browser or ""), str(first_frame or ""), str(here or "")
        before = str(shown.get("problem") or "") if how["follows"] else ""
        gone = self._open(visit, here)
        changes, problem = self._tried(lambda: step(visit, *rest))
        made, missed = self._tried(lambda: self._just_ended(visit))
        problem = (gone if visit.project is None else "") or problem or missed or before
        changes = {**(self.emptied() if gone else {}), **made, **changes}
        try:
            standing = self.standing(visit, problem, answered=not how["follows"])
            return {**standing, **changes, **how["always"]}
        except ValueError as error:  # the project was removed meanwhile
            visit.leave()
            return {**self.emptied(), **self.standing(visit, one_line(error)), **how["always"]}

    def _tried(self, call: Callable[[], dict[Any, Any]]) -> tuple[dict[Any, Any], str]:
        """What a call changes, or its mistake in a line."""
        try:
            return call(), ""
        except ValueError as error:  # InputError, and settings that do not fit
            return {}, one_line(error)
        except Exception:
            # What a browser sends may be anything. A mistake of ours is told there, and seen here.
            traceback.print_exc()
            return {}, "That did not work; the server's log says why."

    def _just_ended(self, visit: Visit) -> dict[Any, Any]:
        """What a job made that the page still shows as running: whichever call comes first after its end tells it."""
        shown = visit.shown
        job = next((one for one in visit.jobs if one.id == shown.get("job")), None) if shown.get("open") else None
        return self.ended(visit, job) if job is not None and job.state == "done" else {}

    def _open(self, visit: Visit, here: Any) -> str:
        """Opens the page's project; what is told where it is not there any more."""
        try:
            visit.project = self.projects.open(here) if here else None
        except InputError:
            visit.leave()
            return _GONE
        return ""

    def standing(self, visit: Visit, problem: str = "", *, answered: bool = True) -> dict[Any, Any]:
        """What follows from the project alone: stage, status, and which buttons can be used."""
        visit.shelved()
        page, project, jobs = self.page, visit.project, visit.jobs
        job = jobs[-1] if jobs else None
        busy = any(one.is_open for one in jobs)
        kept = {} if visit.project and visit.stage.get("project") != visit.project.id else visit.stage
        now = project.id if project else ""
        # A call that began before the page got another project may end after that: it does not bring the old one back.
        turned = {"switched": True} if now != visit.came else {}
        found = {
            **({page.here: now} if turned else {}),
            page.browser: visit.browser,
            page.stage: views.stage(project, kept, answered, **visit.goto) | turned,
            page.status: views.status(project, job, problem),
            page.timer: gr.Timer(active=busy),
        }
        return found | self._buttons(project, busy)

    def _buttons(self, project: Project | None, busy: bool) -> dict[Any, Any]:
        """Buttons that cannot be used say why in the line below them."""
        mask, fill = self.page.mask, self.page.fill
        off = views.reasons(project, busy)
        return {
            mask.track: gr.Button(interactive=off["track"] is None),
            mask.track_why: off["track"] or "",
            mask.find: gr.Button(interactive=off["words"] is None),
            mask.find_why: off["words"] or "",
            mask.make_film: gr.Button(interactive=off["film"] is None),
            **{button: gr.Button(interactive=off["captions"] is None) for button in fill.proposing},
            fill.propose_why: off["captions"] or "",
            fill.paint: gr.Button(interactive=off["fill"] is None),
            fill.start: gr.Button(interactive=off["fill"] is None),
            fill.start_why: off["fill"] or "",
        }
