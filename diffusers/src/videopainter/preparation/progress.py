"""One line of progress: what is done, the rate, the time left; on a terminal it changes, a log gets one at times."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from types import TracebackType
from typing import TextIO

from videopainter.preparation.units import counted, size_text, time_text

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 30.0
# The rate is that of the last half minute: servers and disks change their mind.
_RATE_SECONDS = 30.0


class WorkProgress:
    """Counts items and bytes of a piece of work, from any thread, and tells them on stderr.

    Args:
        what: The work's name, ahead of the line.
        total: How many items there are.
        noun: What an item is.
        stream: Where the line goes; None: stderr.
    """

    def __init__(self, what: str, total: int, noun: str, *, stream: TextIO | None = None) -> None:
        self.what, self.total, self.noun = what, total, noun
        self.counts: Counter[str] = Counter()
        self.done, self.size = 0, 0
        self._skipped = 0
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._pause = _TERMINAL_SECONDS if self._terminal else _LOG_SECONDS
        self._lock = threading.Lock()
        self._started = self._told = time.monotonic()
        self._marks: deque[tuple[float, int, int]] = deque([(self._started, 0, 0)])

    def __enter__(self) -> WorkProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=self._stream, flush=True)

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self._started

    def add_size(self, size: int) -> None:
        """`size` more bytes."""
        with self._lock:
            self.size += size
            self._tell()

    def add(self, kind: str = "done", number: int = 1, *, skipped: bool = False) -> None:
        """`number` items more are through, as `kind`. `skipped`: at once, which says nothing about the rest."""
        with self._lock:
            self.counts[kind] += number
            self.done += number
            self._skipped += number if skipped else 0
            self._tell()

    def line(self) -> str:
        """What the line says now."""
        now = time.monotonic()
        while len(self._marks) > 1 and now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()
        since, done, size = self._marks[0]
        worked = self.done - self._skipped
        span = max(now - since, 1e-3)
        rate = (worked - done) / span
        parts = [f"{self.what}: {self.done} of {counted(self.total, self.noun)}"]
        parts += [f"{number} {kind}" for kind, number in self.counts.items() if kind != "done" and number]
        if self.size:
            parts += [size_text(self.size), f"{size_text((self.size - size) / span)}/s"]
        else:
            parts.append(f"{rate:.3g} a second")
        if self.done < self.total and rate:
            parts.append(f"about {time_text((self.total - self.done) / rate)} left")
        self._marks.append((now, worked, self.size))
        return ", ".join(parts)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < self._pause:
            return
        self._told = now
        if self._terminal:
            print(f"\r\x1b[K{self.line()}", end="", file=self._stream, flush=True)
        else:
            print(self.line(), file=self._stream, flush=True)
