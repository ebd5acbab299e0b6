"""How fast a training runs, how much memory it takes and when it will be done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a `StepMeter` read since its last reading. Rates count all processes; memory is this process's peak."""

    seconds_per_step: float
    clips_per_second: float
    frames_per_second: float
    peak_memory_bytes: int
    eta_seconds: float

    def metrics(self) -> dict[str, float]:
        """For trackers, one number each."""
        return dict(vars(self))

    def postfix(self) -> dict[str, str]:
        """For `tqdm.set_postfix`, with units."""
        return {
            "s/step": f"{self.seconds_per_step:.3g}",
            "clips/s": f"{self.clips_per_second:.3g}",
            "GiB": f"{self.peak_memory_bytes / 2**30:.3g}",
            "left": format_seconds(self.eta_seconds),
        }


class StepMeter:
    """Counts optimizer steps and clips; costs two additions a step and never waits for the device.

        meter = StepMeter(total_steps=1000, start_step=resumed, device=device)
        for ...:
            meter.step(clips=8, frames=8 * 49)
            if logging:
                loss = loss.item()             # this waits for the device: read the clock after it, not before
                bar.set_postfix(meter.read().postfix())

    The speed is that of the steps since the last reading, without what ran under `pause()` (validation, checkpoints);
    the time left goes by everything since the start, pauses too.

    Args:
        total_steps: Optimizer steps of the whole training.
        start_step: Steps done before (a resumed run).
        device: Whose memory is read: a CUDA device's allocations, else the process's resident set.
        clock: Seconds, rising.
    """

    def __init__(
        self,
        *,
        total_steps: int,
        start_step: int = 0,
        device: torch.device | str | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.total_steps, self.start_step, self.done = total_steps, start_step, start_step
        self._device, self._clock = device, clock
        self._begin = self._since = clock()
        self._paused = 0.0
        self._steps = self._clips = self._frames = 0

    def step(self, *, clips: int, frames: int = 0) -> None:
        """One optimizer step is done: on `clips` clips with `frames` frames in all, over all processes."""
        self.done += 1
        self._steps += 1
        self._clips += clips
        self._frames += frames

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time spent here does not count as training."""
        started = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - started

    def read(self) -> Progress:
        """Figures since the last reading (or the start), and begin anew. Rates are 0 where no step was done."""
        now = self._clock()
        seconds = max(now - self._since - self._paused, 1e-9)
        steps = self._steps
        trained = self.done - self.start_step
        per_step = (now - self._begin) / trained if trained else 0.0
        progress = Progress(
            seconds_per_step=seconds / steps if steps else 0.0,
            clips_per_second=self._clips / seconds,
            frames_per_second=self._frames / seconds,
            peak_memory_bytes=peak_memory(self._device),
            eta_seconds=per_step * max(self.total_steps - self.done, 0),
        )
        self._since, self._paused = now, 0.0
        self._steps = self._clips = self._frames = 0
        return progress


def peak_memory(device: torch.device | str | None = None) -> int:
    """Bytes at this process's peak: torch's allocations on a CUDA device, else the resident set in main memory."""
    if device is not None and str(device).startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def format_seconds(seconds: float) -> str:
    """`45s`, `12:05`, `3:07:00`, `2d 03:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest}s"
