"""Slow change over a history of runs: Theil-Sen slope, Mann-Kendall test with autocorrelation taken into account."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from .. import quantiles
from .effects import FloatArray

LEAST = 8
"""Fewer runs say nothing of a trend."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Change per run in the unit of the values, with two-sided 95 % limits, and the p value of "no trend"."""

    slope: float
    low: float
    high: float
    p: float


def theil_sen(values: FloatArray) -> Slope:
    """Slope and trend test of at least ``LEAST`` values in the order of the runs, taken as equally far apart."""
    n = len(values)
    later, earlier = np.tril_indices(n, -1)
    slopes = np.sort((values[later] - values[earlier]) / (later - earlier))
    score = float(np.sign(values[later] - values[earlier]).sum())
    slope = float(np.median(slopes))
    variance = _variance(values) * inflation(values - slope * np.arange(n))
    if variance <= 0:
        return Slope(slope, slope, slope, 1.0)
    z = (score - math.copysign(1.0, score)) / math.sqrt(variance) if score else 0.0
    # Sen's limits: the ranks among all slopes that the score's spread leaves.
    reach = quantiles.normal(0.975) * math.sqrt(variance)
    low = max(0, math.floor((len(slopes) - reach) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))
    return Slope(slope, float(slopes[low]), float(slopes[high]), float(2 * special.ndtr(-abs(z))))


def _variance(values: FloatArray) -> float:
    """Variance of the Mann-Kendall score of independent values, ties taken into account."""
    n = len(values)
    ties = np.unique(values, return_counts=True)[1].astype(float)
    return float(n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18


def inflation(residuals: FloatArray) -> float:
    """How many times greater dependence between successive runs makes the variance of the score; never under 1.

    The series is taken as first-order autoregressive, its coefficient estimated from the values without their trend
    and corrected for the bias of short series. (Summing the correlations of every lag, as Hamed and Rao do, rejects
    twice as often as it says for series as short as these.)
    """
    n = len(residuals)
    centred = residuals - residuals.mean()
    total = float(centred @ centred)
    if total <= 0:
        return 1.0
    found = float(centred[1:] @ centred[:-1]) / total
    rho = min(0.95, (found * n + 2) / (n - 4))
    if rho <= 1 / math.sqrt(n):
        return 1.0
    lags = np.arange(1, n)
    return float(max(1.0, 1 + 2 * ((1 - lags / n) * rho**lags).sum()))
