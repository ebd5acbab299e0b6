"""The flags of `evaluate/score.py`, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from videopainter.cli.door import parse_options
from videopainter.evaluation.finding import entries_of, output_folder
from videopainter.evaluation.options import SCORE_OPTIONS, ResultsOptions, ScoringOptions
from videopainter.evaluation.scoring import Entry, Scoring, score_entries, tell_absent, wanted_weights
from videopainter.locks import held, sweep
from videopainter.runs.options import ModelOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.processes import Shard
from videopainter.runs.results.outputs import check_writable
from videopainter.runs.weights import find_ckpt

_DESCRIPTION = "Score results of any method against originals and masks."


def read_options(argv: Sequence[str] | None = None) -> tuple[ResultsOptions, ScoringOptions]:
    """The flags of `evaluate/score.py`, from `argv` or the command line."""
    results, scoring = parse_options(SCORE_OPTIONS, argv, description=_DESCRIPTION)
    return results, scoring


def score(options: ResultsOptions, scoring_options: ScoringOptions) -> int:
    """Score every result, write the reports; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or the only result failed.
    """
    entries, shard = entries_of(options, scoring_options), Shard.from_env()
    check_writable([entry.scores_file for entry in entries], [])
    ckpt = find_ckpt(scoring_options.ckpt)
    if shard.rank == 0:
        tell_absent(ckpt, wanted_weights(scoring_options))
    folder = output_folder(options)
    with held(folder, folder=True) if shard.rank == 0 else nullcontext():
        if shard.rank == 0:
            sweep(folder, deep=True)
        return _score(options, scoring_options, entries, shard, ckpt)


def _score(
    options: ResultsOptions, scoring_options: ScoringOptions, entries: Sequence[Entry], shard: Shard, ckpt: Path
) -> int:
    outcomes = Outcomes(several=len(entries) > 1)
    # Only now: torch.
    from videopainter.runs.processes import resolve_precision

    device = resolve_precision(ModelOptions(device=options.device), shard).device
    scoring = Scoring(options=scoring_options, device=device, ckpt=ckpt, overwrite=options.overwrite)
    score_entries(shard.own(entries), scoring, outcomes, quiet=options.quiet)
    code = outcomes.exit_code(shard)
    if shard.rank == 0 and code != 2:
        from videopainter.evaluation.report import report_results

        report_results(options, entries, scoring, failed=outcomes.failed_anywhere)
    return code
