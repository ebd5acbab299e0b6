"""Who waits for a run: is told how far it is, sees a picture now and then, and may stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from videopainter.errors import Interrupted


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is called while a run is at work, by the thread that does it.

    Args:
        on_progress: (stage, done, of how many): masks, check, hash, propagate, first_frame, load, inpaint, write.
            `inpaint` counts steps of all windows, `propagate` and `write` frames; 0 of 0 where nothing is counted.
        on_preview: One frame of each finished window, uint8 RGB (H, W, 3) at the model's working size.
        interrupted: Asked often; where it says so the run ends with `Interrupted`, and finished windows are kept.
    """

    on_progress: Callable[[str, int, int], None] | None = None
    on_preview: Callable[[np.ndarray], None] | None = None
    interrupted: Callable[[], bool] = lambda: False

    def at(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Says how far the run is. Interrupted where it is to stop."""
        if self.interrupted():
            raise Interrupted
        if self.on_progress is not None:
            self.on_progress(stage, done, total)
