"""What to set, why, and what to measure next. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..domain.result import Absent, Measured
from ..domain.study import FactorEffect, Finalist, Gain, Interaction, Recommendation, Settings, StudyLimit, Value
from .finals import PRESENT, gains_of, trial_of
from .ledger import Ledger, Standing, violation
from .parsimony import contenders
from .plan import Plan
from .search import describe, finalists


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a recommendation is made from."""

    plan: Plan
    standings: Sequence[Standing]
    finals: Sequence[Finalist]
    effects: Sequence[FactorEffect]
    interactions: Sequence[Interaction]
    idle: Sequence[str]
    ledger: Ledger


def recommend(e: Evidence) -> Recommendation:
    """The best configuration, if fresh runs show that it is better than the present one."""
    return replace(_recommended(e), leave=list(e.idle))


def _recommended(e: Evidence) -> Recommendation:
    candidates = [f for f in e.finals if f.trial is not None and f.feasible]
    if candidates:
        return _from_finals(e, candidates)
    best = finalists(e.plan, contenders(e.plan, e.ledger, e.idle))
    if e.finals:
        text = "no finalist keeps every limit in fresh runs; stay with the present configuration"
        return Recommendation(None, {}, text, False, why=_broken(e), measure_next=[*_next(e, {})])
    if not e.standings:
        text = "nothing but the present configuration was measured: stay with it"
        return Recommendation(None, {}, text, False, measure_next=["give time_budget more, or finalist_runs less"])
    if not best and any(s.state == "feasible" for s in e.standings):
        text = "keep the present configuration: nothing that was measured differs from it in what matters"
        return Recommendation(None, {}, text, False, why=[*_why(e, {})], measure_next=[*_next(e, {})])
    if not best:
        text = "no configuration that was measured keeps every limit"
        return Recommendation(None, {}, text, False, why=_broken(e), measure_next=[*_missing(e), *_next(e, {})])
    first = best[0]
    return Recommendation(
        trial_of(e.plan, first.settings, e.standings),
        first.settings,
        f"{_changes(e.plan, first.settings)} was best in the search; fresh runs have not confirmed it",
        False,
        why=[*_why(e, first.settings)],
        binding=_binding(e.plan, first.values),
        evidence=[r.run for r in first.runs],
        measure_next=["measure the best configurations again (finalists)", *_next(e, first.settings)],
    )


def _from_finals(e: Evidence, candidates: Sequence[Finalist]) -> Recommendation:
    chosen = candidates[0] if len(e.plan.objectives) == 1 else max(candidates, key=_compromise)
    present = next((f for f in e.finals if f.trial is None), None)
    missing = "the present configuration was not measured" if present is None else "too few rounds of fresh runs"
    gain: Gain | Absent = chosen.gains[0] if chosen.gains else Absent(missing)
    sure = isinstance(gain, Gain) and gain.low > 0
    if len(e.plan.objectives) > 1:
        sure = bool(chosen.gains) and any(g.low > 0 for g in chosen.gains)
    rescued = present is not None and not present.feasible
    evidence = [*chosen.runs, *(present.runs if present is not None else ())]
    if not sure and not rescued:
        text = "keep the present configuration: no finalist is better than it beyond the noise"
        if isinstance(gain, Absent):
            text = f"inconclusive: {gain.absent}; stay with the present configuration until they can be compared"
        return Recommendation(
            None,
            {},
            text,
            False,
            why=[*_gains(chosen), *_why(e, {})],
            gain=gain,
            binding="" if present is None else _binding(e.plan, present.values),
            evidence=evidence,
            measure_next=[*_next(e, {})],
        )
    why = [*_gains(chosen)]
    if rescued and present is not None:
        why.insert(0, f"{PRESENT} breaks a limit: {present.reason}")
    if len(e.plan.objectives) > 1:
        why.append("of several objectives this is the compromise with the greatest product of gains; the Pareto front "
                   "shows the others")  # fmt: skip
    return Recommendation(
        chosen.trial,
        chosen.settings,
        f"set {_changes(e.plan, chosen.settings)}",
        True,
        why=[*why, *_why(e, chosen.settings)],
        gain=gain,
        runner_up=_runner_up(e, chosen, candidates),
        binding=_binding(e.plan, chosen.values),
        evidence=evidence,
        measure_next=[*_next(e, chosen.settings)],
    )


def _changes(plan: Plan, settings: Settings) -> str:
    """``batch_size=32 (now 8), max_tokens=256 (as now)``."""
    present = {d.name: d.present for d in plan.space.dimensions}

    def said(name: str, value: Value) -> str:
        now = present[name]
        return f"{name}={value}" + ("" if now is None else " (as now)" if now == value else f" (now {now})")

    return ", ".join(said(name, value) for name, value in settings.items())


def _compromise(f: Finalist) -> float:
    return sum(math.log1p(max(g.gain, -0.999)) for g in f.gains)


