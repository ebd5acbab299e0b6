"""One inpainting run: check everything, fill first frames, load the model once, make each result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from videopainter.cli.door import parse_options
from videopainter.runs.first_frames import captioned
from videopainter.runs.making import make_results
from videopainter.runs.options import INPAINT_COMMON, INPAINT_OPTIONS, InpaintOptions
from videopainter.runs.plan import plan_jobs
from videopainter.runs.propagation import removal_defaults
from videopainter.runs.weights import checkpoint_defaults

_DESCRIPTION = (
    "Inpaint videos: your own (--video with --mask, --box, --point or --text), or rows of a benchmark CSV "
    "(--inpainting_mask_meta)."
)


def read_options(argv: Sequence[str] | None = None) -> InpaintOptions:
    """The flags of `infer/inpaint.py`, from `argv` or the command line."""
    found = parse_options(INPAINT_OPTIONS, argv, description=_DESCRIPTION, common=INPAINT_COMMON, defaults=_defaults)
    return InpaintOptions.of(found)


def _defaults(given: Mapping[str, Any]) -> Mapping[str, str]:
    return {**checkpoint_defaults(given), **removal_defaults(given)}


def inpaint(options: InpaintOptions) -> int:
    """Make every result that is not there yet; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or the only job failed.
    """
    return make_results(lambda: plan_jobs(options), options, captioned)
