"""Fréchet distances and proportions, with confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gaussian:
    """Mean `(d,)` and covariance `(d, d)` of a set of features."""

    mean: Array
    covariance: Array


def fit(features: Array) -> Gaussian:
    """Returns the Gaussian with mean and covariance of features `(n, d)`.

    Raises:
        ValueError: for fewer than two rows, another shape, or values that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features must be (n, d) with n of 2 or more, got {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features must be finite, got NaN or infinity")
    return Gaussian(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


def _square_root(matrix: Array) -> Array:
    """Returns the root of a positive semidefinite matrix; clamps negative rounding errors."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def between(first: Gaussian, second: Gaussian) -> float:
    """Returns the Fréchet distance of two Gaussians (Heusel et al. 2017, arXiv:1706.08500, eq. 6).

    It is `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)`, 0 or more. This symmetric form is
    real and finite even if a covariance is singular.
    """
    root = _square_root(first.covariance)
    cross = np.linalg.eigvalsh(root @ second.covariance @ root).clip(min=0)  # (d,)
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * np.sqrt(cross).sum()
    return max(0.0, float(((first.mean - second.mean) ** 2).sum() + spread))


def frechet_distance(first: Array, second: Array) -> float:
    """Returns the Fréchet distance of two feature sets `(n, d)` and `(m, d)`.

    Few rows make it larger: compare only distances from the same number of rows.
    """
    return between(fit(first), fit(second))


def bootstrap_distance(
    features: Array, reference: Gaussian, *, num_resamples: int = 200, seed: int = 0
) -> Interval:
    """Returns the Fréchet distance of `features` `(n, d)` to a reference, with a 95 % interval.

    Resampling repeats rows, which raises every resampled distance by about the bias of n rows. So
    the percentiles are moved until their mean is the estimate: the interval is the variation of the
    distance between sets of n pictures.
    """
    estimate = between(fit(features), reference)
    rng = np.random.default_rng(seed)
    distances = np.array(
        [
            between(fit(features[rng.integers(len(features), size=len(features))]), reference)
            for _ in range(num_resamples)
        ]
    )
    low, high = np.percentile(distances, [2.5, 97.5]) - distances.mean()
    return Interval(estimate, max(0.0, estimate + min(low, 0.0)), estimate + max(high, 0.0))


def wilson(successes: int, trials: int) -> Interval:
    """Returns a proportion with its 95 % interval (Wilson 1927), valid at 0 % and 100 % too.

    Raises:
        ValueError: unless 0 <= successes <= trials and there is a trial.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes must be 0 to trials, and trials 1 or more, got {successes} of {trials}"
        )
    share, z2 = successes / trials, _Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    margin = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = _Z95 / (1 + z2 / trials) * math.sqrt(margin)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))
