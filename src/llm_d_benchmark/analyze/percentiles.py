"""Percentiles with two-sided 95 % limits, for independent and for dependent values (docs/statistics.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..domain.result import PERCENTILES, Absent, Distribution, Estimate, Insufficient, Percentile
from . import quantiles

FloatArray = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BLOCKS = 40
RESAMPLES = 1000
TAIL = 0.025
_LEAST_BLOCKS = 8


def minimum_count(level: float, tail: float = TAIL) -> int:
    """The least number of values for which two-sided order-statistic limits of this percentile exist (95 %, unless
    each limit may miss with another probability ``tail``)."""
    return math.ceil(math.log(tail) / math.log(max(level, 1 - level)))


def order_statistic_ranks(n: int, level: float) -> tuple[int, int] | None:
    """Ranks (from 1) of the values that are the limits; None where there are too few values."""
    if n < minimum_count(level):
        return None
    low = quantiles.binomial(TAIL, n, level)
    high = quantiles.binomial(1 - TAIL, n, level) + 1
    return (low, high) if low >= 1 and high <= n else None


def rank_of(n: int, level: float) -> int:
    """Rank (from 1) of the sample percentile: the least value that at least ``level`` of all are not above."""
    return min(n, max(1, math.ceil(n * level - 1e-9)))


@dataclass(frozen=True, slots=True)
class Ecdf:
    """An exact empirical distribution: ``values`` ascending, ``upto[i]`` of all are at most ``values[i]``."""

    values: FloatArray
    upto: Ints

    @staticmethod
    def of(values: FloatArray) -> Ecdf:
        return Ecdf(np.sort(values), np.arange(1, len(values) + 1))

    @property
    def count(self) -> int:
        return int(self.upto[-1])

    def at_rank(self, rank: int) -> float:
        return float(self.values[np.searchsorted(self.upto, min(max(rank, 1), self.count))])

    def quantile(self, level: float) -> float:
        return self.at_rank(rank_of(self.count, level))

    def quantiles(self, levels: FloatArray) -> list[float]:
        return [self.quantile(float(level)) for level in levels]


def independent(ecdf: Ecdf) -> dict[str, Percentile]:
    """Percentiles of independent values, with order-statistic limits."""
    found: dict[str, Percentile] = {}
    for name, level in PERCENTILES:
        value = ecdf.quantile(level)
        ranks = order_statistic_ranks(ecdf.count, level)
        found[name] = Estimate(value, *(ecdf.at_rank(r) for r in ranks)) if ranks else Insufficient(value)
    return found


def design_effect(below: FloatArray, sizes: FloatArray, tail: float = TAIL) -> float:
    """How many times greater the variance of a share is than that of independent values, at least 1.

    Args:
        below: values at most x, in each block.
        sizes: all values, in each block.

    The variance is that of a bootstrap of whole blocks, seed fixed; Student's t allows for their small number.
    """
    used = sizes > 0
    below, sizes = below[used], sizes[used]
    blocks, n = len(sizes), float(sizes.sum())
    share = below.sum() / n
    if blocks < 2 or not 0 < share < 1:
        return 1.0
    weights = np.random.default_rng(20_240_501).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES)
    variance = float(np.var((weights @ below) / (weights @ sizes))) * blocks / (blocks - 1)
    wider = (quantiles.student(1 - tail, blocks - 1) / quantiles.normal(1 - tail)) ** 2
    return float(max(1.0, variance * wider / (share * (1 - share) / n)))


def dependent(ecdf: Ecdf, effects: dict[str, float]) -> dict[str, Percentile]:
    """Percentiles of dependent values: exact limits of a share (Korn and Graubard) with the effective number of values.

    Args:
        effects: design effect by percentile name.
    """
    found: dict[str, Percentile] = {}
    for name, level in PERCENTILES:
        value = ecdf.quantile(level)
        limits = beyond(ecdf, level, effects[name])
        found[name] = Insufficient(value) if limits is None else Estimate(value, *limits)
    return found


def beyond(ecdf: Ecdf, level: float, effect: float, tail: float = TAIL) -> tuple[float, float] | None:
    """Limits of one percentile that each miss it with probability ``tail``; None where there are too few values."""
    n = ecdf.count / effect
    if n < minimum_count(level, tail):
        return None
    low = quantiles.beta(tail, n * level, n * (1 - level) + 1)
    high = quantiles.beta(1 - tail, n * level + 1, n * (1 - level))
    return ecdf.quantile(low), ecdf.quantile(high)


def autocorrelated(series: FloatArray) -> bool:
    """Whether successive values depend on each other: lag-1 autocorrelation beyond what chance gives ."""
    n = len(series)
    if n < 5 * _LEAST_BLOCKS:
        return False
    centred = series - series.mean()
    total = float(centred @ centred)
    return total > 0 and float(centred[1:] @ centred[:-1]) / total > 1.96 / math.sqrt(n)


def distribution(values: FloatArray, unit: str, absent: str) -> Distribution | Absent:
    """The distribution of one value per request.

    Args:
        values: in the order of sending; where they are autocorrelated, the limits come from a bootstrap of blocks of
            successive requests.
        absent: the reason to give where there are no values.
    """
    n = len(values)
    if not n:
        return Absent(absent)
    ecdf = Ecdf.of(values)
    if autocorrelated(values):
        effects = {name: block_effect(values, ecdf.quantile(level)) for name, level in PERCENTILES}
        percentiles, limits = dependent(ecdf, effects), "block_bootstrap"
    else:
        percentiles, limits = independent(ecdf), "order_statistic"
    sd = float(values.std(ddof=1)) if n > 1 else None
    return Distribution(
        unit, n, float(values.mean()), sd, float(ecdf.values[0]), float(ecdf.values[-1]), percentiles, limits
    )


def block_effect(values: FloatArray, at: float, tail: float = TAIL) -> float:
    """Design effect of the share of values at most ``at``, from blocks of successive values."""
    n = len(values)
    blocks = np.arange(n) * min(BLOCKS, n // 5) // n
    sizes = np.bincount(blocks).astype(float)
    return design_effect(np.bincount(blocks, weights=values <= at, minlength=len(sizes)).astype(float), sizes, tail)
