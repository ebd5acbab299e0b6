"""One inpainting run: check everything, fill first frames, load the model once, make each result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videopainter.cli.door import parse_options
from videopainter.runs.first_frames import captioned
from videopainter.runs.options import INPAINT_COMMON, INPAINT_OPTIONS, InpaintOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, openable_jobs, plan_jobs
from videopainter.runs.processes import Shard
from videopainter.runs.propagation import copy_only, propose_affected, removal_defaults
from videopainter.runs.weights import checkpoint_defaults

# Of the jobs of a run by their ids: who has the captions written that are missing.
WithCaptions = Callable[[Sequence[Job], Outcomes, str | None], dict[int, Job]]
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


def make_results(plan: Callable[[], list[Job]], options: InpaintOptions, with_captions: WithCaptions) -> int:
    """Plan, check, have the captions written that are missing, and make every result; returns the exit code."""
    started = time.perf_counter()
    jobs, shard = plan(), Shard.from_env()
    outcomes = Outcomes(several=len(jobs) > 1)
    checked = openable_jobs(shard.own(jobs), outcomes)
    if options.propagation.propose_affected is None:  # which paints nothing, and needs no words
        checked = list(with_captions(checked, outcomes, options.model.device).values())
    seconds = {"check": time.perf_counter() - started}
    if checked and options.propagation.propose_affected is not None:
        propose_affected(checked[0], Path(options.propagation.propose_affected))
        outcomes.done.append(checked[0].label)
    elif checked and options.propagation.propagate == "only":
        copy_only(checked, outcomes, seconds)
    elif checked:
        # Only now: these import torch, which takes seconds.
        from videopainter.runs.processes import resolve_precision
        from videopainter.runs.studio import Studio

        precision = resolve_precision(options.model, shard)
        studio = Studio(precision=precision, position=shard.local_rank, seconds=seconds)
        studio.make(checked, outcomes)
    return outcomes.exit_code(shard)