def _gains(f: Finalist) -> Iterator[str]:
    for g in f.gains:
        yield (
            f"{g.metric} is {abs(g.gain):.1%} {'better' if g.gain >= 0 else 'worse'} than {g.against} "
            f"[{g.low:+.1%}, {g.high:+.1%}] over {g.rounds} rounds of fresh runs in turns"
        )


def _runner_up(e: Evidence, chosen: Finalist, candidates: Sequence[Finalist]) -> str:
    others = [f for f in candidates if f is not chosen]
    if not others:
        return ""
    second = others[0]
    ours, theirs = (e.ledger.of(f.settings, "final") for f in (chosen, second))
    gains = gains_of(e.plan.objectives, ours, theirs, "the runner-up")
    text = describe(second.settings)
    if not gains:
        return text
    g = gains[0]
    verdict = "the difference is within the noise" if g.low <= 0 <= g.high else "the difference is beyond the noise"
    return f"{text}: {g.metric} of the recommended one is {g.gain:+.1%} better [{g.low:+.1%}, {g.high:+.1%}]; {verdict}"


def _binding(plan: Plan, values: object) -> str:
    """The limit with the least room left."""
    assert hasattr(values, "__getitem__")
    room = [(-violation(c, values[c.metric]), c) for c in plan.limits]
    if not room:
        return ""
    left, c = min(room, key=lambda item: item[0])
    value = values[c.metric]
    said = f"{value.value:.4g}" if isinstance(value, Measured) else "missing"
    if left > 0.2:
        return f"none is near; the nearest is {c.name} ({c.metric} {c.text}) at {said}, {left:.0%} away"
    return f"{c.name} ({c.metric} {c.text}) at {said}, {left:.1%} away"


def _why(e: Evidence, settings: object) -> Iterator[str]:
    metrics = [o.metric for o in e.plan.objectives]
    for effect in e.effects:
        if effect.verdict == "matters" and (effect.metric in metrics or _is_limit(e.plan.limits, effect.metric)):
            yield effect.message
    for interaction in e.interactions:
        if interaction.verdict == "matters" and interaction.metric in metrics:
            yield interaction.message
    for factor in e.idle:
        if all(x.verdict == "inert" for x in e.effects if x.factor == factor):
            yield f"{factor} is inert: leave it as the application needs it"
        else:
            yield f"{factor} is left as it is: what the runs show of it is less than the noise of one run"


def _is_limit(limits: Sequence[StudyLimit], metric: str) -> bool:
    return any(c.metric == metric for c in limits)


def _broken(e: Evidence) -> list[str]:
    """How often each limit was broken, and the nearest miss."""
    found = []
    for c in e.plan.limits:
        broken = sum(s.violations.get(c.name, 0.0) > 0 for s in e.standings)
        if broken:
            found.append(f"{c.name} ({c.metric} {c.text}) is broken by {broken} of {len(e.standings)} configurations")
    failed = [s for s in e.standings if s.state == "failed"]
    if failed:
        found.append(f"{len(failed)} of {len(e.standings)} configurations failed; one of them: {failed[0].reason}")
    ranked = sorted((s for s in e.standings if s.state == "infeasible"), key=lambda s: sum(max(0.0, v) for v in s.violations.values()))  # noqa: E501  # fmt: skip
    if ranked:
        found.append(f"nearest: {describe(ranked[0].settings)}: {ranked[0].reason}")
    return found


def _missing(e: Evidence) -> Iterator[str]:
    """What to do about limits whose metric no run has."""
    for c in e.plan.limits:
        if e.standings and all(isinstance(s.values[c.metric], Absent) for s in e.standings):
            reason = next(s.values[c.metric] for s in e.standings)
            remedy = "; give spec.prices (-c prices.yaml)" if c.metric.startswith("cost") else ""
            said = reason.absent if isinstance(reason, Absent) else ""
            yield f"{c.name} cannot be kept because {c.metric} is missing: {said}{remedy}"


def _next(e: Evidence, settings: object) -> Iterator[str]:
    """Where more runs would tell most."""
    assert hasattr(settings, "get")
    metric = e.plan.objectives[0].metric
    for d in e.plan.space.dimensions:
        value = settings.get(d.name)
        effect = next((x for x in e.effects if x.metric == metric and x.factor == d.name), None)
        if value is None or effect is None or effect.verdict != "matters" or not d.ordered:
            continue
        levels = d.levels()
        if len(levels) > 1 and value in (levels[0], levels[-1]):
            side = "below" if value == levels[0] else "above"
            yield f"{d.name}={value} is the end of what was tried: try values {side} it"
    unclear = [x.factor for x in e.effects if x.metric == metric and x.verdict == "unclear"]
    if unclear:
        yield f"repeat runs (repeats) to tell whether {', '.join(unclear)} matter for {metric}"
