"""The sweep: load grows until the server no longer follows, then the knee is bracketed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..config.load import Sweep
from ..domain.saturation import Level, chance, edge, knee
from ..domain.schedule import Load, Stage, StageOutcome


class SweepSource:
    """An adaptive source of stages. It stops when the knee is bracketed finely enough, at ``max``, after
    ``max_stages``, or when the client itself was the bottleneck."""

    adaptive = True

    def __init__(self, sweep: Sweep, template: Stage) -> None:
        self._sweep = sweep
        self._template = template
        self._levels: list[Level] = []
        self._refined = 0
        self._pending: float | None = None

    def planned(self) -> Sequence[Stage]:
        """The most stages there can be, at the loads of a server that follows them all."""
        loads = [self._whole(self._capped(self._sweep.start))]
        while (following := self._whole(self._capped(loads[-1] * self._sweep.growth))) > loads[-1]:
            if len(loads) == self._sweep.max_stages:
                break
            loads.append(following)
        # Below a first load that was too much there may be as many stages as there are.
        loads += [loads[-1]] * (self._sweep.max_stages - len(loads))
        return [self._stage(i, x) for i, x in enumerate(loads)]

    def next(self, last: StageOutcome | None) -> Stage | None:
        if last is not None and self._pending is not None:
            if last.client_limited:
                return None
            self._levels.append(level_of(last, self._pending))
        load = self._choose()
        if load is None or len(self._levels) >= self._sweep.max_stages:
            return None
        self._pending = load
        return self._stage(len(self._levels), load)

    def _choose(self) -> float | None:
        if not self._levels:
            return self._whole(self._capped(self._sweep.start))
        found = knee(self._levels, self._sweep.over)
        if found.beyond is None:
            top = max(x.load for x in self._levels)
            following = self._whole(self._capped(top * self._sweep.growth))
            return following if following > top else None
        low = found.load
        lowest = min(x.load for x in self._levels)
        # Even the first load was too much. A closed loop shows that only beside a lighter one.
        if low is None or (self._sweep.over == "concurrency" and low == lowest > 1):
            following = self._whole(lowest / self._sweep.growth)
            return following if following < lowest else None
        middle = self._whole(math.sqrt(low * found.beyond))
        return middle if low < middle < found.beyond and self._use_refinement() else None

    def _use_refinement(self) -> bool:
        self._refined += 1
        return self._refined <= self._sweep.refine

    def _capped(self, load: float) -> float:
        return load if self._sweep.max is None else min(load, self._sweep.max)

    def _whole(self, load: float) -> float:
        return float(max(1, round(load))) if self._sweep.over == "concurrency" else float(f"{load:.4g}")

    def _stage(self, number: int, value: float) -> Stage:
        template = self._template.load
        if self._sweep.over == "rate":
            load = Load(rate=value, concurrency=template.concurrency, arrival=template.arrival)
        else:
            load = Load(concurrency=int(value), ramp_s=template.ramp_s)
        return replace(self._template, index=self._template.index + number, name=load.label(), load=load)


def level_of(outcome: StageOutcome, load: float) -> Level:
    """A stage's outcome as the knee decision takes it."""
    arrival, finished = outcome.stage.load.arrival, outcome.succeeded + outcome.failed
    return Level(
        load=load,
        requests_per_second=outcome.requests_per_second,
        failed_fraction=outcome.failed / finished if finished else 1.0,
        ttft_p50=outcome.ttft_p50,
        goodput=outcome.goodput,
        chance=chance(str(arrival["type"]), outcome.sent / outcome.turns, float(arrival.get("burstiness", 1.0))),
        edge=edge(outcome.e2e_p50, outcome.stage.warmup_s, outcome.seconds, outcome.turns),
        turns=outcome.turns,
    )
