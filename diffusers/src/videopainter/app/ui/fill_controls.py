"""The controls of steps 3 and 4: what is painted, and what came of it. Layout only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from videopainter.app.ui.parts import make_note, make_pictures, make_proposal

# What people call it, and `FillSettings.task`.
_TASKS = [("Remove", "remove"), ("Swap", "swap"), ("Change", "change"), ("Add", "add"), ("Describe", "inpaint")]
NO_RESULT = "There is no result yet: choose what is to happen in step 3, and start."
_COPYING = [
    ("as the task needs", "auto"),
    ("off", "off"),
    ("first frame", "first_frame"),
    ("all frames", "all"),
    ("only copy", "only"),
]
# What a task is, in a line.
TOLD = {
    "remove": "The object goes: what other frames show behind it is copied, the rest is painted.",
    "swap": "Another object takes its place.",
    "change": "The object stays where it is and becomes something else.",
    "add": "Something new appears in the hole.",
    "inpaint": "Say yourself what the whole video shows.",
}


@dataclass(kw_only=True)
class FillStep:
    """3: what is painted into the hole. `texts` holds what removing does not ask for."""

    task: gr.Radio
    told: gr.HTML
    texts: gr.Column
    instruction: gr.Textbox
    prompt: gr.Textbox
    image_prompt: gr.Textbox
    propose_instruction: gr.Button
    describe_video: gr.Button
    rewrite: gr.Button
    describe_hole: gr.Button
    propose_why: gr.HTML
    proposal: gr.HTML
    first_frame: gr.Textbox
    candidates: gr.Slider
    paint: gr.Button
    first_frames: gr.HTML
    own_frame: gr.File
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    overlap: gr.Dropdown
    replace_gt: gr.Checkbox
    propagate: gr.Dropdown
    id_resample: gr.Dropdown
    prev_clip_weight: gr.Slider
    cache: gr.Dropdown
    crop: gr.Dropdown
    height: gr.Number
    width: gr.Number
    plan: gr.HTML
    start: gr.Button
    start_why: gr.HTML

    @property
    def settings(self) -> dict[str, Any]:
        """The controls that a fill's settings are read from, by the settings' names; height and width are `size`."""
        names = (
            *("task", "instruction", "prompt", "image_prompt", "first_frame", "candidates"),
            *("seed", "steps", "guidance", "overlap"),
            *("replace_gt", "propagate", "id_resample", "prev_clip_weight", "cache", "crop", "height", "width"),
        )
        return {name: getattr(self, name) for name in names}

    @property
    def texts_by_name(self) -> dict[str, gr.Textbox]:
        """The boxes that proposals are for."""
        return {"instruction": self.instruction, "prompt": self.prompt, "image_prompt": self.image_prompt}

    @property
    def proposing(self) -> list[gr.Button]:
        return [self.propose_instruction, self.describe_video, self.rewrite, self.describe_hole]

    def shows(self, task: str) -> dict[Any, Any]:
        """What a task asks for."""
        return {
            self.told: TOLD[task],
            self.texts: gr.Column(visible=task != "remove"),
            self.instruction: gr.Textbox(visible=task != "inpaint"),
            self.propose_instruction: gr.Button(visible=task != "inpaint"),
            self.rewrite: gr.Button(visible=task != "inpaint"),
        }


def fill_step(steps: int, guidance: float) -> FillStep:
    """The controls of step 3, with the checkpoint's own steps and guidance."""
    found: dict[str, Any] = {}
    found["task"] = gr.Radio(_TASKS, value="remove", label="What is to happen")
    found["told"] = make_note("told", text=TOLD["remove"])
    with gr.Column(visible=False) as found["texts"]:
        found["instruction"] = gr.Textbox(
            "", label="Instruction", placeholder="change the red ball to a blue star", lines=1, elem_id="vp-instruction"
        )
        found["prompt"] = gr.Textbox(
            "", label="What the whole video shows afterwards", placeholder="A blue star over yellow sand.", lines=2
        )
        found["image_prompt"] = gr.Textbox("", label="What belongs in the hole", placeholder="A blue star.", lines=1)
        gr.Markdown("Let a language model write them:")
        with gr.Row():
            found["propose_instruction"] = gr.Button("An instruction", size="sm", min_width=150)
            found["describe_video"] = gr.Button("Describe the video", size="sm", min_width=150)
            found["rewrite"] = gr.Button("Carry out the instruction", size="sm", min_width=150)
            found["describe_hole"] = gr.Button("Describe the hole", size="sm", min_width=150)
        found["propose_why"] = make_note("propose-why", "why vp-short")
        found["proposal"] = make_proposal()
    with gr.Accordion("First frame: choose before the long run", open=False):
        gr.Markdown("The first frame sets what all others follow. Paint some, and choose one; or give your own.")
        with gr.Row():
            found["candidates"] = gr.Slider(1, 8, 3, step=1, label="How many", min_width=110, scale=2, buttons=[])
            found["paint"] = gr.Button("Paint first frames", size="md", min_width=110, scale=1, elem_classes="vp-end")
        found["first_frame"] = gr.Textbox("", visible=False)  # the name of the chosen one
        found["first_frames"] = make_pictures("first-frames")
        found["own_frame"] = gr.File(
            label="Your own picture of the first frame", file_types=["image"], height=110, elem_id="vp-own-frame"
        )
    with gr.Accordion("Advanced settings", open=False):
        found |= _advanced(steps, guidance)
    found["plan"] = make_note("plan", "facts")
    found["start"] = gr.Button("Start", variant="primary", elem_id="vp-start")
    found["start_why"] = make_note("start-why")
    return FillStep(**found)


