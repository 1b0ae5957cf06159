"""Where a history of runs changed its level: binary segmentation with a permutation test and a least magnitude.

The statistic of a split is the difference of the means on its two sides, weighted as in a t test (CUSUM), over the
noise between successive runs (von Neumann's estimate, which other changes of the level hardly touch). It is held
against the best splits of the same runs in random orders, so that their noise may have any shape. A history is looked
at again after every run: the level of the test is chosen by simulation of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .effects import FloatArray

LEAST_RUNS = 3
"""A level is at least so many runs: one odd run is an outlier, not a change."""
MAGNITUDE = math.log(1.05)
ALPHA = 0.01
"""Of 200 stable runs, looked at after each of them, raises one alarm in two histories at most, by simulation."""
PERMUTATIONS = 1999
FIRST = 100
"""Orders that are drawn first; most stable histories take no more."""
SEED = 20_240_701
REACH = ((12, 4.4), (15, 3.8), (20, 3.5), (30, 3.3), (50, 3.2), (100, 3.1))
"""Runs before a change -> its size, in standard deviations of a run, that is found in 9 of 10 cases by its third run;
by simulation of normal runs."""
MARGIN = 1.0
"""Standard deviations of a run by which a change is over the least magnitude where, in 9 of 10 cases, the median of
three runs is over it."""
SURE = 3.84
"""Of twice the log likelihood: the 95 % quantile of chi squared with one degree of freedom."""
TINY = 1e-12
"""Runs that agree to the last digit have no noise."""


@dataclass(frozen=True, slots=True)
class Split:
    """A change between run ``index`` - 1 and ``index``; it lies between ``earliest`` and ``latest`` (95 %)."""

    index: int
    earliest: int
    latest: int
    change: float
    p: float


def contrasts(logs: FloatArray) -> FloatArray:
    """The statistic of every split that leaves ``LEAST_RUNS`` values on both sides.

    Args:
        logs: values in the order of the runs (..., n).

    Returns:
        (..., n - 2 LEAST_RUNS + 1); position i is the split before value i + LEAST_RUNS.
    """
    n = logs.shape[-1]
    sums = np.cumsum(logs, -1)
    k = np.arange(LEAST_RUNS, n - LEAST_RUNS + 1)
    left, right = sums[..., k - 1], sums[..., -1:] - sums[..., k - 1]
    noise = np.sqrt((np.diff(logs, axis=-1) ** 2).mean(-1, keepdims=True) / 2)
    found: FloatArray = np.abs(right / (n - k) - left / k) * np.sqrt(k * (n - k) / n) / np.maximum(noise, TINY)
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


def found_soon(before: int, sd: float, magnitude: float = MAGNITUDE) -> float | None:
    """How large a change (log scale) must be to be found by its third run in 9 of 10 cases; None where too few runs are
    before it.

    Args:
        before: runs at the level before the change.
        sd: standard deviation between the runs of a level (log scale).
    """
    runs, sizes = zip(*REACH, strict=True)
    if before < runs[0]:
        return None
    return max(float(np.interp(before, runs, sizes)) * sd, magnitude + MARGIN * sd)


def _step(logs: FloatArray, start: int, cut: int, end: int) -> float:
    return float(np.median(logs[cut:end]) - np.median(logs[start:cut]))


def _cuts(logs: FloatArray, offset: int, magnitude: float, alpha: float) -> list[tuple[int, float]]:
    """Significant splits of one stretch and of what they leave, with their p values."""
    n = len(logs)
    if n < 2 * LEAST_RUNS:
        return []
    statistic = contrasts(logs)
    cut = int(statistic.argmax()) + LEAST_RUNS
    if abs(_step(logs, 0, cut, n)) < magnitude:
        return []
    p = _p_value(logs, float(statistic.max()), alpha)
    if p > alpha:
        return []
    return [
        *_cuts(logs[:cut], offset, magnitude, alpha),
        (offset + cut, p),
        *_cuts(logs[cut:], offset + cut, magnitude, alpha),
    ]


def _p_value(logs: FloatArray, observed: float, alpha: float) -> float:
    """Share of random orders in which the best split is as good; no more are drawn once it is surely over ``alpha``."""
    rng = np.random.default_rng(SEED)
    as_good = drawn = 0
    while drawn < PERMUTATIONS and as_good <= alpha * (1 + PERMUTATIONS):
        many = min(max(FIRST, drawn), PERMUTATIONS - drawn)
        orders = rng.permuted(np.tile(logs, (many, 1)), axis=1)
        as_good += int((contrasts(orders).max(-1) >= observed).sum())
        drawn += many
    return (1 + as_good) / (1 + drawn)


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
