"""What processes that read or draw clips side by side begin with."""

from __future__ import annotations

import cv2


def begin_worker(worker: int = 0) -> None:
    """OpenCV works in the calling thread alone: the processes are what runs in parallel.

    0, not 1: for 1 OpenCV ends its other threads, and in a forked process, which has none of them, waits forever.
    """
    cv2.setNumThreads(0)
