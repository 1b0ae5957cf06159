"""What each stage measured of the metrics that load generators are compared on, with limits at any confidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..domain.latencies import per_request
from ..domain.records import MISSING
from ..domain.result import PERCENTILES, Absent, Distribution, Measured, Metrics, Scalar, StageResult
from . import quantiles
from .gather import StageData
from .metrics import View, metrics, view
from .percentiles import BLOCKS, Ecdf, FloatArray, autocorrelated, beyond, block_effect

Limits = Callable[[float], tuple[float, float] | None]
_LEVELS = dict(PERCENTILES)
_LEAST_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric that generators are compared on.

    Attributes:
        name: as in result.json, a percentile behind a dot.
        margin: a smaller difference is of no practical matter: a ratio, or of fractions a difference.
        floor: seconds; no client resolves less, so the margin is at least that much.
    """

    name: str
    unit: str
    margin: float
    relative: bool = True
    floor: float = 0.0


LATENCY_FLOOR_S = 0.0002
_LATENCIES = ("ttft.p50", "ttft.p95", "tpot.p50", "itl.p50", "itl.p95", "e2e.p50", "e2e.p95")
COMPARED: tuple[Compared, ...] = (
    *(Compared(name, "s", 0.05, floor=LATENCY_FLOOR_S) for name in _LATENCIES),
    Compared("output_tokens_per_second", "tokens/s", 0.05),
    Compared("requests_per_second", "requests/s", 0.05),
    Compared("error_rate", "fraction", 0.01, relative=False),
    Compared("input_length", "tokens", 0.02),
    Compared("output_length", "tokens", 0.02),
)


@dataclass(frozen=True, slots=True)
class Estimator:
    """A value, and limits that each miss it with probability ``tail``: None where there are too few data."""

    value: Scalar
    limits: Limits


@dataclass(frozen=True)
class Measurement:
    """One stage as an agreement sees it."""

    data: StageData
    result: StageResult

    @cached_property
    def view(self) -> View | None:
        """Its requests, made only where they are looked at; None where a tool kept none."""
        return view(self.data, {}) if len(self.data.table) else None

    @property
    def metrics(self) -> Metrics:
        return self.result.metrics

    @cached_property
    def settled(self) -> Metrics | None:
        """Its metrics without the part of the window that was not steady; None where it was, or nobody can tell."""
        judged = self.result.steady_state
        if judged.steady is not False or self.view is None:
            return None
        sent = self.view.ok["sent"]
        start = int(sent[round(len(sent) * (judged.truncation or 0.5))])
        window = replace(self.data.window, start=start)
        return metrics(view(replace(self.data, window=window), {}))


def estimator(m: Measurement, metric: Compared) -> Estimator:
    """The metric of one stage, where it was measured."""
    base, _, level = metric.name.partition(".")
    value = value_of(m.metrics, metric.name)
    if m.view is None or isinstance(value, Absent):
        return Estimator(value, _none)
    v = m.view
    if base == "itl":
        return Estimator(value, lambda tail: v.gaps.limits(_LEVELS[level], tail))
    if level:
        found = per_request(v.ok)[base]
        return Estimator(value, _quantile(found[np.isfinite(found)], _LEVELS[level]))
    if base == "error_rate":
        return Estimator(value, _share(m))
    if base in ("input_length", "output_length"):
        return Estimator(value, _mean(v, base.removesuffix("_length")))
    return Estimator(value, _rate(v, value.value, tokens=base == "output_tokens_per_second"))


def _none(_: float) -> None:
    return None


def value_of(metrics: Metrics, name: str) -> Scalar:
    """A metric by its name of :data:`COMPARED`."""
    base, _, level = name.partition(".")
    found = getattr(metrics, base)
    if base in ("input_length", "output_length"):
        achieved: Scalar = found.achieved
        return achieved
    if isinstance(found, Distribution):
        at = found.at(level)
        return Absent("the tool does not report it") if at is None else Measured(at, found.unit)
    scalar: Scalar = found
    return scalar


def _quantile(values: FloatArray, level: float) -> Limits:
    """Limits of a percentile of one value a request, in the order of sending."""
    ecdf = Ecdf.of(values)
    dependent = autocorrelated(values)

    def limits(tail: float) -> tuple[float, float] | None:
        effect = block_effect(values, ecdf.quantile(level), tail) if dependent else 1.0
        return beyond(ecdf, level, effect, tail)

    return limits


def _share(m: Measurement) -> Limits:
    """Exact limits of the share of failures."""
    r = m.metrics.requests
    hits, n = r.failed, r.succeeded + r.failed

    def limits(tail: float) -> tuple[float, float] | None:
        if not n:
            return None
        low = 0.0 if hits == 0 else quantiles.beta(tail, hits, n - hits + 1)
        high = 1.0 if hits == n else quantiles.beta(1 - tail, hits + 1, n - hits)
        return low, high

    return limits


def _mean(v: View, side: str) -> Limits:
    """Limits of a mean length, by Student's t; lengths are drawn independently."""
    tokens = v.ok[f"{side}_tokens"]
    known = tokens[tokens != MISSING].astype(float)

    def limits(tail: float) -> tuple[float, float] | None:
        n = len(known)
        if n < 2:
            return None
        half = quantiles.student(1 - tail, n - 1) * float(known.std(ddof=1)) / math.sqrt(n)
        return float(known.mean()) - half, float(known.mean()) + half

    return limits


def _rate(v: View, value: float, *, tokens: bool) -> Limits:
    """Limits of a rate from its variance over blocks of time, at least one answer of every user: so much of it is
    chance at the ends of the window, however regular it was within."""
    w, t = v.window, v.table
    done = t.status("ok") & t.within("end", w.start, w.end)
    amount = np.where(t.known("output_tokens"), t["output_tokens"], t.chunks)[done] if tokens else np.ones(done.sum())
    per_block = max(5, 2 * (w.concurrency or 0))
    blocks = min(BLOCKS, int(done.sum()) // per_block)

    def limits(tail: float) -> tuple[float, float] | None:
        if blocks < _LEAST_BLOCKS or w.seconds <= 0:
            return None
        at = ((t["end"][done] - w.start) / (w.end - w.start) * blocks).astype(np.int64)
        sums = np.bincount(np.minimum(at, blocks - 1), amount, blocks) / (w.seconds / blocks)
        half = quantiles.student(1 - tail, blocks - 1) * float(sums.std(ddof=1)) / math.sqrt(blocks)
        half = max(half, (w.concurrency or 1) * float(amount.mean()) / w.seconds)
        return max(0.0, value - half), value + half

    return limits
