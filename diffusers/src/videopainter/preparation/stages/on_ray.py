"""Rows on Ray Data: tasks on CPUs, actors that keep their models on GPUs; here, or on a cluster.

Ray decides where a row is worked on. What came of it is a record as everywhere, so the work folder has to be one that
all machines see, and a killed run goes on without Ray's help.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from videopainter.data.workers import begin_worker
from videopainter.errors import InputError, one_line
from videopainter.files import WriteError, fingerprint, to_json
from videopainter.flags import check_installed
from videopainter.preparation.stages.records import StageRecord, StageRecords
from videopainter.preparation.stages.schedulers import Worked, work_on
from videopainter.preparation.stages.stage import Row, Stage

# Ray's own least: only rows' texts go through it, never pixels.
_STORE_BYTES = 100 * 2**20
_BLOCKS_PER_WORKER = 4


class RayScheduler:
    """A Ray of this machine with `processes` CPUs (and `gpus`; None: all), or the cluster at `address`; a context.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, processes: int, address: str | None = None, *, gpus: int | None = None) -> None:
        check_installed("--scheduler ray", "ray", install="ray[data]")
        self.processes, self.address, self.gpus = processes, address, gpus

    def __enter__(self) -> RayScheduler:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray  # pyright: ignore[reportMissingImports]
        from ray.data import DataContext  # pyright: ignore[reportMissingImports]

        local: dict[str, Any] = {}
        if self.address is None:
            local = {"num_cpus": self.processes, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
            local |= {"num_gpus": self.gpus}
        try:
            ray.init(self.address or "local", logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"--ray_address {self.address}: expected a cluster, got {one_line(error)[:160]}") from None
        DataContext.get_current().enable_progress_bars = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        ray.shutdown()

    def work(self, stage: Stage, rows: Sequence[Row], work: Path) -> Iterator[Worked]:
        import ray  # pyright: ignore[reportMissingImports]

        cpus, gpus = stage.resources.cpus, stage.resources.gpus
        have = ray.cluster_resources()
        workers = int(have.get("GPU", 0) // gpus if gpus and have.get("GPU") else have.get("CPU", 1) // cpus)
        workers = max(1, min(workers, len(rows)))
        items = [{"row": to_json(row)} for row in rows]
        data = ray.data.from_items(items, override_num_blocks=min(len(items), workers * _BLOCKS_PER_WORKER))
        given = {"stage": stage, "work": work.resolve()}
        how: dict[str, Any] = {"num_cpus": cpus, "fn_kwargs": given}
        function: Any = _ray_task
        if gpus and have.get("GPU"):
            function = _RayActor
            how = {"num_cpus": cpus, "num_gpus": gpus, "concurrency": workers, "fn_constructor_kwargs": given}
        done = data.map(function, **how)
        for found in done.iter_rows():
            if found["unwritten"]:
                raise WriteError(found["unwritten"])
            content = json.loads(found["record"])
            yield found["id"], None if content is None else StageRecord(**content)


class _RayActor:
    """Keeps a stage that is set up."""

    def __init__(self, stage: Stage, work: Path) -> None:
        begin_worker()
        stage.setup()
        self._records = StageRecords(work, stage)

    def __call__(self, item: dict[str, str]) -> dict[str, str]:
        return _worked(self._records, item)


_set_up: dict[str, StageRecords] = {}


def _ray_task(item: dict[str, str], stage: Stage, work: Path) -> dict[str, str]:
    """Ray keeps processes for later tasks: a stage is set up once in each."""
    name = fingerprint([stage.name, stage.settings(), str(work)])
    if name not in _set_up:
        _set_up.clear()
        _set_up[name] = _RayActor(stage, work)._records
    return _worked(_set_up[name], item)


def _worked(records: StageRecords, item: dict[str, str]) -> dict[str, str]:
    row = json.loads(item["row"])
    try:
        record = work_on(records, row)
    except WriteError as error:  # Ray would try it again
        return {"id": row["id"], "record": "null", "unwritten": one_line(error)}
    return {"id": row["id"], "record": to_json(None if record is None else asdict(record)), "unwritten": ""}
