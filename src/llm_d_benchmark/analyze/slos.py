"""Service level objectives, each judged on the confidence bound of its metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from ..config.blocks import Slo
from ..domain.result import (
    Absent,
    Distribution,
    Estimate,
    Measured,
    Metrics,
    Saturation,
    Scalar,
    SloResult,
    StageResult,
)
from . import quantiles

Verdict = Literal["pass", "fail", "inconclusive"]
_ORDER: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")


def judge(slos: Sequence[Slo], stages: Sequence[StageResult], sweeps: Sequence[Saturation]) -> list[SloResult]:
    """Every objective against every stage, the worst deciding; of a sweep, against the knee's stage only."""
    beside = {i for s in sweeps if s.knee_stage is not None for i in s.stages if i != s.knee_stage}
    stages = [s for s in stages if s.index not in beside]
    found = []
    for slo in slos:
        verdicts = [_judge_stage(slo, stage) for stage in stages]
        none = _result(slo, None, "inconclusive", Absent("no stage was measured"), Absent("no stage"), "no stage ran")
        found.append(max(verdicts, key=lambda r: _ORDER.index(r.verdict), default=none))
    return found


def score(results: Sequence[SloResult]) -> Scalar:
    """Weight of the objectives that passed over all weight; one without a weight counts 1."""
    if not results:
        return Absent("no SLOs are configured")
    weights = [1.0 if r.weight is None else r.weight for r in results]
    if not sum(weights):
        return Absent("every SLO has the weight 0")
    passed = sum(w for w, r in zip(weights, results, strict=True) if r.verdict == "pass")
    return Measured(passed / sum(weights), "fraction")


def _result(slo: Slo, stage: int | None, verdict: Verdict, value: Scalar, bound: Scalar, message: str) -> SloResult:
    return SloResult(slo.name, slo.metric.path, str(slo.target), slo.weight, verdict, value, bound, stage, message)


def _judge_stage(slo: Slo, stage: StageResult) -> SloResult:
    value, low, high = limits(stage.metrics, slo.metric.metric, slo.metric.statistic, stage)
    if isinstance(value, Absent):
        return _result(slo, stage.index, "inconclusive", value, value, f"cannot be judged: {value.absent}")
    if low is None or high is None:
        text = "too few requests for confidence limits; run longer"
        return _result(slo, stage.index, "inconclusive", value, Absent("too few requests"), text)
    far, near = (high, low) if slo.target.is_upper else (low, high)
    if slo.target.holds(far):
        return _result(slo, stage.index, "pass", value, Measured(far, value.unit), "met by the confidence bound")
    if not slo.target.holds(near):
        return _result(slo, stage.index, "fail", value, Measured(near, value.unit), "violated by both bounds")
    text = "the confidence limits lie on both sides of the target; run longer"
    return _result(slo, stage.index, "inconclusive", value, Measured(far, value.unit), text)


def limits(
    m: Metrics, metric: str, statistic: str | None, stage: StageResult
) -> tuple[Scalar, float | None, float | None]:
    """Value and two-sided 95 % limits of a metric; the limits are None where there are too few requests.

    Rates are totals of the window, known without sampling error: both limits are the value.
    """
    found = getattr(m, metric, None)
    if found is None:
        found = stage.resources.get(metric, Absent(f"{metric} was not measured in this run"))
    if isinstance(found, Absent):
        return found, None, None
    if isinstance(found, Distribution):
        return _of_distribution(found, statistic or "p50")
    finished = m.requests.succeeded + m.requests.failed
    if metric in ("error_rate", "goodput_fraction") and finished:
        return found, *clopper_pearson(round(found.value * finished), finished)
    return found, found.value, found.value


def clopper_pearson(hits: int, n: int) -> tuple[float, float]:
    """Exact two-sided 95 % limits of a share."""
    low = 0.0 if hits == 0 else quantiles.beta(0.025, hits, n - hits + 1)
    high = 1.0 if hits == n else quantiles.beta(0.975, hits + 1, n - hits)
    return low, high


def _of_distribution(d: Distribution, statistic: str) -> tuple[Scalar, float | None, float | None]:
    if statistic == "mean":
        if d.sd is None or d.limits == "block_bootstrap":
            # The spread of dependent values says nothing of their mean's error.
            return Measured(d.mean, d.unit), None, None
        half = float(quantiles.student(0.975, d.count - 1)) * d.sd / math.sqrt(d.count)
        return Measured(d.mean, d.unit), d.mean - half, d.mean + half
    if statistic in ("min", "max"):
        value = d.min if statistic == "min" else d.max
        if value is None:
            return Absent(f"the tool does not report the {statistic}"), None, None
        return Measured(value, d.unit), value, value
    p = d.percentiles[statistic]
    if isinstance(p, Absent):
        return p, None, None
    value_of = Measured(p.value, d.unit)
    return (value_of, p.low, p.high) if isinstance(p, Estimate) else (value_of, None, None)
