"""What holds downloads back: the rate, the disk, servers that ask for patience, and the wish to stop."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from videopainter.files import WriteError
from videopainter.preparation.units import size_text

# The disk is asked again after so many bytes.
_ASK_AGAIN = 64 * 10**6


class Stopped(Exception):
    """The run is to end: interrupted, or the disk is as full as it may be."""


class Stop:
    """Ends what waits or reads, in all threads, with `Stopped`; `reason` tells why."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def set(self, reason: str = "") -> None:
        """Ask all threads to end. The first reason stays."""
        self.reason = self.reason or reason
        self._event.set()

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def check(self) -> None:
        """Raises `Stopped` if somebody asked."""
        if self._event.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait; raises `Stopped` as soon as somebody asks."""
        if self._event.wait(max(0.0, seconds)):
            raise Stopped


class RateLimit:
    """At most `rate` bytes a second over all threads, None: as many as come. Half a second's worth may come at once."""

    def __init__(self, rate: float | None, stop: Stop) -> None:
        self._rate, self._stop = rate, stop
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, size: int) -> None:
        """Wait until `size` bytes more may have come."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.5) + size / self._rate
            pause = self._free_at - now
        if pause > 0:
            self._stop.sleep(pause)


class DiskLimit:
    """Stops the run before the disk is full, or before it brought more than `budget` bytes (None: no budget)."""

    def __init__(self, folder: Path, keep_free: int, budget: int | None, stop: Stop) -> None:
        self._folder, self._keep_free, self._budget, self._stop = folder, keep_free, budget, stop
        self._lock = threading.Lock()
        self._used, self._asked_at = 0, 0
        self.ask()

    def ask(self) -> None:
        """Look at the disk. WriteError where less is free than is to stay so."""
        free = shutil.disk_usage(self._folder).free
        if free < self._keep_free:
            wanted = size_text(self._keep_free)
            raise WriteError(f"--keep_free: expected {wanted} free, the disk of {self._folder} has {size_text(free)}")

    def take(self, size: int) -> None:
        """`size` bytes are about to be written; raises `Stopped` where they must not be."""
        with self._lock:
            self._used += size
            if self._budget is not None and self._used > self._budget:
                self._stop.set(f"--max_disk: this run has brought {size_text(self._budget)}")
            if self._used - self._asked_at >= _ASK_AGAIN:
                self._asked_at = self._used
                try:
                    self.ask()
                except WriteError as error:
                    self._stop.set(str(error))
        self._stop.check()


class Patience:
    """Per host, when it may be asked again: what one thread is told by a server, all threads heed."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def ask_for(self, host: str, seconds: float) -> None:
        """The host is not to be asked for so long."""
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + seconds)

    def left(self, host: str) -> float:
        """How many seconds the host is still to be left alone."""
        with self._lock:
            return self._until.get(host, 0.0) - time.monotonic()

    def wait(self, host: str) -> None:
        """Until the host may be asked."""
        while (seconds := self.left(host)) > 0:
            self._stop.sleep(min(seconds, 1.0))
