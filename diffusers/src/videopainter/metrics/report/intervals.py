"""How sure a mean of few clips is: percentile bootstrap over clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DRAWS = 1 << 20  # values that are drawn at once: memory does not grow with their number


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: np.ndarray, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of `values` (N,) with its percentile bootstrap interval (Efron 1979); the same seed gives the same one.

    For two methods on the same clips pass the paired differences, so that clips being easy or hard does not count.
    Raises ValueError for fewer than two values or values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"expected at least two finite values, got {values.tolist()}")
    rng, means = np.random.default_rng(seed), np.empty(resamples)
    at_once = max(1, _DRAWS // len(values))
    for start in range(0, resamples, at_once):
        part = means[start : start + at_once]
        part[:] = values[rng.integers(len(values), size=(len(part), len(values)))].mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(values.mean()), float(low), float(high))