def _advanced(steps: int, guidance: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with gr.Row():
        found["steps"] = gr.Slider(1, 100, steps, step=1, label="Steps", min_width=120, buttons=[])
        found["guidance"] = gr.Slider(1, 10, guidance, step=0.1, label="Guidance", min_width=120, buttons=[])
    with gr.Row():
        found["seed"] = gr.Number(
            42, label="Seed", info="-1: another each time", precision=0, minimum=-1, min_width=120
        )
        found["overlap"] = gr.Dropdown(
            [0, 5, 9, 13, 17, 25], value=0, label="Overlap of windows", info="frames", min_width=120
        )
    found["replace_gt"] = gr.Checkbox(True, label="Keep the background to the bit")
    found["propagate"] = gr.Dropdown(
        _COPYING,
        value="auto",
        label="Copy what other frames show",
    )
    with gr.Row():
        found["id_resample"] = gr.Dropdown(
            ["auto", "off", "exact", "compact"], value="auto", label="ID resampling", min_width=120
        )
        found["prev_clip_weight"] = gr.Slider(
            0, 1, 0, step=0.05, label="Weight of the window before", min_width=120, buttons=[]
        )
    found["cache"] = gr.Dropdown(
        ["none", "first_block", "taylorseer", "pab"], value="none", label="Leave out alike steps (faster)"
    )
    found["crop"] = gr.Dropdown(
        [("the whole picture", "none"), ("where the hole is, if it is small", "auto")],
        value="none",
        label="What the model sees",
        info="of a large video: sharper",
    )
    with gr.Row():
        found["height"] = gr.Number(
            None, label="Working height", info="empty: the model's own", precision=0, min_width=120
        )
        found["width"] = gr.Number(None, label="Working width", info="multiples of 16", precision=0, min_width=120)
    return found


@dataclass(kw_only=True)
class ResultStep:
    """4: what came of it."""

    made: gr.HTML
    film: gr.Video
    facts: gr.HTML
    video: gr.DownloadButton
    mask: gr.DownloadButton
    comparison: gr.DownloadButton
    settings: gr.DownloadButton
    again: gr.Button
    drop: gr.Button


def result_step() -> ResultStep:
    """The controls of step 4."""
    facts = make_note("result-facts", "facts", NO_RESULT)
    film = gr.Video(label="Result", interactive=False, visible=False, elem_id="vp-result")
    with gr.Row():
        video = gr.DownloadButton("Video", size="sm", interactive=False, min_width=130)
        mask = gr.DownloadButton("Mask", size="sm", interactive=False, min_width=130)
    with gr.Row():
        comparison = gr.DownloadButton("Comparison", size="sm", interactive=False, min_width=130)
        settings = gr.DownloadButton("Settings", size="sm", interactive=False, min_width=130)
    with gr.Row():
        again = gr.Button("Again with these settings", size="sm", interactive=False, min_width=130)
        drop = gr.Button("Delete this result", size="sm", interactive=False, min_width=130)
    made = make_pictures("results")
    return ResultStep(
        made=made,
        film=film,
        facts=facts,
        video=video,
        mask=mask,
        comparison=comparison,
        settings=settings,
        again=again,
        drop=drop,
    )
