"""Edits by instruction: as an inpainting run, with captions that say what the instruction makes of the video."""

from __future__ import annotations

from collections.abc import Sequence

from videopainter.cli.door import parse_options
from videopainter.editing.jobs import plan_edits, with_captions
from videopainter.editing.options import EDIT_COMMON, EDIT_OPTIONS, EditingOptions, EditOptions
from videopainter.runs.making import make_results
from videopainter.runs.options import InpaintOptions
from videopainter.runs.weights import checkpoint_defaults

_DESCRIPTION = (
    "Edit videos by instruction: your own (--video, --mask), or rows of a benchmark CSV (--inpainting_mask_meta)."
)


def read_options(argv: Sequence[str] | None = None) -> EditOptions:
    """The flags of `infer/edit.py`, from `argv` or the command line."""
    found = parse_options(
        EDIT_OPTIONS, argv, description=_DESCRIPTION, common=EDIT_COMMON, defaults=checkpoint_defaults
    )
    editing, *groups = found
    assert isinstance(editing, EditingOptions)
    return EditOptions(editing=editing, run=InpaintOptions.of(groups))


def edit(options: EditOptions) -> int:
    """Make every edit that is not there yet; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or the only job failed.
    """
    return make_results(lambda: plan_edits(options), options.run, with_captions)
