"""In which order the rows of a training set are seen, and where a sample's random draws come from.

Both are pure functions of the seed: neither the number of workers nor a resume changes them, and the number of
processes changes only who gets which part of a global batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from videopainter.errors import InputError

# What a draw is for: draws of one sample must not repeat each other.
ORDER, SINGLE, TIME, PLACE, FLIP, MASKS, CAPTION, STAND_IN = range(8)


class SampleKey(NamedTuple):
    """One sample: `row` (from 0) of the CSV as seen in `epoch`; `single`: one frame of it instead of a clip."""

    epoch: int
    row: int
    single: bool


def sample_rng(seed: int, salt: int, key: SampleKey) -> np.random.Generator:
    """The generator of one sample's draws of one kind (`salt`)."""
    return np.random.default_rng((seed, salt, key.epoch, key.row))


class SampleOrder:
    """Endless batches of sample keys for one process.

    An epoch is a permutation of `rows`, cut into global batches of `batch_size` x `num_processes`; a last one that is
    not full is filled up from the epoch's start, so that all processes have equally many. With probability
    `mix_train_ratio` a global batch is one of single frames, the same one on every process.

    Raises InputError where there are no rows, and for a batch size below 1 or a ratio outside [0, 1].
    """

    def __init__(
        self,
        rows: Sequence[int],
        batch_size: int,
        num_processes: int,
        process_index: int,
        seed: int,
        mix_train_ratio: float = 0.0,
    ) -> None:
        if not len(rows):
            raise InputError("clips: expected at least one to train on, got none")
        if batch_size < 1:
            raise InputError(f"train_batch_size: expected at least 1, got {batch_size}")
        if not 0 <= mix_train_ratio <= 1:
            raise InputError(f"mix_train_ratio: expected a number from 0 to 1, got {mix_train_ratio}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process {process_index} of {num_processes}")
        self._rows = np.asarray(rows, dtype=np.int64)
        self._batch_size, self._num_processes, self._process_index = batch_size, num_processes, process_index
        self._seed, self._ratio = seed, mix_train_ratio
        self.batches_per_epoch = -(-len(self._rows) // (batch_size * num_processes))

    def batches(self, start: int = 0) -> Iterator[list[SampleKey]]:
        """The batches from number `start` (counted over all epochs) on; skipping costs nothing."""
        number = start
        epoch, order = -1, self._rows
        while True:
            if number // self.batches_per_epoch != epoch:
                epoch = number // self.batches_per_epoch
                order = self._order(epoch)
            single = self._is_single(number)
            first = (number % self.batches_per_epoch * self._num_processes + self._process_index) * self._batch_size
            yield [SampleKey(epoch, int(row), single) for row in order[first : first + self._batch_size]]
            number += 1

    def _order(self, epoch: int) -> np.ndarray:
        """The rows of one epoch, as many as its global batches hold."""
        shuffled = np.random.default_rng((self._seed, ORDER, epoch)).permutation(self._rows)
        return np.resize(shuffled, self.batches_per_epoch * self._num_processes * self._batch_size)

    def _is_single(self, number: int) -> bool:
        if not self._ratio:
            return False
        return bool(np.random.default_rng((self._seed, SINGLE, number)).random() < self._ratio)
