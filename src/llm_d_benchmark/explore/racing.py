"""Which configurations are not worth a further run: judged by confidence bounds from the noise seen so far. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..analyze import quantiles
from ..domain.study import StudyMeasurement
from .ledger import Ledger, Standing
from .plan import Plan
from .space import key_of

LEVEL = 0.975


def pooled_noise(runs: Sequence[StudyMeasurement], metric: str) -> tuple[float, int]:
    """Standard deviation between runs of one configuration (of logarithms where all values are above 0), pooled over
    configurations, and its degrees of freedom. No configuration with two runs: (nan, 0)."""
    groups: dict[str, list[float]] = {}
    for r in runs:
        if r.state == "ok" and metric in r.values:
            groups.setdefault(key_of(r.settings), []).append(r.values[metric])
    squares, degrees = 0.0, 0
    positive = all(v > 0 for values in groups.values() for v in values)
    for values in groups.values():
        scaled = [math.log(v) for v in values] if positive else values
        mean = math.fsum(scaled) / len(scaled)
        squares += math.fsum((v - mean) ** 2 for v in scaled)
        degrees += len(scaled) - 1
    return (math.sqrt(squares / degrees), degrees) if degrees else (math.nan, 0)


def hopeless(plan: Plan, ledger: Ledger, one: Standing, others: Sequence[Standing]) -> str:
    """Why a configuration needs no further run; empty where it may still turn out among the best."""
    if one.state == "failed":
        return "a run failed"
    for limit in plan.limits:
        value = one.value(limit.metric)
        if value is None:
            return f"{limit.metric} is missing"
        gap = _distance(value, limit.value)
        if one.violations[limit.name] > 0 and gap > _margin(ledger, limit.metric, len(one.runs), None):
            return f"{limit.name} is broken beyond the noise"
    for other in others:
        if other.state == "feasible" and key_of(other.settings) != key_of(one.settings) and _beats(
            plan, ledger, other, one
        ):  # fmt: skip
            return "another configuration is better beyond the noise"
    return ""


def _beats(plan: Plan, ledger: Ledger, other: Standing, one: Standing) -> bool:
    theirs, ours = other.scores(plan.objectives), one.scores(plan.objectives)
    if theirs is None or ours is None:
        return ours is None
    return all(
        a > b and _distance(abs(a), abs(b)) > _margin(ledger, o.metric, len(one.runs), len(other.runs))
        for a, b, o in zip(theirs, ours, plan.objectives, strict=True)
    )


def _distance(one: float, other: float) -> float:
    if one > 0 and other > 0:
        return abs(math.log(one / other))
    return abs(one - other)


def _margin(ledger: Ledger, metric: str, runs: int, others: int | None) -> float:
    sd, degrees = pooled_noise(ledger.runs, metric)
    if not degrees:
        return math.inf
    share = 1 / runs + (1 / others if others else 0)
    return float(quantiles.student(LEVEL, degrees)) * sd * math.sqrt(share)
