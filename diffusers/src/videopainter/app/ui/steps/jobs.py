"""What runs on the desk: its progress on the page, cancel, go on, and what is shown once it is done."""

from __future__ import annotations

from typing import Any

import gradio as gr

from videopainter.app.jobs import JobStatus
from videopainter.app.ui import views
from videopainter.app.ui.served import Served
from videopainter.app.ui.steps.result import show_result
from videopainter.app.ui.steps.video import empty, project_controls, shelf
from videopainter.app.ui.wiring import Visit, Wiring
from videopainter.errors import InputError


def wire_jobs(wiring: Wiring, served: Served, examples: dict[str, Any]) -> None:
    """Ties the status, the timer, and the page's loading."""
    page = wiring.page

    def load(visit: Visit) -> dict[Any, Any]:
        return {page.video.examples: examples, **shelf(visit, page), **project_controls(visit, page, served)}

    def tick(visit: Visit) -> dict[Any, Any]:
        """While something runs, every second: what changes is what every call tells."""
        return {}

    def ended(visit: Visit, job: JobStatus) -> dict[Any, Any]:
        if job.kind == "mask_video":
            return {page.mask.film: gr.Video(served.link(job.answer["preview"], "mask-preview.mp4"), visible=True)}
        if job.kind == "captions":
            boxes = page.fill.texts_by_name
            label = str(boxes[views.ANSWERS[job.settings["question"]]].label)
            return {page.fill.proposal: views.proposal(visit.jobs, job, list(boxes), label)}
        if job.kind == "first_frames":
            pictures = views.first_frame_pictures(visit.known, visit.jobs, visit.first_frame)
            # What was chosen meanwhile stays; a picture that is not shown any more is not chosen.
            chosen = next((one["key"] for one in pictures["items"] if one["chosen"]), "")
            return {page.fill.first_frame: chosen, page.fill.first_frames: pictures}
        if job.kind == "fill":
            # Who is typing is not taken away from it: the status has a button that shows the result.
            turn = not visit.stage.get("typing")
            shown = show_result(visit, page, served, job.answer["result"], turn=turn)
            return {**shown, **shelf(visit, page), **({page.tabs: gr.Tabs(selected="result")} if turn else {})}
        return {}

    def cancel(visit: Visit) -> dict[Any, Any]:
        wiring.desk.cancel(own_job(visit).id)
        return {}

    def go_on(visit: Visit) -> dict[Any, Any]:
        job = own_job(visit)
        wiring.desk.submit(job.project, job.kind, job.settings)
        return {}

    def own_job(visit: Visit) -> JobStatus:
        """The job that a button means: of this project, whatever a browser sends."""
        found = next((job for job in visit.jobs if job.id == visit.event.get("job")), None)
        if found is None:
            raise InputError("That job is not there any more.")
        return found

    def show(visit: Visit) -> dict[Any, Any]:
        return {**show_result(visit, page, served, None), page.tabs: gr.Tabs(selected="result")}

    def following(visit: Visit) -> dict[Any, Any]:
        return {page.tabs: gr.Tabs(selected="fill")}

    wiring.ended, wiring.emptied = ended, lambda: empty(page)
    wiring.on(wiring.blocks.load, load)
    wiring.on(page.timer.tick, tick, follows=True)
    wiring.on_part(page.stage.refresh, load, follows=True)
    wiring.on_part(page.status.cancel, cancel)
    wiring.on_part(page.status.go_on, go_on)
    wiring.on_part(page.status.show, show)
    wiring.on_part(page.status.next, following)
