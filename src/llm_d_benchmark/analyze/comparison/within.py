"""Limits from within one run: how sure its own numbers are. They say nothing of what another run would give.

Successive requests depend on each other (a queue makes one wait for the one before), so the unit is a block of
successive requests, or of time for rates. Percentiles have such limits already (``analyze.percentiles``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...domain.comparison import Effect
from ...domain.latencies import per_request
from ...domain.result import Estimate, Metrics
from .. import quantiles
from ..gather import StageData
from ..metrics import view
from ..percentiles import autocorrelated
from .effects import FloatArray

BLOCKS = 20
LEAST_BLOCKS = 8
MEANS = ("ttft", "tpot", "e2e", "ntpot", "ttft_scheduled", "e2e_scheduled")

Limits = tuple[float, float]


def mean_limits(values: FloatArray) -> Limits | None:
    """Two-sided 95 % limits of the mean of values in the order of sending; None of too few.

    Independent values: Student's t. Dependent ones: Student's t of the means of blocks of successive values.
    """
    if autocorrelated(values):
        blocks = min(BLOCKS, len(values) // 20)
        if blocks < LEAST_BLOCKS:
            return None
        return _t_limits(np.array([part.mean() for part in np.array_split(values, blocks)]))
    return _t_limits(values) if len(values) >= LEAST_BLOCKS else None


def rate_limits(times: FloatArray, amounts: FloatArray, seconds: float) -> Limits | None:
    """Two-sided 95 % limits of an amount per second, from equal pieces of the window.

    Args:
        times: when each amount came, in seconds after the window's start.
    """
    inside = (times >= 0) & (times < seconds)
    blocks = min(BLOCKS, int(inside.sum()) // 5)
    if seconds <= 0 or blocks < LEAST_BLOCKS:
        return None
    piece = (times[inside] / seconds * blocks).astype(np.int64)
    return _t_limits(np.bincount(piece, amounts[inside], blocks) * blocks / seconds)


def _t_limits(values: FloatArray) -> Limits | None:
    n = len(values)
    half = quantiles.student(0.975, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def ratio_effect(
    baseline: float, baseline_limits: Limits, test: float, test_limits: Limits, *, lower_is_better: bool
) -> Effect | None:
    """The slowdown between two single runs from the limits of each (MOVER); None where a ratio has no sense.

    The limits of both are recovered on the log scale and joined as independent errors.
    """
    numbers = (baseline, *baseline_limits, test, *test_limits)
    if not all(math.isfinite(n) and n > 0 for n in numbers):
        return None
    a, a_low, a_high, b, b_low, b_high = (math.log(n) for n in numbers)
    if not lower_is_better:
        a, a_low, a_high, b, b_low, b_high = -a, -a_high, -a_low, -b, -b_high, -b_low
    estimate = b - a
    below, above = math.hypot(b - b_low, a_high - a), math.hypot(b_high - b, a - a_low)
    one_sided = quantiles.normal(0.95) / quantiles.normal(0.975)
    return Effect(
        slowdown=math.expm1(estimate),
        low=math.expm1(estimate - below),
        high=math.expm1(estimate + above),
        lower=math.expm1(estimate - one_sided * below),
        upper=math.expm1(estimate + one_sided * above),
        method="within_run",
    )


def stage_limits(data: StageData) -> dict[str, Limits]:
    """Limits of the means and rates of one stage, by metric path."""
    found: dict[str, Limits | None] = {}
    v = view(data, {})
    for name, values in per_request(v.ok).items():
        finite = values[np.isfinite(values)]
        if name in MEANS and len(finite):
            found[f"{name}.mean"] = mean_limits(finite)
    w, table = data.window, data.table
    done = table.status("ok") & table.known("end")
    ends = (table["end"][done] - w.start) / 1e9
    ones, tokens = np.ones(len(ends)), np.where(table.known("output_tokens"), table["output_tokens"], 0)[done]
    found["requests_per_second"] = rate_limits(ends, ones, w.seconds)
    if tokens.any():
        found["output_tokens_per_second"] = rate_limits(ends, tokens.astype(float), w.seconds)
    return {name: limits for name, limits in found.items() if limits is not None}


def known_limits(metrics: Metrics, path: str, own: Mapping[str, Limits]) -> Limits | None:
    """Limits of one number of a run: of a percentile those of the result, else ``own`` (``stage_limits``)."""
    name, _, statistic = path.partition(".")
    percentiles = getattr(getattr(metrics, name, None), "percentiles", {})
    estimate = percentiles.get(statistic)
    return (estimate.low, estimate.high) if isinstance(estimate, Estimate) else own.get(path)
