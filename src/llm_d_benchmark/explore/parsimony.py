"""What a recommendation leaves alone: factors without any effect to be seen. Pure.

Configurations that differ in those alone are one: their runs are put together before the best are chosen, so that a
finalist is not the luckiest of several that are the same, and finalists differ in what matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..domain.study import FactorEffect, Interaction, Settings, StudyMeasurement
from .effects import effects
from .ledger import Ledger, Standing, standing
from .plan import Plan
from .racing import pooled_noise
from .space import key_of

NOISE_DEGREES = 2
"""Degrees of freedom from which on the noise between runs is known well enough to call an effect less than it."""


def effects_of(plan: Plan, ledger: Ledger) -> tuple[list[FactorEffect], list[Interaction], list[str]]:
    """Effects on every metric of the plan, by the runs of the search."""
    runs = [r for r in ledger.runs if r.purpose == "search"]
    main: list[FactorEffect] = []
    crossed: list[Interaction] = []
    notes: list[str] = []
    for metric in plan.metrics:
        found = effects(plan.space, runs, metric, inert_below=plan.search.inert_below, seed=plan.search.seed)
        main += found[0]
        crossed += found[1]
        notes += found[2]
    return main, crossed, notes


def idle(plan: Plan, ledger: Ledger, main: Sequence[FactorEffect], crossed: Sequence[Interaction]) -> list[str]:
    """Factors that a recommendation leaves as they are.

    On every metric that could be judged such a factor is inert, or it does not matter as far as the runs tell and what
    they show of it is less than the noise between runs of one configuration, where there are such runs. A factor that
    conditions or forbidden combinations speak of stays: leaving it could make another combination.
    """
    before = [r for r in ledger.runs if r.purpose != "final"]
    noise = {m: pooled_noise(before, m) for m in plan.metrics}
    busy = {f for x in crossed if x.verdict == "matters" for f in x.factors} | plan.space.linked
    found = []
    for d in plan.space.dimensions:
        mine = [e for e in main if e.factor == d.name]
        if mine and d.name not in busy and all(_is_idle(e, *noise[e.metric]) for e in mine):
            found.append(d.name)
    return found


def _is_idle(e: FactorEffect, noise: float, degrees: int) -> bool:
    return e.verdict == "inert" or (e.verdict == "unclear" and degrees >= NOISE_DEGREES and _largest(e) <= noise)


def _largest(e: FactorEffect) -> float:
    first = e.levels[0].value
    changes = (abs(math.log(m.value / first)) if e.relative else abs(m.value - first) for m in e.levels[1:])
    return max(changes)


def contenders(plan: Plan, ledger: Ledger, leave: Sequence[str]) -> list[Standing]:
    """The configurations of the search without the factors ``leave``; not the present one, which is the reference."""
    groups: dict[str, tuple[Settings, list[StudyMeasurement]]] = {}
    for settings in ledger.searched():
        kept = {name: value for name, value in settings.items() if name not in leave}
        groups.setdefault(key_of(kept), (kept, []))[1].extend(ledger.of(settings, "search"))
    return [standing(plan, kept, runs) for kept, runs in groups.values() if not plan.space.is_present(kept)]
