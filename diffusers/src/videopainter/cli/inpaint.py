"""One inpainting run: check everything, fill first frames, load the model once, make each result."""

from __future__ import annotations

import time
from collections.abc import Sequence

from videopainter.cli.door import parse_options
from videopainter.runs.first_frames import captioned
from videopainter.runs.options import INPAINT_COMMON, INPAINT_OPTIONS, InpaintOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import openable_jobs, plan_jobs
from videopainter.runs.processes import Shard
from videopainter.runs.propagation import copy_only, removal_preset
from videopainter.runs.weights import checkpoint_defaults

_DESCRIPTION = (
    "Inpaint videos: your own (--video with --mask, --box, --point or --text), or rows of a benchmark CSV "
    "(--inpainting_mask_meta)."
)


def read_options(argv: Sequence[str] | None = None) -> InpaintOptions:
    """The flags of `infer/inpaint.py`, from `argv` or the command line."""
    clip, prompts, model, sampling, output, propagation, objects, segmenter = parse_options(
        INPAINT_OPTIONS, argv, description=_DESCRIPTION, common=INPAINT_COMMON, defaults=checkpoint_defaults
    )
    return removal_preset(
        InpaintOptions(
            clip=clip,
            prompts=prompts,
            model=model,
            sampling=sampling,
            output=output,
            propagation=propagation,
            objects=objects,
            segmenter=segmenter,
        )
    )


def inpaint(options: InpaintOptions) -> int:
    """Make every result that is not there yet; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or the only job failed.
    """
    started = time.perf_counter()
    jobs, shard = plan_jobs(options), Shard.from_env()
    outcomes = Outcomes(several=len(jobs) > 1)
    checked = openable_jobs(shard.own(jobs), outcomes)
    checked = list(captioned(checked, outcomes, options.model.device).values())
    seconds = {"check": time.perf_counter() - started}
    if checked and options.propagation.propagate == "only":
        copy_only(checked, outcomes, seconds)
    elif checked:
        # Only now: these import torch, which takes seconds.
        from videopainter.runs.processes import resolve_precision
        from videopainter.runs.studio import Studio

        precision = resolve_precision(options.model, shard)
        studio = Studio(precision=precision, position=shard.local_rank, seconds=seconds)
        studio.make(checked, outcomes)
    return outcomes.exit_code(shard)
