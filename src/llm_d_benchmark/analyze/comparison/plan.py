"""How many pairs of runs an experiment takes, decided so that looking early makes no verdict easier to come by.

The number is planned once, from the noise of the first runs alone: the estimated slowdown plays no part in it. Before
that, only overwhelming evidence (99.9 % bounds, after Haybittle and Peto) ends it. At the planned end bounds at 96.5 %
decide: noise that happens to look small makes short experiments, which at 95 % err in up to 7 of 100 cases.
"""

from __future__ import annotations

import math

from ...domain.comparison import Effect
from .effects import holm, log_ratio, slowness
from .power import requests_needed, runs_needed
from .regression import Performance, Question

EARLY = 0.001
POWER = 0.95
"""More than the 0.9 that is wanted, since the noise is only estimated."""
ALPHA = 0.035
"""Errs in at most 5 of 100 experiments for a floor of five pairs, by simulation."""


def plan(performance: Performance, question: Question, *, least: int, most: int) -> tuple[int, str]:
    """Pairs that show equal versions to be within the limit, and twice the limit to be over it, most of the time, were
    the noise as seen so far.

    Returns:
        the number, and what it comes from.
    """
    limit = question.limit or 0.0
    gap = math.log1p(limit / (1 + limit))  # from the limit to twice the limit, which is the nearer of the two
    needed = least
    said = "the runs agree so well that no more are needed"
    for m in performance.metrics:
        if not m.decides or not isinstance(m.effect, Effect) or m.effect.sd is None:
            continue
        found = runs_needed(
            m.effect.sd, gap, blocks=m.effect.method == "paired", alpha=question.alpha, power=POWER, least=least
        )
        pairs = most if found is None else min(most, found)
        if pairs > needed:
            needed, said = pairs, f"{m.metric} at {m.load} differs by {m.effect.sd:.1%} from pair to pair"
            if found is None or found > most:
                said += f"; it would take {found or 'over 1000'}, max_runs is {most}"
    return needed, said


def overwhelming(performance: Performance, question: Question) -> bool:
    """Whether the runs so far leave no doubt about the verdict of all deciding metrics together."""
    limit = math.log1p(question.limit or 0.0)
    ratios = []
    for m in performance.metrics:
        if m.decides:
            if not isinstance(m.effect, Effect):
                return False
            logs = (slowness(side.values, m.lower_is_better) for side in (m.baseline, m.test))
            ratios.append(log_ratio(*logs, blocks=m.effect.method == "paired"))
    if not ratios:
        return False
    passed = all(float(ratio.upper(EARLY)) < limit for ratio in ratios)
    return passed or min(holm([float(ratio.p_over(limit)) for ratio in ratios])) < EARLY


def pairs_for_stability(requests_per_run: float, limit: float) -> int:
    """Pairs until the test version's requests, were none to fail, show a success share above ``limit``."""
    if requests_per_run <= 0 or limit >= 1:
        return 1
    return math.ceil(requests_needed(0, limit) / requests_per_run)
