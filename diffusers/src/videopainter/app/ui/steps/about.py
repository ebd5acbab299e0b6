"""What steps 1 and 2 tell of a project."""

from __future__ import annotations

from typing import Any

import gradio as gr

from videopainter.app.mask_views import MaskShape
from videopainter.app.ui import views
from videopainter.app.ui.wiring import Page, Visit


def shaped(page: Page, shape: MaskShape) -> dict[Any, Any]:
    """The controls of the hole's shape, as it is."""
    return dict(zip(page.mask.shaping, (shape.grow, shape.feather, shape.shape, shape.invert), strict=True))


def about(visit: Visit, page: Page, *, numbers: bool = True) -> dict[Any, Any]:
    """What step 1 tells of the project; `numbers`: the range's, too."""
    project = visit.known
    last = len(project.frames)
    start, stop = page.video.start, page.video.stop
    values = {start: project.range.start + 1, stop: project.range.stop} if numbers else {}
    return {
        page.video.facts: views.video_facts(project),
        page.video.part: gr.Column(visible=True),
        **{number: gr.Number(value, maximum=last) for number, value in values.items()},
        page.mask.candidates: {"items": []},
        page.mask.film: gr.Video(None, visible=False),
    }
