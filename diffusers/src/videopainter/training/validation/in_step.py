"""Processes that every pass of a model needs, because weights are sharded, learn of what failed on one of them."""

from __future__ import annotations

from datetime import timedelta

import torch.distributed as dist

from videopainter.errors import TrainingFailed

# Longer than one process takes more than another to read and encode clips, far shorter than the engine's own hours.
TELLING_PATIENCE = timedelta(minutes=10)


class InStep:
    """Tells every process how each of them fared; all processes make one, and call it alike.

    Over gloo, beside the engine's own exchange, in which the others may be caught.
    """

    def __init__(self, num_processes: int) -> None:
        self._failures = [""] * num_processes
        self._group = dist.new_group(backend="gloo", timeout=TELLING_PATIENCE) if num_processes > 1 else None

    def failures(self, own: str) -> list[str]:
        """What failed on each process, "" for nothing, once all have come here.

        Raises:
            TrainingFailed: another process does not come: it waits in a pass that this one has left, or has ended.
        """
        if self._group is None:
            return [own]
        try:
            dist.all_gather_object(self._failures, own, group=self._group)
        except RuntimeError:
            raise TrainingFailed(
                f"validation: {own or 'another process has failed'}; weights are sharded, every pass needs all "
                "processes, and they are no longer in step: go on with --resume_from_checkpoint latest (and "
                "--validating_steps 0 to leave validation out)"
            ) from None
        return list(self._failures)
