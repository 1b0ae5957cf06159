"""How much slower the runs of one arm are than those of another, with limits.

Every function takes runs along the last axis, so that a simulation of a thousand experiments is one call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
RESAMPLES = 2000
SEED = 20_240_601
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class LogRatio:
    """A slowdown on the log scale: ``estimate``, its standard error and degrees of freedom, one of each experiment."""

    estimate: FloatArray
    se: FloatArray
    df: FloatArray

    def upper(self, alpha: float = ALPHA) -> FloatArray:
        """One-sided upper bound at the level 1 - ``alpha``."""
        found: FloatArray = self.estimate + _t(1 - alpha, self.df) * self.se
        return found

    def lower(self, alpha: float = ALPHA) -> FloatArray:
        """One-sided lower bound at the level 1 - ``alpha``."""
        found: FloatArray = self.estimate - _t(1 - alpha, self.df) * self.se
        return found

    def p_over(self, limit: float) -> FloatArray:
        """p value of "the slowdown is at most ``limit``" (log scale); small speaks for a regression."""
        gap = self.estimate - limit
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.se > 0, gap / self.se, np.where(gap > 0, np.inf, -np.inf))
        found: FloatArray = special.stdtr(self.df, -t)
        return found


def _t(q: float, df: FloatArray) -> FloatArray:
    found: FloatArray = special.stdtrit(df, q)
    return found


def slowness(values: FloatArray | Sequence[float], lower_is_better: bool) -> FloatArray:
    """Log of what a run takes: of a latency itself, of a rate its inverse. Greater is worse.

    Raises:
        ValueError: a value is not above 0, so that no ratio is defined.
    """
    array = np.asarray(values, float)
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError("a ratio needs values above 0")
    logs: FloatArray = np.log(array)
    return logs if lower_is_better else -logs


def welch(baseline: FloatArray, test: FloatArray) -> LogRatio:
    """Test over baseline of log values from independent runs (..., n) and (..., m), n and m at least 2: Welch's t."""
    n, m = baseline.shape[-1], test.shape[-1]
    a, b = baseline.var(-1, ddof=1) / n, test.var(-1, ddof=1) / m
    with np.errstate(divide="ignore", invalid="ignore"):
        df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    return LogRatio(test.mean(-1) - baseline.mean(-1), np.sqrt(a + b), np.where(np.isfinite(df), df, float(n + m - 2)))


def paired(baseline: FloatArray, test: FloatArray) -> LogRatio:
    """Test over baseline of log values (..., n) where run i of both arms ran one after the other: Student's t of the
    differences, which drift of the machine between pairs does not enter. n is at least 2."""
    d = test - baseline
    n = d.shape[-1]
    return LogRatio(d.mean(-1), d.std(-1, ddof=1) / math.sqrt(n), np.full(d.shape[:-1], float(n - 1)))


def prediction(baseline: FloatArray, test: FloatArray) -> LogRatio:
    """One test run (..., 1) against several of the baseline (..., n), taking it to vary as they do: Student's t."""
    n = baseline.shape[-1]
    se = baseline.std(-1, ddof=1) * math.sqrt(1 + 1 / n)
    return LogRatio(test[..., 0] - baseline.mean(-1), se, np.full(se.shape, float(n - 1)))


def log_ratio(baseline: FloatArray, test: FloatArray, *, blocks: bool) -> LogRatio:
    """``paired`` where the runs are in blocks, ``prediction`` of a single test run, else ``welch``."""
    if blocks:
        return paired(baseline, test)
    return prediction(baseline, test) if test.shape[-1] == 1 else welch(baseline, test)


def bca(baseline: FloatArray, test: FloatArray, *, blocks: bool, alpha: float = ALPHA) -> tuple[float, float] | None:
    """Two-sided bias-corrected and accelerated bootstrap limits of the log-ratio of one experiment (1-d arrays).

    Returns:
        None where the values do not vary, or there is a single test run.
    """
    if len(test) < 2:
        return None
    rng = np.random.default_rng(SEED)
    if blocks:
        d = test - baseline
        observed = float(d.mean())
        draws = d[rng.integers(len(d), size=(RESAMPLES, len(d)))].mean(-1)
        influence = d - observed
    else:
        observed = float(test.mean() - baseline.mean())
        draws = test[rng.integers(len(test), size=(RESAMPLES, len(test)))].mean(-1)
        draws = draws - baseline[rng.integers(len(baseline), size=(RESAMPLES, len(baseline)))].mean(-1)
        influence = np.concatenate([(test - test.mean()) / len(test), -(baseline - baseline.mean()) / len(baseline)])
    spread = float((influence**2).sum())
    if spread <= 0:
        return None
    # Of a mean the jackknife's influence is the deviation itself.
    acceleration = float((influence**3).sum()) / (6 * spread**1.5)
    share = (float((draws < observed).sum()) + 0.5 * float((draws == observed).sum())) / RESAMPLES
    bias = float(special.ndtri(min(max(share, 1 / RESAMPLES), 1 - 1 / RESAMPLES)))
    levels = []
    for q in (alpha / 2, 1 - alpha / 2):
        z = bias + float(special.ndtri(q))
        levels.append(float(special.ndtr(bias + z / (1 - acceleration * z))))
    low, high = np.quantile(draws, levels)
    return float(low), float(high)


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number after Holm, in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = highest
    return adjusted
