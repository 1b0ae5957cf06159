"""Whether load generators that were asked for the same load measured the same, by how much they differ, and why.

Every difference has simultaneous limits (Bonferroni over all pairs and metrics of a group), made from the limits of
both sides (MOVER, Zou and Donner 2008; of ratios on the log scale). docs/agreement.md says what that promises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from ..config.model import LoadGeneratorSpec
from ..domain.result import Agreement, Difference, Measured, MetricAgreement, Reading, Reason, Scalar, StageResult
from .causes import Pair, causes
from .gather import StageData
from .own_figures import own_figures
from .readings import COMPARED, Compared, Estimator, Measurement, estimator

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
Verdict = Literal["agree", "differ", "inconclusive"]


@dataclass(frozen=True, slots=True)
class _Member:
    """A stage of a group; ``turn`` counts the stages of its generator with this load."""

    measurement: Measurement
    generator: str
    turn: int

    @property
    def stage(self) -> int:
        return self.measurement.result.index


def agreement(
    data: Sequence[StageData],
    stages: Sequence[StageResult],
    generators: Sequence[LoadGeneratorSpec] = (),
    reasons: Sequence[Reason] = (),
) -> list[Agreement]:
    """Groups of stages with the same load by different generators; stages alone whose tool says otherwise than we.

    Args:
        generators: as configured; one that is listed again, with the same configuration, is the same one.
        reasons: why the run is not valid, if it is not: they may be why a stage differs.
    """
    measured = [Measurement(d, s) for d, s in zip(data, stages, strict=True)]
    groups = _groups(measured, generators)
    found = [_compare(members, reasons) for members in groups]
    grouped = {m.stage for members in groups for m in members}
    for m in measured:
        own = [] if m.result.index in grouped else own_figures(m)
        if own:
            found.append(Agreement(m.result.label, [m.result.index], CONFIDENCE, [], own))
    return sorted(found, key=lambda a: min(a.stages))


def _groups(measured: Sequence[Measurement], generators: Sequence[LoadGeneratorSpec]) -> list[list[_Member]]:
    """Stages by load, where at least two generators ran it."""
    by_load: dict[str, list[_Member]] = {}
    turns: dict[tuple[str, str], int] = {}
    for m in measured:
        load = load_key(m)
        if load is None:
            continue
        generator = _generator(m, generators)
        turns[load, generator] = turns.get((load, generator), -1) + 1
        by_load.setdefault(load, []).append(_Member(m, generator, turns[load, generator]))
    return [members for members in by_load.values() if len({m.generator for m in members}) > 1]


def _generator(m: Measurement, generators: Sequence[LoadGeneratorSpec]) -> str:
    """Which generator it is: the first that is listed with this type and configuration."""
    position, name = m.data.window.position, m.result.load_generator
    if position is not None and position < len(generators):
        position = next(i for i, g in enumerate(generators) if g == generators[position])
    return f"{position}:{name}"


def load_key(m: Measurement) -> str | None:
    """What makes two loads the same: rate, cap or users, and arrivals; None where the load is not known."""
    w = m.data.window
    if w.rate is None and w.concurrency is None:
        return None
    arrival = w.load.get("arrival")
    kind = dict(arrival) if isinstance(arrival, Mapping) and w.open_loop else {}
    if kind.get("type") != "gamma":
        kind = {k: v for k, v in kind.items() if k == "type"}
    return json.dumps([w.rate, w.concurrency, kind], sort_keys=True)


def _compare(members: Sequence[_Member], reasons: Sequence[Reason]) -> Agreement:
    pairs = [(a, b) for a, b in combinations(members, 2) if a.generator != b.generator and a.turn == b.turn]
    repeats = [(a, b) for a, b in combinations(members, 2) if a.generator == b.generator and b.turn == a.turn + 1]
    tail = _TAIL / max(1, len(pairs) * len(COMPARED))
    metrics = [_metric(metric, members, pairs, repeats, tail) for metric in COMPARED]
    return Agreement(
        load=members[0].measurement.result.label,
        stages=[m.stage for m in members],
        confidence=CONFIDENCE,
        metrics=_explained(metrics, members, reasons),
        own_figures=[f for m in members for f in own_figures(m.measurement)],
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    """One metric of a group; ``unsteady``: differences of a generator from itself."""

    metric: Compared
    found: MetricAgreement
    unsteady: Sequence[Difference]


def _metric(
    metric: Compared,
    members: Sequence[_Member],
    pairs: Sequence[tuple[_Member, _Member]],
    repeats: Sequence[tuple[_Member, _Member]],
    tail: float,
) -> _Compared:
    known = {m.stage: _Known.of(estimator(m.measurement, metric), tail) for m in members}

    def differences(of: Sequence[tuple[_Member, _Member]]) -> list[Difference]:
        found = [_difference(metric, a.stage, b.stage, known[a.stage], known[b.stage]) for a, b in of]
        return [d for d in found if d is not None]

    readings = [Reading(stage, k.value, *(k.usual or (None, None))) for stage, k in known.items()]
    own = differences(repeats)
    shown = MetricAgreement(metric.name, metric.unit, metric.margin, metric.relative, readings, differences(pairs))
    return _Compared(metric, shown, [d for d in own if d.verdict == "differ"])


@dataclass(frozen=True, slots=True)
class _Known:
    """A value with its limits: at 95 % of its own, and simultaneous with all others."""

    value: Scalar
    usual: tuple[float, float] | None
    wide: tuple[float, float] | None

    @staticmethod
    def of(estimator: Estimator, tail: float) -> _Known:
        return _Known(estimator.value, estimator.limits(_TAIL), estimator.limits(tail))


def _difference(metric: Compared, first: int, second: int, a: _Known, b: _Known) -> Difference | None:
    """None where a side was not measured, or is 0 and there is no ratio."""
    if not (isinstance(a.value, Measured) and isinstance(b.value, Measured)):
        return None
    x, y = a.value.value, b.value.value
    if metric.relative and (x <= 0 or y <= 0):
        return None
    margin = max(metric.margin, metric.floor / min(x, y)) if metric.relative else metric.margin
    amount = y / x - 1 if metric.relative else y - x
    if a.wide is None or b.wide is None:
        return Difference(first, second, amount, None, None, "inconclusive")
    low, high = mover(x, a.wide, y, b.wide, relative=metric.relative)
    return Difference(first, second, amount, low, high, judge(amount, low, high, margin))


def mover(
    x: float, x_limits: tuple[float, float], y: float, y_limits: tuple[float, float], *, relative: bool
) -> tuple[float, float]:
    """Limits of ``y - x``, or of ``y / x - 1``, of independent estimates from the limits of each."""
    scale = _log if relative else float
    a, (a_low, a_high) = scale(x), (scale(v) for v in x_limits)
    b, (b_low, b_high) = scale(y), (scale(v) for v in y_limits)
    low = b - a - math.hypot(b - b_low, a_high - a)
    high = b - a + math.hypot(b_high - b, a - a_low)
    return (math.expm1(low), math.expm1(min(high, 700.0))) if relative else (low, high)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def judge(amount: float, low: float, high: float, margin: float) -> Verdict:
    """differ: surely not 0, and beyond the margin; agree: surely within the margin."""
    if abs(amount) > margin and not low <= 0 <= high:
        return "differ"
    return "agree" if -margin <= low and high <= margin else "inconclusive"


def _explained(
    metrics: Sequence[_Compared], members: Sequence[_Member], reasons: Sequence[Reason]
) -> list[MetricAgreement]:
    """The same with the causes of each difference that the data show."""
    by_stage = {m.stage: m.measurement for m in members}
    explained = []
    for one in metrics:
        found = []
        for d in one.found.differences:
            sides = (by_stage[d.first], by_stage[d.second])
            pair = Pair(*sides, one.metric, d.difference, one.unsteady, reasons, list(by_stage.values()))
            found.append(replace(d, whys=causes(pair)) if d.verdict == "differ" else d)
        explained.append(replace(one.found, differences=found))
    return explained
