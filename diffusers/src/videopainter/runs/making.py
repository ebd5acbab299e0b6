"""A run from its plan to its results: what every door, the app and other programs' nodes call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from videopainter.runs.options import InpaintOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, openable_jobs
from videopainter.runs.processes import Shard, device_of, follow, leading, resolve_precision
from videopainter.runs.propagation import copy_only, propose_affected
from videopainter.runs.watch import Watch

if TYPE_CHECKING:
    from videopainter.runs.studio import LoadedPipeline

# The jobs of a run with the captions that were missing, by their ids; the last argument says where models run.
WithCaptions = Callable[[Sequence[Job], Outcomes, Callable[[], str]], dict[int, Job]]
# What is done with the results of this process: its jobs, and those among them that have a result, with captions.
Finish = Callable[[Sequence[Job], Sequence[Job], Outcomes], None]


def make_results(
    plan: Callable[[], list[Job]],
    options: InpaintOptions,
    with_captions: WithCaptions,
    finish: Finish | None = None,
    *,
    watch: Watch | None = None,
    loaded: LoadedPipeline | None = None,
) -> int:
    """Plan, check, have the captions written that are missing, and make every result; returns the exit code.

    Args:
        finish: What is done with this process's results before its end is agreed on with the others.
        watch: Who waits for it.
        loaded: Keeps the models between calls of one process, as long as they are the same.
    """
    watch = watch or Watch()
    watch.at("check")
    started = time.perf_counter()
    shard = Shard.from_env(options.model.context_parallel)
    if not shard.leads:
        follow(options.model, shard)
        return Outcomes(several=True).exit_code(shard)
    jobs = plan()
    outcomes = Outcomes(several=len(jobs) > 1)
    own = shard.own(jobs)
    with leading(options.model, shard) as group:
        checked = openable_jobs(own, outcomes)
        if options.propagation.propose_affected is None:  # which paints nothing, and needs no words
            checked = list(with_captions(checked, outcomes, partial(device_of, options.model)).values())
        seconds = {"check": time.perf_counter() - started}
        if checked and options.propagation.propose_affected is not None:
            propose_affected(checked[0], Path(options.propagation.propose_affected))
            outcomes.done.append(checked[0].label)
        elif checked and options.propagation.propagate == "only":
            copy_only(checked, outcomes, seconds, watch)
        elif checked:
            # Only now: these import torch, which takes seconds.
            from videopainter.runs.studio import LoadedPipeline, Studio

            studio = Studio(
                precision=resolve_precision(options.model, shard),
                position=shard.local_rank,
                seconds=seconds,
                watch=watch,
                loaded=loaded or LoadedPipeline(),
                token_group=group,
            )
            studio.make(checked, outcomes)
            if loaded is None and finish is not None:
                studio.loaded.release()  # for models that look at results
    if finish is not None:
        finish(own, [job for job in checked if job.label in outcomes.done], outcomes)
    return outcomes.exit_code(shard)
