"""Relations that sound data satisfies. A broken one is a finding: something in the records is not what it seems."""

from __future__ import annotations

import math
from itertools import pairwise

from ..domain.result import Absent, Distribution, Identity, Measured, Scalar, StageResult

ROUGH = 0.1
"""Tolerance of relations that hold for means only roughly, as where lengths differ."""


def identities(stage: StageResult) -> list[Identity]:
    """The identity checks of one stage; ``holds`` is None where a side is absent."""
    return [
        _conservation(stage),
        _gaps(stage),
        *_ends(stage),
        _tokens(stage),
        _little(stage),
        _monotone(stage),
        _rate(stage),
    ]


def compare(name: str, stage: int, left: Scalar, right: Scalar, tolerance: float) -> Identity:
    """Whether both sides agree within the fraction ``tolerance`` of the greater."""
    holds = None
    if isinstance(left, Measured) and isinstance(right, Measured):
        holds = abs(left.value - right.value) <= tolerance * max(abs(left.value), abs(right.value))
    return Identity(name, stage, left, right, tolerance, holds)


def _conservation(stage: StageResult) -> Identity:
    r = stage.metrics.requests_total
    ended = float(r.succeeded + r.failed + r.cancelled)
    name = "sent = succeeded + failed + cancelled"
    return compare(name, stage.index, Measured(float(r.sent), "requests"), Measured(ended, "requests"), 0.0)


def _gaps(stage: StageResult) -> Identity:
    """Mean time after the first token, by its ends and by the sum of the chunk gaps."""
    m = stage.metrics
    name = "e2e = ttft + chunk gaps"
    if not (isinstance(m.e2e, Distribution) and isinstance(m.ttft, Distribution) and isinstance(m.itl, Distribution)):
        return compare(name, stage.index, Absent("no chunk gaps"), Absent("no chunk gaps"), 0.01)
    if m.itl.limits == "reported":
        why = Absent("the tool does not report how many gaps there were")
        return compare(name, stage.index, Measured(m.e2e.mean, "s"), why, 0.01)
    if m.e2e.count != m.ttft.count:
        return compare(name, stage.index, Absent("not every answer was streamed"), Absent("no common base"), 0.01)
    right = m.ttft.mean + m.itl.mean * m.itl.count / m.e2e.count
    return compare(name, stage.index, Measured(m.e2e.mean, "s"), Measured(right, "s"), 0.01)


def _ends(stage: StageResult) -> list[Identity]:
    """Of a tool's own means; where there are records, tpot is computed from the other two."""
    m, tokens = stage.metrics, stage.metrics.output_length.achieved
    found = [d for d in (m.e2e, m.ttft, m.tpot) if isinstance(d, Distribution) and d.limits == "reported"]
    if len(found) < 3 or not isinstance(tokens, Measured):
        return []
    e2e, ttft, tpot = (d.mean for d in found)
    right = Measured(ttft + (tokens.value - 1) * tpot, "s")
    return [compare("e2e = ttft + (tokens - 1) x tpot", stage.index, Measured(e2e, "s"), right, ROUGH)]


def _tokens(stage: StageResult) -> Identity:
    """Tokens of the whole window, by their rate and by the answers completed in it."""
    m, name = stage.metrics, "tokens/s = requests/s x tokens"
    known = (m.output_tokens_per_second, m.requests_per_second, m.output_length.achieved)
    if not all(isinstance(x, Measured) for x in known):
        why = Absent("not every side was measured")
        return compare(name, stage.index, m.output_tokens_per_second, why, ROUGH)
    left, rate, tokens = (x for x in known if isinstance(x, Measured))
    tolerance = _edge(stage)
    if tolerance is None:
        why = Absent("the window is too short, or not steady")
        return compare(name, stage.index, left, why, ROUGH)
    right = Measured(rate.value * tokens.value, "tokens/s")
    return compare(name, stage.index, left, right, max(ROUGH, tolerance))


def _edge(stage: StageResult) -> float | None:
    """By how much what began in the window may differ from what ended in it; None where that says nothing."""
    e2e = stage.metrics.e2e
    if not isinstance(e2e, Distribution) or e2e.limits == "reported":
        return 0.0
    if stage.window.seconds <= 0 or stage.steady_state.steady is False:
        return None
    edge = 2 * e2e.mean / stage.window.seconds + 2 / math.sqrt(e2e.count)
    return edge if edge <= 0.4 else None


def _little(stage: StageResult) -> Identity:
    """Concurrency = rate x mean latency, as far as the window is long against the latency and nothing failed."""
    m, name = stage.metrics, "Little's law"
    clean = m.requests.succeeded == m.requests.sent
    if not (isinstance(m.e2e, Distribution) and isinstance(m.achieved_rate, Measured) and clean):
        why = Absent("holds for windows in which every request succeeded")
        return compare(name, stage.index, m.concurrency, why, 0.1)
    right = Measured(m.achieved_rate.value * m.e2e.mean, "requests")
    seconds = stage.window.seconds  # 0 where an imported result does not tell it
    edge = 2 * m.e2e.mean / seconds + 2 / math.sqrt(m.e2e.count) if seconds > 0 else math.inf
    if edge > 0.4 or stage.steady_state.steady is False:
        why = Absent("the window is too short, or not steady, for Little's law")
        return compare(name, stage.index, m.concurrency, why, 0.1)
    return compare(name, stage.index, m.concurrency, right, max(0.1, edge))


def _monotone(stage: StageResult) -> Identity:
    """Every percentile is at most the next: left counts the violations."""
    wrong = 0
    for name in ("ttft", "tpot", "itl", "ntpot", "e2e"):
        found = getattr(stage.metrics, name)
        if isinstance(found, Distribution):
            values = [found.min, *(found.at(level) for level in found.percentiles), found.max]
            wrong += sum(a > b for a, b in pairwise(v for v in values if v is not None))
    return compare("percentiles ascend", stage.index, Measured(float(wrong), ""), Measured(0.0, ""), 0.0)


def _rate(stage: StageResult) -> Identity:
    """Achieved against requested rate; where arrivals are random, as far as chance allows."""
    m = stage.metrics
    chance = 3 / math.sqrt(m.requests.sent) if m.requests.sent else 0.0
    return compare("achieved rate = requested rate", stage.index, m.achieved_rate, m.requested_rate, max(0.05, chance))
