"""Rows through stages, in several processes of this machine. Only this file knows how work is spread."""

from __future__ import annotations

import csv
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from videopainter.data.workers import begin_worker
from videopainter.errors import InputError, one_line
from videopainter.files import WriteError, make_folder, replacing, write_json
from videopainter.locks import held, sweep
from videopainter.preparation.progress import WorkProgress
from videopainter.preparation.stages.records import StageRecord, StageRecords, check_row
from videopainter.preparation.stages.stage import Row, RowDropped, SetStage, Stage

DROPPED_FILE, REPORT_FILE = "dropped.csv", "stages.json"
UNREADABLE = "unreadable"


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


def run_stages(stages: Sequence[Stage | SetStage], rows: Sequence[Row], work: Path, *, processes: int) -> StagesResult:
    """Take rows through stages; finished work is found in `work` and not done again.

    Writes `dropped.csv` and `stages.json` there. The result does not depend on `processes` or interruptions. A row in
    which a stage fails (a mistake of ours) is left out, told on stderr, and tried again by the next run.

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
            _run_set_stage(stage, result) if isinstance(stage, SetStage) else _run_stage(stage, result, work, processes)
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


def _run_stage(stage: Stage, result: StagesResult, work: Path, processes: int) -> None:
    report = StageReport(stage.name, rows_in=len(result.rows))
    records = StageRecords(work, stage)
    started = time.perf_counter()
    found = {row["id"]: record for row in result.rows if (record := records.read(row)) is not None}
    report.reused = len(found)
    todo = [row for row in result.rows if row["id"] not in found]
    with WorkProgress(stage.name, len(result.rows), "row") as progress:
        progress.add("done before", len(found), skipped=True)
        for name, record in _work(stage, todo, work, processes):
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


def _work(stage: Stage, todo: Sequence[Row], work: Path, processes: int) -> Iterator[tuple[str, StageRecord | None]]:
    """(id, what came of it) as rows are through; None where the stage failed."""
    processes = min(processes // stage.resources.cpus, len(todo))
    if processes <= 1:
        if todo:
            _begin_stage(stage, work)
        for row in todo:
            yield row["id"], _process(row)
        return
    # Fresh processes: a forked one can inherit a lock that is held.
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_begin_stage_process,
        initargs=(stage, work),
    )
    try:
        waiting = {pool.submit(_process, row): row["id"] for row in todo}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool:
        raise InputError(f"{stage.name}: a process was ended from outside; for lack of memory? use fewer") from None
    finally:
        pool.shutdown(cancel_futures=True)


# ---- in the processes that work

_current: list[StageRecords] = []


def _begin_stage_process(stage: Stage, work: Path) -> None:
    begin_worker()
    _begin_stage(stage, work)


def _begin_stage(stage: Stage, work: Path) -> None:
    stage.setup()
    _current[:] = [StageRecords(work, stage)]


def _process(row: Row) -> StageRecord | None:
    (records,) = _current
    stage = records.stage
    started = time.perf_counter()
    rows: list[Row] = []
    kind = detail = ""
    try:
        rows = [dict(made) for made in stage.process({name: row[name] for name in ("id", *stage.inputs)})]
        assert stage.splits or len(rows) == 1, f"{stage.name} makes one row of one"
        assert all(set(made) == set(stage.outputs) for made in rows), f"{stage.name} gives {stage.outputs}"
    except WriteError:
        raise
    except RowDropped as why:
        kind, detail = why.kind, why.detail
    except InputError as error:
        kind, detail = UNREADABLE, one_line(error)
    except Exception:
        traceback.print_exc()
        return None
    record = StageRecord(records.key(row), rows, kind, detail, round(time.perf_counter() - started, 3))
    records.write(row, record)
    return record


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
