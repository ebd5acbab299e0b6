"""How long work took on this machine, so that people know before it begins how long it will take."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import WriteError, read_json, write_json

_FILE = "speeds.json"
_NEW = 0.5  # how far a new measure counts against those before


class Meter:
    """Seconds of each thing that is counted in the stages of one job."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}
        self._last: dict[str, tuple[float, int]] = {}

    def at(self, stage: str, done: int) -> None:
        """So many are behind now."""
        now = time.perf_counter()
        if stage not in self._began:
            # Where a stage begins in the middle of something, that one thing is not measured.
            self._began[stage] = now, done
        self._last[stage] = now, done

    def rate(self, stage: str) -> float | None:
        """Seconds for one; None before there were two looks at it."""
        if stage not in self._began:
            return None
        (begin, first), (now, done) = self._began[stage], self._last[stage]
        return (now - begin) / (done - first) if done > first else None

    def seconds(self, stage: str) -> float:
        """Seconds of the stage so far."""
        return self._last[stage][0] - self._began[stage][0] if stage in self._began else 0.0


class Speeds:
    """Seconds by what was done, of jobs before; a small file in the app's folder."""

    def __init__(self, root: Path) -> None:
        self._file = root / _FILE

    def get(self, key: str) -> float | None:
        """Seconds for one of it; None where it was never measured."""
        value = self._known().get(key)
        return value if isinstance(value, float | int) else None

    def put(self, key: str, seconds: float | None) -> None:
        """A new measure. What cannot be kept is not."""
        if seconds is None:
            return
        known = self._known()
        before = known.get(key)
        known[key] = seconds if before is None else round(_NEW * seconds + (1 - _NEW) * before, 5)
        with contextlib.suppress(WriteError):
            write_json(self._file, known)

    def _known(self) -> dict[str, float]:
        try:
            known = read_json(self._file)
        except InputError:
            return {}
        return known if isinstance(known, dict) else {}
