"""The cross-check of a capacity plan: the same load on simulated replicas, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from ..capacity.outlook import is_latency
from ..config.blocks import Slo
from ..domain.capacity import CheckRow, CrossCheck
from ..perfmodel.service import Lengths, Requests
from ..simulator.api import CostModel, EngineRequest, FloatArray
from ..simulator.engine import Engine, EngineLimits
from ..simulator.pace import Pace
from ..simulator.progress import Progress
from ..simulator.virtual import VirtualLoop, VirtualReplica

PEAK_SECONDS = 600.0
WARM_UP = 0.2
"""Part of the load's length that comes before it, to fill the replicas, and is not counted."""
GROWTH = 4.0
"""Standard deviations of the arrivals of half the load: a queue that grew by more than these in it is no accident."""
ENOUGH = 5000
"""Requests for the percentiles: requests are spread at random, so that each replica is like every other, and as many
replicas are simulated as give so many."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What is simulated: replicas of this cost and these limits, with requests of these lengths.

    Attributes:
        overhead: seconds that pass before a request is queued.
    """

    cost: CostModel
    limits: EngineLimits
    requests: Requests
    seconds: float = PEAK_SECONDS
    seed: int = 0
    overhead: float = 0.0


def cross_check(what: Simulated, slos: Sequence[Slo], rate: float, planned: int) -> CrossCheck:
    """Try the planned count and one either side; where even the smallest of these holds, one fewer still.

    Args:
        rate: requests/s of all replicas together.
    """
    return compare(planned, what.seconds, lambda replicas: try_count(what, slos, rate, replicas))


def compare(planned: int, seconds: float, try_one: Callable[[int], CheckRow]) -> CrossCheck:
    """The planned count against the smallest that holds; they agree where they differ by one replica at most."""
    rows = [try_one(n) for n in (planned - 1, planned, planned + 1) if n >= 1]
    if rows[0].holds and planned > 2:
        rows.insert(0, try_one(planned - 2))
    holding = [r.replicas for r in rows if r.holds]
    simulated = min(holding) if holding else None
    agrees = simulated is not None and abs(simulated - planned) <= 1 and _monotone(rows)
    return CrossCheck(seconds, planned, simulated, agrees, rows, _message(planned, simulated, rows))


def _monotone(rows: Sequence[CheckRow]) -> bool:
    """Fewer replicas never hold where more do not."""
    return [r.holds for r in rows] == sorted(r.holds for r in rows)


def _message(planned: int, simulated: int | None, rows: Sequence[CheckRow]) -> str:
    if simulated is None:
        return f"the simulator misses an objective even with {rows[-1].replicas} replicas; the plan says {planned}"
    if simulated == planned:
        return f"the simulator needs {simulated} as well"
    more = " or fewer" if simulated == planned - 2 and simulated > 1 else ""
    return f"the simulator needs {simulated}{more}; the plan says {planned}"


def try_count(what: Simulated, slos: Sequence[Slo], rate: float, replicas: int) -> CheckRow:
    """The load on so many replicas: whether each latency objective holds, and its value."""
    each = rate / replicas
    rng = np.random.default_rng([what.seed, replicas])
    parts = [simulate(what, each, rng) for _ in range(min(replicas, max(1, round(ENOUGH / (each * what.seconds)))))]
    seen = np.concatenate([p.seen for p in parts], axis=1)
    wanted = [s for s in slos if is_latency(s)]
    values = {s.name: _value(s, seen) for s in wanted}
    growing = any(p.growing for p in parts)
    holds = not growing and all(s.target.holds(values[s.name]) for s in wanted)
    return CheckRow(replicas, holds, values, sum(p.waiting for p in parts))


def _value(slo: Slo, seen: FloatArray) -> float:
    ttft, e2e, output = seen
    metric = slo.metric.metric.removesuffix("_scheduled")
    found = {
        "ttft": ttft,
        "e2e": e2e,
        "ntpot": e2e / output,
        "tpot": ((e2e - ttft) / np.maximum(output - 1, 1))[output > 1],
    }["tpot" if metric == "itl" else metric]
    statistic = slo.metric.statistic or "p50"
    return float(found.mean()) if statistic == "mean" else float(np.quantile(found, float(statistic[1:]) / 100))


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica: ``seen`` has the rows ttft, e2e and output tokens of n requests; ``waiting`` at the end of the load;
    ``growing``: the queue has grown over the second half of the load more than a steady one would."""

    seen: FloatArray
    waiting: int
    growing: bool


def simulate(what: Simulated, rate: float, rng: np.random.Generator) -> Seen:
    """One replica under independent arrivals; those of the warm-up are not counted, those counted are all answered."""
    length = what.seconds * (1 + WARM_UP)
    arrivals = np.cumsum(rng.exponential(1 / rate, max(1, round(rate * length))))
    inputs, outputs = (draw(x, rng, len(arrivals)) for x in (what.requests.input, what.requests.output))
    loop = VirtualLoop()
    rows: list[tuple[float, float, int]] = []

    def finished(p: Progress) -> None:
        if p.arrived >= what.seconds * WARM_UP:
            assert p.first_token is not None
            assert p.last_token is not None
            rows.append((p.first_token - p.arrived, p.last_token - p.arrived, p.request.output_tokens))

    replica = VirtualReplica(Engine(what.limits, Pace(what.cost)), loop, finished)
    middle, end = _watch(loop, replica, float(arrivals[-1]))
    _send(loop, replica, zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True))
    while loop.run(100_000):
        pass
    seen = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    seen[:2] += what.overhead
    half = len(arrivals) / 2
    return Seen(seen, end[0], end[0] - middle[0] > GROWTH * half**0.5)


def _watch(loop: VirtualLoop, replica: VirtualReplica, end: float) -> tuple[list[int], list[int]]:
    """Requests waiting half-way and at the end of the load, once the loop has run."""
    middle: list[int] = []
    last: list[int] = []
    loop.at(end / 2, lambda: middle.append(replica.waiting))
    loop.at(end, lambda: last.append(replica.waiting))
    return middle, last


def _send(loop: VirtualLoop, replica: VirtualReplica, requests: Iterator[tuple[float, float, float]]) -> None:
    """Each request (time, prompt tokens, answer tokens) at its time."""
    number = count()

    def send(prompt: float, answer: float) -> None:
        replica.submit(EngineRequest(next(number), int(prompt), int(answer)))
        following()

    def following() -> None:
        found = next(requests, None)
        if found is not None:
            loop.at(found[0], send, found[1], found[2])

    following()


def draw(lengths: Lengths, rng: np.random.Generator, many: int) -> FloatArray:
    """Lengths in whole tokens, at least 1."""
    return np.maximum(1, np.round(rng.choice(lengths.values, size=many, p=lengths.weights)))
