"""A worker process and the jobs that wait for it: one after the other, watched, cancelled, outlived."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from videopainter.app.jobs import JobStatus
from videopainter.app.options import AppOptions
from videopainter.app.queue.worker import serve

_LOOK = 0.2  # seconds between two looks at a worker
_END = 5.0  # seconds that a worker is given to end
_DIED = "its process ended unexpectedly (perhaps there was too little memory); what was finished is kept: go on"
_FAULT = "this should not have happened, the server's log says more; what was finished is kept: go on"
_STOPPED = "the server was stopped; what was finished is kept: go on"

# Called with every change of a job.
OnChange = Callable[[JobStatus], None]


class Lane:
    """Jobs of one worker process, which keeps its models between them. It is started for the first job, and again
    where it died."""

    def __init__(self, root: Path, options: AppOptions, on_change: OnChange) -> None:
        self._root, self._options, self._on_change = root, options, on_change
        self._queue: list[JobStatus] = []
        self._running: JobStatus | None = None
        self._cond = threading.Condition()
        self._stopping = self._cancelled = False
        self._worker: _Worker | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker; what runs can be gone on with, what waits waits for the next server."""
        with self._cond:
            self._stopping = True
            self._cond.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _END)

    @property
    def pid(self) -> int | None:
        """The worker's process, where there is one."""
        worker = self._worker
        return None if worker is None else worker.process.pid

    def add(self, job: JobStatus) -> None:
        with self._cond:
            self._queue.append(job)
            self._cond.notify_all()

    def jobs(self) -> list[JobStatus]:
        """What runs and what waits, with places and waits."""
        with self._cond:
            running, waiting = self._running, [*self._queue]
        ahead: float | None = 0.0
        if running is not None:
            ahead = running.expected if running.seconds_left is None else running.seconds_left
        out = [] if running is None else [running]
        for place, job in enumerate(waiting):
            out.append(replace(job, place=place + (running is not None), expected_wait=ahead))
            ahead = None if ahead is None or job.expected is None else ahead + job.expected
        return out

    def cancel(self, name: str) -> bool:
        """Whether the job was here."""
        with self._cond:
            for job in self._queue:
                if job.id == name:
                    self._queue.remove(job)
                    self._tell(replace(job, state="cancelled", message="cancelled before it began"))
                    return True
            if self._running is None or self._running.id != name:
                return False
            self._cancelled = True
            if self._worker is not None:
                self._worker.stop.value = True
            return True

    # -- the lane's own thread

    def _serve(self) -> None:
        while True:
            with self._cond:
                self._cond.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    break
                job = replace(self._queue.pop(0), state="running", place=0)
                self._running, self._cancelled = job, False
            try:
                job = self._do(job)
            except Exception:  # one job's fault must not end the lane, which is everybody's
                traceback.print_exc()
                job = self._failed(job, _FAULT)
            finally:
                self._tell(job)
                with self._cond:
                    self._running = None
        if self._worker is not None:
            self._worker.end()

    def _tell(self, job: JobStatus) -> None:
        try:
            self._on_change(job)
        except Exception:
            traceback.print_exc()

    def _do(self, job: JobStatus) -> JobStatus:
        """A job to its end, whatever that is."""
        self._tell(job)
        try:
            worker = self._ready()
            with self._cond:
                worker.stop.value = self._cancelled
            worker.connection.send((job.id, job.project, job.kind, job.settings))
            return self._follow(worker, job)
        except (OSError, EOFError):
            return self._failed(job, _DIED)

    def _follow(self, worker: _Worker, job: JobStatus) -> JobStatus:
        while True:
            if worker.connection.poll(_LOOK):
                state, values = worker.connection.recv()
                job = replace(job, **values)
                if state != "running":
                    return replace(job, state=state, seconds_left=None)
                with self._cond:
                    self._running = job
            elif not worker.process.is_alive():
                return self._failed(job, _DIED)
            if self._stopping:
                worker.end()
                return replace(job, state="cancelled", message=_STOPPED, seconds_left=None)

    def _failed(self, job: JobStatus, message: str) -> JobStatus:
        """With its worker, whose state nobody knows."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()
        return replace(job, state="failed", message=message, seconds_left=None)

    def _ready(self) -> _Worker:
        if self._worker is None or not self._worker.process.is_alive():
            self._worker = _Worker(self._root, self._options)
        return self._worker


def new_flag(context: Any) -> Any:
    """Says `value` to another process. Without a lock: who is killed while it looks would keep that for good."""
    return context.RawValue(ctypes.c_bool, False)


class _Worker:
    """A process that does one job after the other, and ends with this one."""

    def __init__(self, root: Path, options: AppOptions) -> None:
        # Not forked from the server: its threads and files are none of a worker's business.
        context = multiprocessing.get_context("forkserver")
        self.stop = new_flag(context)
        ours, theirs = context.Pipe()
        self.connection: Connection = ours
        self.process = context.Process(target=serve, args=(theirs, self.stop, root, options), daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        self.stop.value = True
        deadline = time.monotonic() + _END
        with contextlib.suppress(OSError):
            self.connection.send(None)
        while self.process.is_alive() and time.monotonic() < deadline:
            self.process.join(0.1)
            # What it still says is not waited for.
            with contextlib.suppress(EOFError, OSError):
                while self.connection.poll():
                    self.connection.recv()
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
