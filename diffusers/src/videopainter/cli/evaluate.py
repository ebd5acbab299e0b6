"""A benchmark evaluated: every run's results made with one model load, scored, and reported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from videopainter.cli.door import parse_options
from videopainter.errors import InputError
from videopainter.evaluation.benchmark import BenchmarkRun, entry_of, jobs_of, make_runs
from videopainter.evaluation.options import EVALUATE_COMMON, EVALUATE_OPTIONS, EvaluateOptions
from videopainter.evaluation.scoring import Scoring, score_entries, tell_absent, wanted_weights
from videopainter.locks import held, sweep
from videopainter.runs.first_frames import captioned
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, openable_jobs
from videopainter.runs.processes import Shard, device_of, follow, leading, resolve_precision
from videopainter.runs.weights import checkpoint_defaults, find_ckpt

_DESCRIPTION = "Evaluate on VPBench or DAVIS: inpaint every row, score the results, write CSV, JSON, Markdown and HTML."


def read_options(argv: Sequence[str] | None = None) -> EvaluateOptions:
    """The flags of `evaluate/evaluate.py`, from `argv` or the command line."""
    benchmark, prompts, model, sampling, scoring = parse_options(
        EVALUATE_OPTIONS, argv, description=_DESCRIPTION, common=EVALUATE_COMMON, defaults=checkpoint_defaults
    )
    return EvaluateOptions(benchmark=benchmark, prompts=prompts, model=model, sampling=sampling, scoring=scoring)


def evaluate(options: EvaluateOptions) -> int:
    """Make, score and report what is asked for and not there yet; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start.
    """
    started, benchmark = time.perf_counter(), options.benchmark
    if not (benchmark.generate or benchmark.score):
        raise InputError("--generate, --score: expected one of them, got false for both")
    shard = Shard.from_env(options.model.context_parallel if benchmark.generate else 1)
    if not shard.leads:
        follow(options.model, shard)
        return Outcomes(several=True).exit_code(shard)
    runs = make_runs(options)
    ckpt = find_ckpt(options.scoring.ckpt)
    if benchmark.score and shard.rank == 0:
        tell_absent(ckpt, wanted_weights(options.scoring))
    with ExitStack() as stack:
        for run in runs if shard.rank == 0 else ():
            stack.enter_context(held(run.folder, folder=True))
            sweep(run.folder, deep=True)
        return _evaluate(options, runs, shard, ckpt, started)


def _evaluate(options: EvaluateOptions, runs: list[BenchmarkRun], shard: Shard, ckpt: Path, started: float) -> int:
    benchmark = options.benchmark
    outcomes = Outcomes(several=len(jobs_of(runs)) > 1)
    work = shard.own(jobs_of(runs))
    if benchmark.generate:
        work = _generate(options, work, shard, outcomes, started)
    if benchmark.score:
        _score(options, work, ckpt, outcomes)
    code = outcomes.exit_code(shard)
    # Behind exit_code: by now every process has written its scores.
    if benchmark.score and shard.rank == 0 and code != 2:
        from videopainter.evaluation.report import report_runs

        report_runs(options, runs, ckpt, failed=outcomes.failed_anywhere)
    return code


def _generate(
    options: EvaluateOptions,
    work: list[tuple[BenchmarkRun, Job]],
    shard: Shard,
    outcomes: Outcomes,
    started: float,
) -> list[tuple[BenchmarkRun, Job]]:
    """Inpaint what is missing; the jobs that have a result now."""
    jobs = openable_jobs([job for _, job in work], outcomes)
    ready = captioned(jobs, outcomes, partial(device_of, options.model))
    work = [(run, ready[id(job)]) for run, job in work if id(job) in ready]
    with leading(options.model, shard) as group:
        if not work:
            return []
        # Only now: it imports torch, which takes seconds.
        from videopainter.runs.studio import Studio

        studio = Studio(
            precision=resolve_precision(options.model, shard),
            position=shard.local_rank,
            seconds={"check": time.perf_counter() - started},
            token_group=group,
        )
        studio.make([job for _, job in work], outcomes)
    return [(run, job) for run, job in work if job.label not in outcomes.failed]


def _score(options: EvaluateOptions, work: list[tuple[BenchmarkRun, Job]], ckpt: Path, outcomes: Outcomes) -> None:
    if not work:
        return
    scoring = Scoring(options=options.scoring, device=device_of(options.model), ckpt=ckpt)
    entries = [entry_of(options, run, job) for run, job in work]
    score_entries(entries, scoring, outcomes, quiet=options.benchmark.quiet)
