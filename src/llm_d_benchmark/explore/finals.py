"""The last comparison: fresh runs of the best and of the present configuration, round by round. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..analyze import quantiles
from ..domain.study import Finalist, Gain, Objective, Settings, StudyMeasurement
from .ledger import Ledger, Standing, front, standing
from .plan import Plan
from .space import key_of

PRESENT = "the present configuration"


def judge_finals(plan: Plan, ledger: Ledger, standings: Sequence[Standing]) -> list[Finalist]:
    """The finalists, best first (by the first objective), the present configuration among them.

    Limits of the gains are simultaneous over the finalists, as the best of them is chosen by the same runs.
    """
    fields: dict[str, Settings | None] = {}
    for r in ledger.runs:
        if r.purpose == "final" and r.state != "interrupted":
            fields.setdefault(key_of(r.settings), r.settings)
    reference = ledger.of(None, "final")
    level = 1 - 0.05 / max(1, len(fields) - 1)
    found = []
    for settings in fields.values():
        runs = ledger.of(settings, "final")
        stand = standing(plan, settings or {}, _judged(settings, runs))
        gains = [] if settings is None else gains_of(plan.objectives, runs, reference, PRESENT, level)
        found.append(
            Finalist(
                trial=None if settings is None else trial_of(plan, settings, standings),
                settings=settings or {},
                runs=[r.run for r in runs],
                values=stand.values,
                feasible=stand.state == "feasible",
                reason=stand.reason,
                gains=gains,
            )
        )
    first = plan.objectives[0]
    return sorted(found, key=lambda f: (not f.feasible, -_score(f, first)))


def _judged(settings: Settings | None, runs: Sequence[StudyMeasurement]) -> Sequence[StudyMeasurement]:
    """Without the runs that failed: of the present configuration, which is known to work, where any succeeded; of
    another where most did. A busy client is then likelier than a crash."""
    good = [r for r in runs if r.state == "ok"]
    enough = bool(good) if settings is None else 2 * len(good) > len(runs)
    return good if enough else runs


def trial_of(plan: Plan, settings: Settings, standings: Sequence[Standing]) -> int:
    """Number of the best configuration of the search with these settings."""
    same = [s for s in standings if settings.items() <= s.settings.items()]
    best = (front(plan, same) or same)[0]
    return standings.index(best) + 1


def _score(finalist: Finalist, objective: Objective) -> float:
    value = getattr(finalist.values[objective.metric], "value", None)
    if value is None:
        return -math.inf
    return float(value) if objective.direction == "maximize" else -float(value)


def gains_of(
    objectives: Sequence[Objective],
    runs: Sequence[StudyMeasurement],
    against: Sequence[StudyMeasurement],
    name: str,
    level: float = 0.95,
) -> list[Gain]:
    """How much better on each objective, from the rounds that both have: Student's t on log-ratios."""
    found = []
    for o in objectives:
        ours, theirs = (
            {r.repeat: r.values[o.metric] for r in side if r.state == "ok" and r.values.get(o.metric, 0.0) > 0}
            for side in (runs, against)
        )
        rounds = sorted(ours.keys() & theirs.keys())
        if len(rounds) < 2:
            continue
        ratios = np.array([math.log(ours[r] / theirs[r]) for r in rounds])
        better = ratios if o.direction == "maximize" else -ratios
        mean = float(better.mean())
        half = float(quantiles.student(0.5 + level / 2, len(rounds) - 1) * better.std(ddof=1) / math.sqrt(len(rounds)))
        gain, low, high = (
            math.expm1(v) if o.direction == "maximize" else -math.expm1(-v) for v in (mean, mean - half, mean + half)
        )
        found.append(Gain(o.metric, name, gain, low, high, len(rounds)))
    return found
