"""Rows through stages: what is on record is taken from there, the rest is given to a scheduler."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import make_folder, replacing, write_json
from videopainter.locks import held, sweep
from videopainter.preparation.progress import WorkProgress
from videopainter.preparation.stages.records import StageRecords, check_row
from videopainter.preparation.stages.schedulers import Scheduler
from videopainter.preparation.stages.stage import Row, SetStage, Stage

DROPPED_FILE, REPORT_FILE = "dropped.csv", "stages.json"


@dataclass
class StageReport:
    """What a stage did. `dropped`: {kind: rows}; `reused`: rows whose record was there; `seconds`: of the wall."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    reused: int = 0
    failed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second, of those that were worked on."""
        return (self.rows_in - self.reused) / max(self.seconds, 1e-3)


@dataclass
class StagesResult:
    """The rows that came through, what each stage did, who was dropped where and why: (stage, id, kind, detail)."""

    rows: list[Row]
    stages: list[StageReport]
    dropped: list[tuple[str, str, str, str]]


def run_stages(
    stages: Sequence[Stage | SetStage], rows: Sequence[Row], work: Path, scheduler: Scheduler
) -> StagesResult:
    """Take rows through stages; finished work is found in `work` and not done again.

    Writes `dropped.csv` and `stages.json` there. The result does not depend on the scheduler or interruptions. A row in
    which a stage fails (a mistake of ours, a server that does not answer) is left out, told on stderr, and tried again
    by the next run.

    Raises:
        InputError: an id twice, or another process works there. WriteError: the disk is full.
    """
    make_folder(work, "the work folder")
    for row in rows:
        check_row(row)
    twice = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        raise InputError(f"id: expected each once, got {twice[0]!r} twice")
    result = StagesResult(list(rows), [], [])
    with held(work, folder=True):
        sweep(work, deep=True)
        for stage in stages:
            _run_set_stage(stage, result) if isinstance(stage, SetStage) else _run_stage(stage, result, work, scheduler)
        _write_reports(work, result)
    return result


def _run_set_stage(stage: SetStage, result: StagesResult) -> None:
    report = StageReport(stage.name, rows_in=len(result.rows))
    started = time.perf_counter()
    dropped = stage.drop(result.rows)
    result.dropped += [(stage.name, name, why.kind, why.detail) for name, why in dropped.items()]
    result.rows = [row for row in result.rows if row["id"] not in dropped]
    report.dropped.update(why.kind for why in dropped.values())
    report.rows_out, report.seconds = len(result.rows), time.perf_counter() - started
    result.stages.append(report)


def _run_stage(stage: Stage, result: StagesResult, work: Path, scheduler: Scheduler) -> None:
    report = StageReport(stage.name, rows_in=len(result.rows))
    records = StageRecords(work, stage)
    started = time.perf_counter()
    found = {row["id"]: record for row in result.rows if (record := records.read(row)) is not None}
    report.reused = len(found)
    todo = [row for row in result.rows if row["id"] not in found]
    with WorkProgress(stage.name, len(result.rows), "row") as progress:
        progress.add("done before", len(found), skipped=True)
        for name, record in scheduler.work(stage, todo, work) if todo else ():
            if record is not None:
                found[name] = record
            progress.add("failed" if record is None else "dropped" if record.kind else "done")
    report.failed = len(result.rows) - len(found)
    out: list[Row] = []
    for row in result.rows:  # in their order, whatever order they were worked on in
        record = found.get(row["id"])
        if record is None:
            continue
        if record.kind:
            report.dropped[record.kind] += 1
            result.dropped.append((stage.name, row["id"], record.kind, record.detail))
        for number, made in enumerate(record.rows):
            out.append({**row, **made, "id": f"{row['id']}-{number:03d}" if stage.splits else row["id"]})
    result.rows = out
    report.rows_out, report.seconds = len(out), time.perf_counter() - started
    result.stages.append(report)


def _write_reports(work: Path, result: StagesResult) -> None:
    with replacing(work / DROPPED_FILE) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("stage", "id", "kind", "detail"))
        writer.writerows(result.dropped)
    stages = [
        {
            "stage": report.name,
            "in": report.rows_in,
            "out": report.rows_out,
            "done_before": report.reused,
            "failed": report.failed,
            "dropped": dict(report.dropped),
            "seconds": round(report.seconds, 2),
            "rows_per_second": round(report.rate, 2),
        }
        for report in result.stages
    ]
    write_json(work / REPORT_FILE, stages, indent=1)
