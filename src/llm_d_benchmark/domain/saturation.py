"""Where a server saturates: one pure decision for the sweep that searches and the analysis that reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FOLLOWS = 0.95
"""A server follows an offered rate when it completes at least this fraction of it."""
GOOD = 0.95
"""With goodput limits: at least this fraction of the completed requests must meet them."""
GAIN = 0.5
"""A closed loop still gains when throughput grows by at least this fraction of the growth in concurrency."""
TTFT_GROWTH = 10.0
"""An open loop no longer follows when the median TTFT has grown by this factor over the lightest load."""
FAILURES = 0.05
"""More failures than this and the server does not carry the load."""


@dataclass(frozen=True, slots=True)
class Level:
    """One measured load: requests/s or concurrency offered, and what came of it.

    Attributes:
        chance: fraction by which the completed rate may lie under the offered one by chance alone.
        edge: fraction of the window that a request of median length reaches beyond its end, less the warm-up's part:
            so much of what was offered cannot have been completed yet. Its value at the lightest load counts.
        turns: requests of a session, on average: what is offered is sessions/s, what is completed requests/s.
    """

    load: float
    requests_per_second: float
    failed_fraction: float
    ttft_p50: float | None = None
    goodput: float | None = None
    chance: float = 0.0
    edge: float = 0.0
    turns: float = 1.0

    def follows(self, edge: float) -> bool:
        return self.requests_per_second >= (FOLLOWS - self.chance) * (1 - edge) * self.load * self.turns


def chance(arrival: str, requests: float, burstiness: float = 1.0) -> float:
    """Two standard errors of the number of arrivals; of a constant process, two requests at the window's ends.
    ``requests`` counts a conversation once: its later turns do not arrive by themselves."""
    if arrival == "constant":
        return 2.0 / max(1, requests)
    return 2.0 / math.sqrt(max(1, requests) * (burstiness if arrival == "gamma" else 1.0))


def edge(e2e_p50: float | None, warmup_s: float, seconds: float, turns: float = 1.0) -> float:
    """``Level.edge``, at most a half; a conversation lasts as long as its turns."""
    return min(0.5, max(0.0, (e2e_p50 or 0.0) * turns - warmup_s) / seconds) if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Knee:
    """The highest load carried (None: none was), the lowest that was not (None: all were), and why."""

    load: float | None
    beyond: float | None
    reason: str


def carried(level: Level, lighter: Sequence[Level], over: Literal["rate", "concurrency"]) -> str | None:
    """Why ``level`` is not carried, given the carried levels below it; None where it is."""
    if level.failed_fraction > FAILURES:
        return f"{level.failed_fraction:.0%} of the requests failed"
    if level.requests_per_second <= 0:
        return "nothing was completed"
    if level.goodput is not None and level.goodput < GOOD * level.requests_per_second:
        return f"only {level.goodput:.3g} of {level.requests_per_second:.3g} requests/s met the limits"
    if over == "rate":
        return _outrun(level, lighter)
    return None if level.goodput is not None else _gains_nothing(level, lighter)


def _outrun(level: Level, lighter: Sequence[Level]) -> str | None:
    if not level.follows(lighter[0].edge if lighter else level.edge):
        offered = level.load * level.turns
        return f"{level.requests_per_second:.3g} of {offered:.3g} requests/s were completed"
    first = next((x.ttft_p50 for x in lighter if x.ttft_p50), None)
    if level.goodput is None and first and level.ttft_p50 and level.ttft_p50 > TTFT_GROWTH * first:
        return f"the median TTFT grew from {first:.3g} s to {level.ttft_p50:.3g} s"
    return None


def _gains_nothing(level: Level, lighter: Sequence[Level]) -> str | None:
    below = max((x for x in lighter if x.load < level.load), key=lambda x: x.load, default=None)
    if below is None:
        return None
    gain = level.requests_per_second / below.requests_per_second - 1
    if gain < GAIN * (level.load / below.load - 1):
        return f"throughput grew by {gain:.0%} for {level.load / below.load - 1:.0%} more concurrency"
    return None


def knee(levels: Sequence[Level], over: Literal["rate", "concurrency"]) -> Knee:
    """The knee of measured levels, in any order: the highest load below the first that is not carried."""
    good: list[Level] = []
    for level in sorted(levels, key=lambda x: x.load):
        reason = carried(level, good, over)
        if reason is not None:
            return Knee(good[-1].load if good else None, level.load, reason)
        good.append(level)
    if not good:
        return Knee(None, None, "nothing was measured")
    return Knee(good[-1].load, None, "every load measured was carried; the knee lies beyond")
