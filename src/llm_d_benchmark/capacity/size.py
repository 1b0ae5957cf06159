"""How much one replica carries within the objectives, and so how many are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..config.blocks import Slo
from .outlook import THROUGHPUTS, Replica, is_latency, keeps, per_request
from .scaling import LINEAR, Scaling

ROUNDS = 16
TINY = 1e-3
"""Of the capacity: a load so light that an objective which fails there fails at any."""


@dataclass(frozen=True, slots=True)
class Margins:
    """Beyond what is needed: ``utilization`` at the peak, load of the busiest replica over the mean, spare replicas."""

    utilization: float = 0.85
    imbalance: float = 1.1
    spare: int = 1


@dataclass(frozen=True, slots=True)
class Carries:
    """What one replica carries, requests/s.

    Attributes:
        expected: within the latency objectives as expected, without any margin; 0 where even the lightest load
            misses one.
        sure: within the bounds of the objectives and the utilisation limit.
        limited_by: what binds ``sure``: an objective, or the utilisation limit.
    """

    expected: float
    sure: float
    limited_by: str


def carries(replica: Replica, slos: Sequence[Slo], margins: Margins) -> Carries:
    """See ``Carries``. Latencies grow with the rate, so a bisection finds where the objectives end."""
    wanted = [s for s in slos if is_latency(s)]
    expected = _most(replica, wanted, replica.capacity, at_bound=False)
    ceiling = margins.utilization * replica.sure_capacity
    if all(keeps(replica, [s], ceiling) for s in wanted):
        return Carries(expected, ceiling, f"utilisation {margins.utilization:.0%}")
    each = {s.name: _most(replica, [s], ceiling, at_bound=True) for s in wanted}
    binding = min(each, key=lambda name: each[name])
    return Carries(expected, each[binding], binding)


def _most(replica: Replica, slos: Sequence[Slo], most: float, *, at_bound: bool) -> float:
    low, high = 0.0, most * (1 - 1e-6)
    if not keeps(replica, slos, TINY * most, at_bound=at_bound):
        return 0.0
    if keeps(replica, slos, high, at_bound=at_bound):
        return high
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(replica, slos, middle, at_bound=at_bound) else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Count:
    """``needed``: without margins; ``under_load``: with headroom and imbalance; ``replicas``: with spare ones."""

    needed: int
    under_load: int
    replicas: int


def count(
    replica: Replica, slos: Sequence[Slo], found: Carries, rate: float, margins: Margins, scaling: Scaling = LINEAR
) -> Count | None:
    """The fewest replicas for ``rate`` requests/s; None where no number keeps every latency objective."""
    if found.sure <= 0 or found.expected <= 0:
        return None
    floor = max(1, throughput_floor(replica, slos))
    needed = scaling.replicas(rate / found.expected)
    under_load = scaling.replicas(rate * margins.imbalance / found.sure)
    if needed is None or under_load is None:
        return None
    under_load = max(floor, needed, under_load)
    return Count(max(floor, needed), under_load, under_load + margins.spare)


def throughput_floor(replica: Replica, slos: Sequence[Slo]) -> int:
    """Replicas that serve what the throughput objectives ask for, whatever the load is."""
    wanted = [s for s in slos if s.metric.metric in THROUGHPUTS and not s.target.is_upper]
    each = [s.target.value / (replica.sure_capacity * per_request(s.metric.metric, replica.requests)) for s in wanted]
    return math.floor(max(each)) + 1 if each else 0
