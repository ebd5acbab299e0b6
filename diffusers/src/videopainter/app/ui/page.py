"""The page: one picture to work on, four steps beside it, and what each control calls."""

from __future__ import annotations

from typing import Any

import gradio as gr

from videopainter.app.desk import Desk
from videopainter.app.options import AppOptions
from videopainter.app.projects import Projects
from videopainter.app.ui.api import add_api
from videopainter.app.ui.controls import mask_step, video_step
from videopainter.app.ui.examples import find_examples, tiles
from videopainter.app.ui.fill_controls import fill_step, result_step
from videopainter.app.ui.frames import answer_picture
from videopainter.app.ui.parts import make_stage, make_status
from videopainter.app.ui.served import Served
from videopainter.app.ui.steps.fill import wire_fill
from videopainter.app.ui.steps.jobs import wire_jobs
from videopainter.app.ui.steps.mask import wire_mask
from videopainter.app.ui.steps.result import wire_result
from videopainter.app.ui.steps.video import wire_video
from videopainter.app.ui.wiring import Page, Wiring
from videopainter.pipelines.settings import SamplingSettings
from videopainter.runs.weights import checkpoint_defaults

_HEAD = '<header class="vp-head"><h1>VideoPainter</h1><p>Remove, change or add things in a video</p></header>'
_POLL_SECONDS = 1.0
# Not secrets: the browser keeps ids under these names, and an id is what opens a project, or a browser's list of them.
_PROJECT, _BROWSER = "videopainter-project", "videopainter-browser"


def build_page(projects: Projects, desk: Desk, served: Served, options: AppOptions) -> gr.Blocks:
    """The whole page and the API."""
    examples = find_examples()
    with gr.Blocks(
        title="VideoPainter", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86_400)
    ) as blocks:
        page = _layout(projects, options)
        wiring = Wiring(blocks, page, projects, desk, options)
        opened = wire_video(wiring, served, examples)
        wire_mask(wiring)
        wire_fill(wiring, opened)
        wire_result(wiring, served)
        wire_jobs(wiring, served, tiles(examples))
        add_api(projects, desk, served)
    return blocks


def _layout(projects: Projects, options: AppOptions) -> Page:
    here, browser = (gr.BrowserState("", storage_key=name, secret=name) for name in (_PROJECT, _BROWSER))
    timer = gr.Timer(_POLL_SECONDS, active=False)
    gr.HTML(_HEAD, apply_default_css=False, js_on_load=None)

    def frame_picture(asked: Any) -> dict[str, str]:
        return answer_picture(projects, asked)

    with gr.Row(elem_classes="vp-page"):
        with gr.Column(scale=7, min_width=340, elem_classes="vp-left"):
            stage, status = make_stage(frame_picture), make_status()
        with (
            gr.Column(scale=4, min_width=340, elem_classes="vp-right"),
            gr.Tabs(selected="video", elem_classes="vp-steps") as tabs,
        ):
            with gr.Tab("1 Video", id="video"):
                video = video_step()
            with gr.Tab("2 Mask", id="mask"):
                mask = mask_step()
            with gr.Tab("3 Fill or edit", id="fill"):
                fill = fill_step(*_sampling(options))
            with gr.Tab("4 Result", id="result"):
                result = result_step()
    steps = {"video": video, "mask": mask, "fill": fill, "result": result}
    return Page(here=here, browser=browser, stage=stage, status=status, timer=timer, tabs=tabs, **steps)


def _sampling(options: AppOptions) -> tuple[int, float]:
    """Steps and guidance that the checkpoint asks for."""
    known = checkpoint_defaults({"model_path": options.model_path})
    usual = SamplingSettings()
    steps = known.get("num_inference_steps", usual.num_inference_steps)
    return int(steps), float(known.get("guidance_scale", usual.guidance_scale))
