"""Where a row is worked on: in this process, or in several of this machine. Ray's is in `on_ray.py`."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from videopainter.data.workers import begin_worker
from videopainter.errors import InputError, complain, one_line
from videopainter.files import WriteError
from videopainter.preparation.stages.records import StageRecord, StageRecords
from videopainter.preparation.stages.stage import Row, RowDelayed, RowDropped, Stage

UNREADABLE = "unreadable"
Worked = tuple[str, StageRecord | None]


class Scheduler(Protocol):
    """Decides where and when rows are worked on, and nothing else."""

    def work(self, stage: Stage, rows: Sequence[Row], work: Path) -> Iterator[Worked]:
        """(id, what came of it) as rows are through, their records written; None where the stage failed.

        InputError where workers are ended from outside.
        """
        ...


def work_on(records: StageRecords, row: Row) -> StageRecord | None:
    """What a stage that is set up makes of a row, written down; None where it failed, which is told on stderr."""
    stage = records.stage
    started = time.perf_counter()
    rows: list[Row] = []
    kind = detail = ""
    if stage.files:
        records.forget(row)
    try:
        rows = [dict(made) for made in stage.process({name: row[name] for name in ("id", *stage.inputs)})]
        assert stage.splits or len(rows) == 1, f"{stage.name} makes one row of one"
        assert all(set(made) == set(stage.outputs) for made in rows), f"{stage.name} gives {stage.outputs}"
    except WriteError:
        raise
    except RowDelayed as why:
        complain(f"{stage.name}: {row['id']}: {why}")
        return None
    except RowDropped as why:
        kind, detail = why.kind, why.detail
    except InputError as error:
        kind, detail = UNREADABLE, one_line(error)
    except FileNotFoundError as error:  # a raw video that was taken away
        complain(f"{stage.name}: {row['id']}: {one_line(error)}")
        return None
    except Exception:
        traceback.print_exc()
        return None
    record = StageRecord(records.key(row), rows, kind, detail, round(time.perf_counter() - started, 3))
    records.write(row, record)
    return record


class ProcessScheduler:
    """Several processes of this machine; one: this process itself. A stage that takes GPUs has one process for each."""

    def __init__(self, processes: int) -> None:
        self.processes = processes

    def work(self, stage: Stage, rows: Sequence[Row], work: Path) -> Iterator[Worked]:
        processes = min(self.processes // stage.resources.cpus, len(rows))
        gpus = _gpus() if stage.resources.gpus else 0
        if stage.resources.gpus:
            processes = min(processes, max(1, gpus // stage.resources.gpus))
        if processes <= 1:
            records = _begin(stage, work)
            try:
                for row in rows:
                    yield row["id"], work_on(records, row)
            finally:
                stage.teardown()
            return
        # Fresh processes: a forked one can inherit a lock that is held.
        context = get_context("spawn")
        turn = context.Value("i", 0)
        pool = ProcessPoolExecutor(
            processes,
            mp_context=context,
            initializer=_begin_process,
            initargs=(stage, work, turn, gpus),
        )
        try:
            waiting = {pool.submit(_process, row): row["id"] for row in rows}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            raise InputError(f"{stage.name}: a process was ended from outside; for lack of memory? use fewer") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _begin(stage: Stage, work: Path) -> StageRecords:
    stage.setup()
    return StageRecords(work, stage)


# ---- in the processes that work

# What this process works with; an error where that could not be loaded: an initializer that raises breaks the pool,
# and says nothing.
_current: list[StageRecords | InputError] = []


def _begin_process(stage: Stage, work: Path, turn: Any, gpus: int) -> None:
    begin_worker()
    if gpus and stage.resources.gpus:  # before anything looks for them
        with turn.get_lock():
            first, turn.value = turn.value, turn.value + stage.resources.gpus
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = seen.split(",") if seen else [str(number) for number in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[first : first + stage.resources.gpus])
    try:
        _current[:] = [_begin(stage, work)]
    except InputError as error:
        _current[:] = [error]


def _process(row: Row) -> StageRecord | None:
    (records,) = _current
    if isinstance(records, InputError):
        raise records
    return work_on(records, row)
