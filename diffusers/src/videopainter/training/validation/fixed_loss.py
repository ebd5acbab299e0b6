"""Validation loss that runs can be compared by: fixed clips, fixed noise, fixed timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from videopainter.data.training.sample_order import SampleKey
from videopainter.training.encoding import EncodedBatch
from videopainter.training.validation.clips import ValidationClips

_SALT = 0xF1DE  # apart from the draws of training samples
PARTS = ("loss", "masked_loss")


class FixedLoss:
    """Full and masked loss of the validation clips at each of some timesteps.

    Clips are cut into batches once and for all, and a batch is one process's work: so what is computed does not depend
    on how many processes there are, and the means are taken in a fixed order from a table of all batches.

    Args:
        objective: Has `loss(model, batch, noise, timesteps)`, with the means `full` and `masked` of what it returns.
        clips: Where encoded clips come from.
        keys: Which of them.
        timesteps: Training timesteps, 0..999.
        batch_size: Clips in a forward pass.
        seed: Of the noise, together with clip and timestep.
    """

    def __init__(
        self,
        objective: Any,
        clips: ValidationClips,
        keys: Sequence[SampleKey],
        *,
        timesteps: Sequence[int],
        batch_size: int = 1,
        seed: int = 42,
    ) -> None:
        self._objective, self._clips = objective, clips
        self._timesteps, self._seed = list(timesteps), seed
        self.batches = [list(keys[start : start + batch_size]) for start in range(0, len(keys), batch_size)]

    def empty_table(self) -> torch.Tensor:
        return torch.zeros(len(self.batches), len(self._timesteps), len(PARTS), dtype=torch.float64)

    @torch.no_grad()
    def table(
        self, model: Any, *, num_processes: int = 1, process_index: int = 0, lockstep: bool = False
    ) -> torch.Tensor:
        """Losses of this process's batches: float64 (batches, timesteps, 2), zeros where another process's.

        Args:
            lockstep: All processes make equally many passes, since each pass needs all of them (sharded weights);
                superfluous ones are thrown away.
        """
        table = self.empty_table()
        for number in self._numbers(num_processes, process_index, lockstep):
            losses = self._of_batch(model, self.batches[number])
            if number % num_processes == process_index:
                table[number] = losses
        return table

    def encode(self, *, num_processes: int = 1, process_index: int = 0, lockstep: bool = False) -> None:
        """Read and encode what `table` will need; it then fails only where a pass does."""
        for number in self._numbers(num_processes, process_index, lockstep):
            self._clips.batch(self.batches[number])

    def _numbers(self, num_processes: int, process_index: int, lockstep: bool) -> list[int]:
        mine = list(range(process_index, len(self.batches), num_processes))
        most = -(-len(self.batches) // num_processes)
        return mine + [0] * (most - len(mine) if lockstep else 0)

    def _of_batch(self, model: Any, keys: Sequence[SampleKey]) -> torch.Tensor:
        """(timesteps, 2) of one batch."""
        batch = self._clips.batch(keys).to(self._clips.device)
        losses = []
        for timestep in self._timesteps:
            noise = fixed_noise(self._seed, batch, timestep).to(self._clips.device)
            steps = torch.full((len(keys),), timestep, dtype=torch.int64, device=noise.device)
            result = self._objective.loss(model, batch, noise, steps)
            losses.append(torch.stack([result.full.double(), result.masked.double()]))
        return torch.stack(losses).cpu()

    def metrics(self, table: torch.Tensor) -> dict[str, float]:
        """From the table of all batches: means over clips and timesteps, and the full loss at every timestep."""
        sizes = torch.tensor([len(batch) for batch in self.batches], dtype=torch.float64)
        means = (table * sizes[:, None, None]).sum(dim=0) / sizes.sum()  # (timesteps, 2)
        metrics = {f"validation/{part}": float(value) for part, value in zip(PARTS, means.mean(dim=0))}
        for timestep, value in zip(self._timesteps, means[:, 0]):
            metrics[f"validation/loss_t{timestep}"] = float(value)
        return metrics


def fixed_noise(seed: int, batch: EncodedBatch, timestep: int) -> torch.Tensor:
    """Standard normal float32 like the latents, on the CPU; a function of seed, clip and timestep alone."""
    shape = batch.latents.shape[1:]
    draws = [
        np.random.default_rng((seed, _SALT, key.epoch, key.row, timestep)).standard_normal(shape, dtype=np.float32)
        for key in batch.keys
    ]
    return torch.from_numpy(np.stack(draws))
