"""PASS, FAIL or INCONCLUSIVE: of one metric, and of several together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...domain.comparison import VERDICTS, Effect, Verdict
from . import power
from .effects import ALPHA, FloatArray, LogRatio, bca, log_ratio

BoolArray = npt.NDArray[np.bool_]


def judge(ratio: LogRatio, limit: float, p: FloatArray, *, alpha: float = ALPHA) -> tuple[BoolArray, BoolArray]:
    """Which experiments pass and which fail (arrays of bool).

    Args:
        limit: the most the slowdown may be (log scale).
        p: p values of "the slowdown is at most the limit", adjusted where several metrics are judged together.
    """
    return ratio.upper(alpha) < limit, p < alpha


@dataclass(frozen=True, slots=True)
class Judged:
    """The effect of one metric, bounded at the level 1 - ``alpha``; ``p`` as it is, not adjusted."""

    effect: Effect
    ratio: LogRatio
    p: float
    alpha: float


def measure(baseline: FloatArray, test: FloatArray, limit: float, *, blocks: bool, alpha: float = ALPHA) -> Judged:
    """The slowdown between two arms of one metric from log values of runs (1-d, at least two each).

    Args:
        limit: log scale.
    """
    ratio = log_ratio(baseline, test, blocks=blocks)
    estimate = float(ratio.estimate)
    boot = bca(baseline, test, blocks=blocks)
    sd = _sd(baseline, test, blocks=blocks)
    effect = Effect(
        slowdown=math.expm1(estimate),
        low=math.expm1(float(ratio.lower(ALPHA / 2))),
        high=math.expm1(float(ratio.upper(ALPHA / 2))),
        lower=math.expm1(float(ratio.lower(alpha))),
        upper=math.expm1(float(ratio.upper(alpha))),
        method="paired" if blocks else "prediction" if len(test) == 1 else "welch",
        sd=sd,
        degrees=float(ratio.df),
        level=1 - alpha,
        bca_low=None if boot is None else math.expm1(boot[0]),
        bca_high=None if boot is None else math.expm1(boot[1]),
    )
    return Judged(effect, ratio, float(ratio.p_over(limit)), alpha)


def _sd(baseline: FloatArray, test: FloatArray, *, blocks: bool) -> float:
    if blocks:
        return float((test - baseline).std(ddof=1))
    if len(test) == 1:
        return float(baseline.std(ddof=1))
    return math.sqrt((float(baseline.var(ddof=1)) + float(test.var(ddof=1))) / 2)


def verdict_of(judged: Judged, limit: float, adjusted_p: float) -> Verdict:
    """PASS if the upper bound is under the limit, FAIL if the lower one is over it (``adjusted_p``)."""
    if float(judged.ratio.upper(judged.alpha)) < limit:
        return "pass"
    return "fail" if adjusted_p < judged.alpha else "inconclusive"


def further_runs(judged: Judged, runs: int, limit: float) -> int | None:
    """Runs of each arm beyond the ``runs`` there are until the verdict is likely (90 %) clear, were the slowdown as
    estimated; None where more than a thousand would be needed."""
    gap = abs(float(judged.ratio.estimate) - limit)
    blocks = judged.effect.method == "paired"
    needed = power.runs_needed(judged.effect.sd or 0.0, gap, blocks=blocks, alpha=judged.alpha)
    return None if needed is None else max(1, needed - runs)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for all: any FAIL fails, PASS needs every one, nothing judged is inconclusive."""
    return max(verdicts, key=VERDICTS.index, default="inconclusive")
