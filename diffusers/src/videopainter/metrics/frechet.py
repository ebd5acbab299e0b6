"""Fréchet distance of two sets of features, each taken as a Gaussian; float64, any number of samples.

Dowson, Landau, "The Fréchet distance between multivariate normal distributions", J. Multivariate Analysis 12, 1982:

    d² = |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½),  S unbiased (divided by N - 1)

With centred, scaled samples X (N, D) and Y (M, D), S1 = XᵀX and S2 = YᵀY, the eigenvalues of S1 S2 that are not zero
are the squared singular values of X Yᵀ, so that tr (S1 S2)^½ is the sum of these. That is exact where covariances are
singular, as those of fewer samples than features always are: no root of a singular matrix, no added diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """A distance and how much it rests on.

    distance: d², as published FID and VFID are, >= 0.
    real, fake: samples in each set.
    singular: one set at least has no more samples than features. The distance is exact for the samples, but it depends
        on their number: compare it only with distances of as many.
    """

    distance: float
    real: int
    fake: int
    singular: bool


def frechet(real: np.ndarray, fake: np.ndarray) -> Frechet:
    """Fréchet distance of `real` (N, D) and `fake` (M, D) with the sizes of both; symmetric, 0 for equal sets.

    The covariance of a single sample is taken as 0. Raises ValueError for an empty set, features that are not finite,
    or sets of different D.
    """
    real, fake = _checked(real, "real"), _checked(fake, "fake")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"features: expected as many in both sets, got {real.shape[1]} and {fake.shape[1]}")
    x, y = _deviations(real), _deviations(fake)
    means = ((real.mean(axis=0) - fake.mean(axis=0)) ** 2).sum()
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    distance = means + (x**2).sum() + (y**2).sum() - 2 * root
    return Frechet(
        # Rounding can leave equal sets slightly below zero.
        distance=max(float(distance), 0.0),
        real=len(real),
        fake=len(fake),
        singular=min(len(real), len(fake)) <= real.shape[1],
    )


def _checked(features: np.ndarray, name: str) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"{name}: expected at least one sample, (N, D), got shape {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    return features


def _deviations(features: np.ndarray) -> np.ndarray:
    """A matrix X (at most D rows) with XᵀX the unbiased covariance of `features` (N, D)."""
    deviations = (features - features.mean(axis=0)) / np.sqrt(max(len(features) - 1, 1))
    # The triangular factor has the same XᵀX and no more rows than columns.
    return np.asarray(np.linalg.qr(deviations, mode="r")) if len(features) > features.shape[1] else deviations
