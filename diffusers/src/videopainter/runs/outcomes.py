"""What became of the jobs of a run, over all its processes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from videopainter.captions.answers import NobodyAnswers
from videopainter.errors import Interrupted, OutOfStep, complain
from videopainter.runs.processes import Shard


@dataclass(kw_only=True)
class Outcomes:
    """Jobs of this process by outcome; `started` once any passed its checks.

    `failed_anywhere` holds those of all processes, once `exit_code` has gathered them.
    """

    several: bool
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    started: bool = False
    failed_anywhere: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def attempt(self, label: str) -> Iterator[None]:
        """Among several jobs, the failing one of that label is reported in one line and the others go on."""
        try:
            yield
        except (Interrupted, OutOfStep):
            raise
        except Exception as error:
            if not self.several:
                raise
            if not isinstance(error, ValueError | OSError):
                traceback.print_exc()
            told = isinstance(error, NobodyAnswers) and str(error) in self.failed.values()
            self.failed[label] = str(error) or type(error).__name__
            if told:  # what is so for all is said of the first
                return
            complain(f"failed: {label}: {self.failed[label]}")

    def exit_code(self, shard: Shard) -> int:
        """0; 1 if some failed; 2 if all did before any could start. Says so once, for all processes."""
        everywhere = shard.gather(self)
        failed = {label: text for one in everywhere for label, text in one.failed.items()}
        self.failed_anywhere = failed
        if not failed:
            return 0
        # What was made, and failed in what came after, counts once.
        total = len({*failed, *(label for one in everywhere for label in one.done)})
        if shard.rank == 0:
            complain(f"error: {len(failed)} of {total} failed: {', '.join(failed)}")
        return 1 if any(one.started for one in everywhere) else 2
