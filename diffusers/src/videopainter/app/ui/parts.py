"""Parts of our own: the stage that people draw on, pictures to choose from, the status. Data in, events out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from videopainter.app.ui.look import asset


# Functions, not subclasses: Gradio writes a .pyi beside the source of every subclass of a component.
def make_stage(frame_picture: Callable[[Any], Any]) -> gr.HTML:
    """The frame, the tools, the objects and the time line. Its value is `views.stage`'s.

    Events: `place` (a prompt), `undo` and `forget` (object, frame), `rename` (object, name); `refresh` where an
    answer came too late. `frame_picture` answers its wishes for pictures.
    """
    return gr.HTML(
        value={},
        html_template=asset("stage.html"),
        js_on_load=asset("stage.js"),
        server_functions=[frame_picture],
        apply_default_css=False,
        elem_id="vp-stage",
    )


def make_status() -> gr.HTML:
    """What the app is doing. Its value is `views.status`'s; events with `job`: `cancel`, `go_on`, `show`, `next`."""
    return gr.HTML(
        value={},
        html_template=asset("status.html"),
        js_on_load=asset("status.js"),
        apply_default_css=False,
        elem_id="vp-status",
    )


def make_pictures(name: str) -> gr.HTML:
    """Pictures to choose from: `{"label": ..., "items": [{"key", "label", "src", "note", "chosen", "off"}, ...]}`.

    With a `title` above them, `when` in milliseconds since 1970, and `drop`: what a button says that takes one away.
    Events: `pick` and `drop`, with the key of what was chosen.
    """
    return gr.HTML(
        value={},
        html_template=asset("pictures.html"),
        js_on_load=asset("pictures.js"),
        apply_default_css=False,
        elem_id=f"vp-{name}",
    )


def make_proposal() -> gr.HTML:
    """A proposed text for one of some boxes: `views.proposal`'s value.

    Event: `settle`, when it came and when somebody wants it; `settle.js` decides what becomes of the boxes.
    """
    return gr.HTML(
        value={},
        html_template=asset("proposal.html"),
        js_on_load=asset("proposal.js"),
        apply_default_css=False,
        elem_id="vp-proposal",
    )


def make_note(name: str, kind: str = "why", text: str = "") -> gr.HTML:
    """A line of text (`why`; with `vp-short` it takes no room where it is empty) or a few facts (`facts`)."""
    tag = "div" if kind == "facts" else "p"
    return gr.HTML(
        value=text,
        html_template=f'<{tag} class="vp-{kind} vp-own" aria-live="polite"></{tag}>',
        js_on_load=asset("note.js"),
        apply_default_css=False,
        elem_id=f"vp-{name}",
    )
