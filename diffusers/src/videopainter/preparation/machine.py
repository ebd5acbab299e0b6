"""What a worker process of the preparation does, and how many there are."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process


def processors() -> int:
    """How many this process may use: a job on a cluster may have only some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begin_process() -> None:
    """Initializer of worker processes: Ctrl-C is the main process's to handle, and none outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
