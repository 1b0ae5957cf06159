"""From the runs of a study to its result. Pure but for the look-up of runs' diagnoses, which its caller gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..analyze import quantiles
from ..config.target import TargetConfig
from ..domain.result import RunResult
from ..domain.study import Drift, MethodOutcome, StudyResult, Trial
from ..domain.version import VERSION
from .advice import Evidence, recommend
from .finals import judge_finals
from .flags import Diagnosed, diagnosed, hypotheses
from .ledger import Ledger, Standing, front, mean_of, standing
from .parsimony import effects_of, idle
from .plan import ADAPTIVE, Plan
from .racing import hopeless
from .search import describe
from .space import key_of

DRIFT_RUNS = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What the study's folder knows beside its runs. ``cut``: what the time budget cut off; empty where it did not."""

    study_id: str
    name: str
    status: Literal["done", "interrupted", "failed"]
    started: int
    ended: int
    target: TargetConfig
    cut: str = ""


def conclude(
    plan: Plan, ledger: Ledger, facts: Facts, result_of: Callable[[str], RunResult | None] = lambda _: None
) -> StudyResult:
    """Everything a study shows.

    Args:
        result_of: the result of a run by its id, for its diagnosis; None where it is not there.
    """
    standings = [standing(plan, s, ledger.of(s, "search")) for s in ledger.searched()]
    best = {key_of(s.settings) for s in front(plan, standings)}
    main, crossed, notes = effects_of(plan, ledger)
    finals = judge_finals(plan, ledger, standings)
    drift = _drift(plan, ledger)
    recommendation = recommend(
        Evidence(plan, standings, finals, main, crossed, idle(plan, ledger, main, crossed), ledger)
    )
    claims = _diagnosed(ledger, recommendation.evidence, result_of)
    return StudyResult(
        study_id=facts.study_id,
        name=facts.name,
        status=facts.status,
        tool_version=VERSION,
        started=facts.started,
        ended=facts.ended,
        simulated=any(r.simulated for r in ledger.runs),
        factors=[d.info() for d in plan.space.dimensions],
        objectives=plan.objectives,
        limits=plan.limits,
        methods=_methods(plan, ledger, standings),
        trials=[_trial(plan, ledger, i + 1, s, standings, best) for i, s in enumerate(standings)],
        runs=list(ledger.runs),
        reference={m: mean_of(ledger.of(None, "reference"), m) for m in plan.metrics},
        effects=main,
        interactions=crossed,
        drift=drift,
        finalists=finals,
        recommendation=recommendation,
        hypotheses=hypotheses(claims, facts.target, [d.key for d in plan.space.dimensions]),
        notes=[*([facts.cut] if facts.cut else []), *_sampling_note(plan), *notes],
    )


def _sampling_note(plan: Plan) -> list[str]:
    if all(m.method in ADAPTIVE for m in plan.methods):
        return ["the runs lie where the search expected the best; effects describe that part of the space most"]
    return []


def _trial(
    plan: Plan, ledger: Ledger, number: int, one: Standing, standings: Sequence[Standing], best: set[str]
) -> Trial:
    early = ""
    if len(one.runs) < plan.search.repeats:
        early = hopeless(plan, ledger, one, standings)
    return Trial(
        number=number,
        methods=ledger.proposed.get(key_of(one.settings), [one.runs[0].method]),
        settings=one.settings,
        state=one.state,
        runs=[r.run for r in one.runs],
        values=one.values,
        reason=one.reason,
        stopped_early=early,
        best=key_of(one.settings) in best,
    )


def _methods(plan: Plan, ledger: Ledger, standings: Sequence[Standing]) -> list[MethodOutcome]:
    found = []
    numbers = {key_of(s.settings): i + 1 for i, s in enumerate(standings)}
    for m in plan.methods:
        mine = [s for s in standings if m.method in ledger.proposed.get(key_of(s.settings), [s.runs[0].method])]
        runs = sum(r.method == m.method and r.purpose == "search" and r.state != "interrupted" for r in ledger.runs)
        best = front(plan, mine)
        message = "found no configuration that keeps every limit" if mine else "measured nothing"
        if best and len(plan.objectives) == 1:
            metric = plan.objectives[0].metric
            message = f"best: {describe(best[0].settings)} with {metric} {best[0].value(metric):.4g}"
        elif best:
            message = f"{len(best)} configurations on its Pareto front"
        number = numbers[key_of(best[0].settings)] if best and len(plan.objectives) == 1 else None
        found.append(MethodOutcome(m.method, len(mine), runs, number, message))
    return found


def _drift(plan: Plan, ledger: Ledger) -> Drift:
    """A straight line through the reference's runs over the order of all runs."""
    metric = plan.objectives[0].metric
    points = [
        (i, r.values[metric])
        for i, r in enumerate(ledger.runs)
        if r.purpose == "reference" and r.state == "ok" and r.values.get(metric, 0.0) > 0
    ]
    if len(points) < DRIFT_RUNS:
        text = f"the reference was measured {len(points)} times; drift takes {DRIFT_RUNS} to judge"
        return Drift(metric, len(points), None, None, None, text)
    at, y = np.array([p[0] for p in points], dtype=float), np.log([p[1] for p in points])
    span, centred = at[-1] - at[0], at - at.mean()
    slope = float(centred @ y / (centred @ centred))
    left = y - y.mean() - slope * centred
    error = math.sqrt(float(left @ left) / (len(points) - 2) / float(centred @ centred))
    half = quantiles.student(0.975, len(points) - 2) * error
    change, low, high = (math.expm1(v * span) for v in (slope, slope - half, slope + half))
    if low > 0 or high < 0:
        text = f"{metric} of the unchanged configuration drifted by {change:+.1%} [{low:+.1%}, {high:+.1%}] meanwhile; "
        text += "trust the comparison of the finalists, which ran in turns, before differences between early and late"
    else:
        text = f"no drift is seen in {len(points)} runs of the reference: {change:+.1%} [{low:+.1%}, {high:+.1%}]"
    return Drift(metric, len(points), change, low, high, text)


def _diagnosed(ledger: Ledger, runs: Sequence[str], result_of: Callable[[str], RunResult | None]) -> list[Diagnosed]:
    """What limited the recommended configuration, and the reference, by the runs that say so."""
    reference = [r.run for r in ledger.of(None, "reference", "final") if r.state == "ok"]
    results = map(result_of, dict.fromkeys([*runs[:1], *reference[:1]]))
    return [found for result in results if result is not None for found in diagnosed(result)]
