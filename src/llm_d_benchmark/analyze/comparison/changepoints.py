"""Where a history of runs changed its level: E-divisive (Matteson and James) with a permutation test and a minimum
magnitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .effects import FloatArray

LEAST_RUNS = 3
"""A level is at least so many runs: one odd run is an outlier, not a change."""
MAGNITUDE = math.log(1.05)
ALPHA = 0.01
PERMUTATIONS = 499
SEED = 20_240_701
SURE = 3.84
"""Of twice the log likelihood: the 95 % quantile of chi squared with one degree of freedom."""


@dataclass(frozen=True, slots=True)
class Split:
    """A change between run ``index`` - 1 and ``index``; it lies between ``earliest`` and ``latest`` (95 %)."""

    index: int
    earliest: int
    latest: int
    change: float
    p: float


def divergence(distances: FloatArray) -> FloatArray:
    """The energy statistic of every split that leaves ``LEAST_RUNS`` values on both sides.

    Args:
        distances: absolute differences (..., n, n).

    Returns:
        (..., n - 2 LEAST_RUNS + 1); position i is the split before value i + LEAST_RUNS.
    """
    n = distances.shape[-1]
    left = np.cumsum(np.tril(distances, -1).sum(-1), -1)  # within the first k + 1 values
    right = np.cumsum(np.triu(distances, 1).sum(-1)[..., ::-1], -1)[..., ::-1]  # within the values from k on
    k = np.arange(LEAST_RUNS, n - LEAST_RUNS + 1)
    m = n - k
    within_left, within_right = left[..., k - 1], right[..., k]
    between = left[..., -1:] - within_left - within_right
    energy = 2 * between / (k * m) - within_left * 2 / (k * (k - 1)) - within_right * 2 / (m * (m - 1))
    found: FloatArray = energy * k * m / n
    return found


def change_points(logs: FloatArray, *, magnitude: float = MAGNITUDE, alpha: float = ALPHA) -> list[Split]:
    """Changes of level of at least ``magnitude`` (log scale) in log values of successive runs, in order."""
    cuts = sorted(_cuts(logs, 0, magnitude, alpha))
    while cuts:  # a later cut may have left less of an earlier one than the least magnitude
        edges = [0, *(at for at, _ in cuts), len(logs)]
        sizes = [abs(_step(logs, *edges[i : i + 3])) for i in range(len(cuts))]
        least = min(range(len(cuts)), key=lambda i: sizes[i])
        if sizes[least] >= magnitude:
            break
        del cuts[least]
    edges = [0, *(at for at, _ in cuts), len(logs)]
    return [
        Split(at, *_interval(logs, edges[i], edges[i + 2]), _step(logs, *edges[i : i + 3]), p)
        for i, (at, p) in enumerate(cuts)
    ]


def _step(logs: FloatArray, start: int, cut: int, end: int) -> float:
    return float(np.median(logs[cut:end]) - np.median(logs[start:cut]))


def _cuts(logs: FloatArray, offset: int, magnitude: float, alpha: float) -> list[tuple[int, float]]:
    """Significant splits of one stretch and of what they leave, with their p values."""
    n = len(logs)
    if n < 2 * LEAST_RUNS:
        return []
    distances = np.abs(logs[:, None] - logs[None, :])
    statistic = divergence(distances)
    cut = int(statistic.argmax()) + LEAST_RUNS
    if abs(_step(logs, 0, cut, n)) < magnitude:
        return []
    p = _p_value(distances, float(statistic.max()))
    if p > alpha:
        return []
    return [
        *_cuts(logs[:cut], offset, magnitude, alpha),
        (offset + cut, p),
        *_cuts(logs[cut:], offset + cut, magnitude, alpha),
    ]


def _p_value(distances: FloatArray, observed: float) -> float:
    """Share of random orders in which the best split is as good; one order at a time keeps the memory small."""
    rng = np.random.default_rng(SEED)
    n = len(distances)
    as_good = 0
    for _ in range(PERMUTATIONS):
        order = rng.permutation(n)
        as_good += float(divergence(distances[np.ix_(order, order)]).max()) >= observed
    return (1 + as_good) / (1 + PERMUTATIONS)


def _interval(logs: FloatArray, start: int, end: int) -> tuple[int, int]:
    """Splits of a stretch that are nearly as likely as the best one, of normal values of equal spread."""
    part = logs[start:end]
    n = len(part)
    splits = np.arange(1, n)
    sums, squares = np.cumsum(part)[:-1], float((part**2).sum())
    left, right = sums, part.sum() - sums
    residual = np.maximum(squares - left**2 / splits - right**2 / (n - splits), 1e-18)
    likely = splits[n * np.log(residual / residual.min()) <= SURE]
    return start + int(likely[0]), start + int(likely[-1])
