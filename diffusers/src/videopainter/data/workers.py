"""What processes that work side by side begin with, and how many there are room for."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process

import cv2

_watching = 0  # the process that has begun to


def begin_worker(worker: int = 0) -> None:
    """OpenCV works in the calling thread alone: the processes are what runs in parallel.

    0, not 1: for 1 OpenCV ends its other threads, and in a forked process, which has none of them, waits forever.
    A process of `multiprocessing` ends with its parent, however that ends, and leaves Ctrl-C to it.
    """
    global _watching
    cv2.setNumThreads(0)
    if parent_process() is not None and _watching != os.getpid():
        _watching = os.getpid()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def processors() -> int:
    """How many this process may use: a job on a cluster may have only some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
