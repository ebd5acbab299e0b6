"""The page's controls, in the order in which people meet them. Layout only: `page.py` says what they call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from videopainter.app.ui.parts import make_note, make_pictures


@dataclass(kw_only=True)
class VideoStep:
    """1: which video, and which part of it."""

    upload: gr.File
    mine: gr.HTML
    examples: gr.HTML
    facts: gr.HTML
    part: gr.Column
    start: gr.Number
    stop: gr.Number
    from_here: gr.Button
    to_here: gr.Button
    whole: gr.Button
    anew: gr.Button


def video_step() -> VideoStep:
    """The controls of step 1."""
    upload = gr.File(label="Your video", file_types=["video", ".gif"], height=120, elem_id="vp-upload")
    facts = make_note("facts", "facts")
    with gr.Column(visible=False) as part:  # there is nothing to choose from before there is a video
        gr.Markdown("**Part that is worked on** (frames)")
        with gr.Row(equal_height=True):
            start = gr.Number(1, label="First frame", precision=0, minimum=1, min_width=90)
            stop = gr.Number(1, label="Last frame", precision=0, minimum=1, min_width=90)
        with gr.Row():
            from_here = gr.Button("From this frame", size="sm", min_width=90)
            to_here = gr.Button("To this frame", size="sm", min_width=90)
            whole = gr.Button("Whole video", size="sm", min_width=90)
        anew = gr.Button("Begin a new project", size="sm")
    examples, mine = make_pictures("examples"), make_pictures("projects")
    return VideoStep(
        upload=upload,
        mine=mine,
        examples=examples,
        facts=facts,
        part=part,
        start=start,
        stop=stop,
        from_here=from_here,
        to_here=to_here,
        whole=whole,
        anew=anew,
    )


@dataclass(kw_only=True)
class MaskStep:
    """2: what is to be painted."""

    words: gr.Textbox
    find: gr.Button
    find_why: gr.HTML
    candidates: gr.HTML
    track: gr.Button
    track_why: gr.HTML
    grow: gr.Slider
    feather: gr.Slider
    shape: gr.Radio
    invert: gr.Checkbox
    upload: gr.File
    film: gr.Video
    make_film: gr.Button

    @property
    def shaping(self) -> list[Any]:
        return [self.grow, self.feather, self.shape, self.invert]


def mask_step() -> MaskStep:
    """The controls of step 2."""
    gr.Markdown("Click on the object in the picture, or drag a box round it. Then track it through the video.")
    with gr.Row():
        words = gr.Textbox("", label="Or say what it is", placeholder="the red ball", lines=1, scale=3, min_width=140)
        find = gr.Button("Find", size="md", scale=1, min_width=80, elem_classes="vp-end")
    find_why = make_note("find-why", "why vp-short")
    track = gr.Button("Track through the video", variant="primary")
    track_why = make_note("track-why")
    candidates = make_pictures("candidates")
    with gr.Accordion("Shape of the hole (in pixels)", open=True):
        with gr.Row():
            grow = gr.Slider(0, 64, 16, step=1, label="Grow", min_width=120, buttons=[])
            feather = gr.Slider(0, 64, 0, step=1, label="Soft edge", min_width=120, buttons=[])
        shape = gr.Radio(
            [("As marked", "exact"), ("Hull", "hull"), ("Box", "box")],
            value="exact",
            label="Shape",
            info="A hull or a box hides the shape of what was there.",
        )
        invert = gr.Checkbox(False, label="The other way round: paint everything but this")
    with gr.Accordion("Watch the mask as a video", open=False):
        make_film = gr.Button("Make the preview", size="sm")
        film = gr.Video(label="Mask over the video", interactive=False, visible=False, elem_id="vp-film")
    with gr.Accordion("Use a mask of your own", open=False):
        upload = gr.File(
            label="White is painted: a video, an image for all frames, or all_masks.npz",
            file_types=["video", "image", ".npz", ".npy"],
            height=120,
            elem_id="vp-mask-upload",
        )
    return MaskStep(
        words=words,
        find=find,
        find_why=find_why,
        candidates=candidates,
        track=track,
        track_why=track_why,
        grow=grow,
        feather=feather,
        shape=shape,
        invert=invert,
        upload=upload,
        film=film,
        make_film=make_film,
    )
