"""The process that does the work: takes a job, tells how far it is, stops where it is told to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
import time
import traceback
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.app.jobs import job_file
from videopainter.app.options import AppOptions
from videopainter.app.projects import Projects
from videopainter.app.queue.work import Bench
from videopainter.app.speeds import Meter, Speeds
from videopainter.app.video import encode_jpeg
from videopainter.data.workers import begin_worker
from videopainter.errors import Interrupted, one_line
from videopainter.files import WriteError, write_bytes
from videopainter.runs.watch import Watch

_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/'\":,]+/)+")  # the folders of an absolute path; an address has none
_NICE = 5
_TELL = 0.15  # seconds between two messages about progress
_KEPT = "cancelled; what was finished is kept: go on"
_FAULT = "this should not have happened, the server's log says more"


def serve(connection: Connection, stop: Any, root: Path, options: AppOptions) -> None:
    """Does jobs as they come by `connection`, until None comes, or the server ends."""
    begin_worker()
    _step_back()
    bench = Bench(Projects(root, options), Speeds(root))
    try:
        while (order := connection.recv()) is not None:
            name, project, kind, settings = order
            connection.send(_done(bench, _Teller(connection, stop, bench, name, project), kind, settings))
            _give_back()
    except (EOFError, OSError):
        return


def _step_back() -> None:
    """Somebody waits for the answer to a click: the server's process comes first where there are too few processors."""
    if hasattr(os, "nice"):
        os.nice(_NICE)


def _give_back() -> None:
    """What a large video took is not held for good: glibc keeps what was freed for itself."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _done(bench: Bench, teller: _Teller, kind: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        project = bench.projects.open(teller.project)
        try:
            answer = bench.do(kind, project, settings, teller.watch)
        finally:
            bench.projects.release(teller.project)  # what the server changes meanwhile is to be read anew
        return "done", {"answer": answer, "message": ""}
    except Interrupted:
        return "cancelled", {"message": _KEPT}
    except (ValueError, OSError) as error:
        return "failed", {"message": teller.told(error)}
    except Exception as error:
        traceback.print_exc()
        return "failed", {"message": f"{teller.told(error)[:200]} ({_FAULT})"}


def is_asked(stop: Any) -> bool:
    """Whether the server's flag says to stop."""
    return bool(stop.value)


class _Teller:
    """Says how far a job is, not too often, and how long it still takes by how fast it was."""

    def __init__(self, connection: Connection, stop: Any, bench: Bench, name: str, project: str) -> None:
        self._connection, self._stop, self._bench, self._name, self.project = connection, stop, bench, name, project
        self._said = 0.0
        self._lock = threading.Lock()
        self.meter = Meter()
        self.watch = Watch(on_progress=self._progress, on_preview=self._preview, interrupted=partial(is_asked, stop))

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.meter.at(stage, done)
        now = time.monotonic()
        is_new = done == 0 or done == total
        if is_new or now - self._said > _TELL:
            self._said = now
            rate = self.meter.rate(stage)
            left = None if rate is None else round(rate * (total - done), 1)
            self._send(stage=stage, done=done, total=total, seconds_left=left)

    def _preview(self, picture: np.ndarray) -> None:
        file = job_file(self._bench.projects.folder / self.project, self._name, ".jpg")
        try:
            write_bytes(file, encode_jpeg(picture))
        except WriteError:
            return
        self._send(preview=str(file))

    def _send(self, **values: Any) -> None:
        with self._lock:
            self._connection.send(("running", values))

    def told(self, error: Exception) -> str:
        """What an error says, without the paths of this machine."""
        folder = self._bench.projects.folder / self.project
        told = one_line(error).replace(f"{folder}/", "").replace(str(folder), "the project")
        return _PATH.sub("", told).encode("utf-8", "replace").decode()
