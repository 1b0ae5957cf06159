"""Every run of a study, and what a configuration's runs say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..config.aliases import parse_metric
from ..domain.result import Absent, Measured, Scalar
from ..domain.study import Objective, Purpose, Settings, StudyLimit, StudyMeasurement, TrialState
from .plan import Plan
from .space import key_of

MISSING = 10.0
"""Violation of a limit whose metric is missing: worse than any that was measured by up to ten times the limit."""
FAILED = 100.0


class Ledger:
    """Runs in the order they ran, and which methods proposed a configuration (by ``key_of``)."""

    def __init__(
        self, runs: Iterable[StudyMeasurement] = (), proposed: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.runs: list[StudyMeasurement] = []
        self.proposed: dict[str, list[str]] = {k: list(v) for k, v in (proposed or {}).items()}
        self._by_key: dict[str, list[StudyMeasurement]] = {}
        for run in runs:
            self.add(run)

    def add(self, run: StudyMeasurement) -> None:
        self.runs.append(run)
        if run.state != "interrupted":
            self._by_key.setdefault(key_of(run.settings), []).append(run)

    def of(self, settings: Settings | None, *purposes: Purpose) -> list[StudyMeasurement]:
        """Runs of one configuration, without those that were interrupted."""
        return [r for r in self._by_key.get(key_of(settings), []) if r.purpose in purposes]

    def propose(self, settings: Settings, method: str) -> None:
        methods = self.proposed.setdefault(key_of(settings), [])
        if method not in methods:
            methods.append(method)

    def searched(self) -> list[Settings]:
        """The configurations of the search, in the order they were first measured."""
        first = (next((r.settings for r in runs if r.purpose == "search"), None) for runs in self._by_key.values())
        return [settings for settings in first if settings is not None]

    def since_reference(self) -> int:
        """Runs since the reference was last measured, without those of other workers."""
        here = [r for r in self.runs if r.path or not r.run]
        for i, r in enumerate(reversed(here)):
            if r.purpose == "reference" and r.state != "interrupted":
                return i
        return len(here)


@dataclass(frozen=True, slots=True)
class Standing:
    """One configuration over its runs.

    Attributes:
        violations: by limit, relative to it: above 0 is broken.
    """

    settings: Settings
    runs: Sequence[StudyMeasurement]
    values: Mapping[str, Scalar]
    state: TrialState
    reason: str
    violations: Mapping[str, float]

    def value(self, metric: str) -> float | None:
        found = self.values.get(metric)
        return found.value if isinstance(found, Measured) else None

    def scores(self, objectives: Sequence[Objective]) -> list[float] | None:
        """The objectives, all to be maximised; None where one is missing."""
        found = [self.value(o.metric) for o in objectives]
        if any(v is None for v in found):
            return None
        return [v if o.direction == "maximize" else -v for v, o in zip(found, objectives, strict=True) if v is not None]


def standing(plan: Plan, settings: Settings, runs: Sequence[StudyMeasurement]) -> Standing:
    """What the runs of a configuration say together."""
    good = [r for r in runs if r.state == "ok"]
    values = {m: mean_of(good, m) for m in plan.metrics}
    bad = next((r for r in runs if r.state == "failed"), None)
    if bad is not None:
        return Standing(settings, runs, values, "failed", bad.reason, dict.fromkeys(_names(plan), FAILED))
    violations = {c.name: violation(c, values[c.metric]) for c in plan.limits}
    broken = [
        f"{c.name} ({c.metric} {c.text}): {_said(values[c.metric])}" for c in plan.limits if violations[c.name] > 0
    ]
    for o in plan.objectives:
        found = values[o.metric]
        if isinstance(found, Absent):
            violations[o.metric] = MISSING
            broken.append(f"{o.metric} is missing: {found.absent}")
    return Standing(settings, runs, values, "infeasible" if broken else "feasible", "; ".join(broken), violations)


def _names(plan: Plan) -> list[str]:
    return [c.name for c in plan.limits] or ["failed"]


def _said(found: Scalar) -> str:
    return f"missing, {found.absent}" if isinstance(found, Absent) else f"{found.value:.4g}"


def mean_of(runs: Iterable[StudyMeasurement], metric: str) -> Scalar:
    """Over runs; geometric where every value is above 0. One run without it makes it absent."""
    values = []
    unit = parse_metric(metric).unit
    for r in runs:
        if metric not in r.values:
            return Absent(r.absent.get(metric, f"{metric} was not measured"))
        values.append(r.values[metric])
    if not values:
        return Absent("no run succeeded")
    if all(v > 0 for v in values):
        return Measured(math.exp(math.fsum(map(math.log, values)) / len(values)), unit)
    return Measured(math.fsum(values) / len(values), unit)


def violation(limit: StudyLimit, value: Scalar) -> float:
    """How far beyond its limit a value is, relative to the limit; at most 0 where it is kept."""
    if isinstance(value, Absent):
        return MISSING
    beyond = value.value - limit.value if limit.is_upper else limit.value - value.value
    return min(beyond / abs(limit.value) if limit.value else beyond, MISSING)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """At least as good on everything and better on something; all to be maximised."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def front(plan: Plan, standings: Sequence[Standing]) -> list[Standing]:
    """The feasible ones that no other feasible one dominates, best first by the first objective."""
    scored = [(s, s.scores(plan.objectives)) for s in standings if s.state == "feasible"]
    known = [(s, v) for s, v in scored if v is not None]
    best = [(s, v) for s, v in known if not any(dominates(w, v) for _, w in known)]
    return [s for s, _ in sorted(best, key=lambda item: -item[1][0])]
