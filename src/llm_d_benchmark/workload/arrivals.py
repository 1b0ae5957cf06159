"""When the requests of an open loop start.

One mechanism for all: a point process of unit rate (constant, Poisson, gamma) mapped through the inverse of the
cumulative rate of a profile (constant, ramp, steps, spikes). Constant means k / rate, not a running sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..domain.errors import ConfigError
from ..domain.schedule import Load, Stage
from .seeds import Use, generator

BLOCK = 4096
Floats = npt.NDArray[np.float64]


def offsets(stage: Stage, seed: int) -> Iterator[float]:
    """Start of each session in seconds after the stage's start, without end: the stage ends the load."""
    load, arrival = stage.load, stage.load.arrival
    inverse = inverse_cumulative(load, stage.load_s)
    process = str(arrival.get("process" if arrival["type"] in ("ramp", "steps", "spikes") else "type", "constant"))
    for ticks in unit_process(
        process, float(arrival.get("burstiness", 1.0)), generator(seed, Use.ARRIVAL, stage.index)
    ):
        yield from inverse(ticks).tolist()


def unit_process(process: str, shape: float, rng: np.random.Generator) -> Iterator[Floats]:
    """Points of a process with one point a second on average, in blocks."""
    if process == "constant":
        k = 0
        while True:
            yield np.arange(k, k + BLOCK, dtype=np.float64)
            k += BLOCK
    shape = 1.0 if process == "poisson" else shape
    last = 0.0
    while True:
        ticks = last + np.cumsum(rng.gamma(shape, 1.0 / shape, BLOCK))
        last = float(ticks[-1])
        yield ticks


def inverse_cumulative(load: Load, load_s: float | None) -> Callable[[Floats], Floats]:
    """From the number of arrivals so far to the time, for the profile of this load."""
    arrival = load.arrival
    if arrival["type"] in ("constant", "poisson", "gamma"):
        rate = float(load.rate or 0)
        return lambda ticks: ticks / rate
    times, rates_from, rates_to = profile(load, load_s)
    counts = np.concatenate([[0.0], np.cumsum((rates_from + rates_to) / 2 * np.diff(times))])

    def inverse(ticks: Floats) -> Floats:
        piece = np.minimum(np.searchsorted(counts, ticks, side="right") - 1, len(rates_from) - 1)
        n, start, a = ticks - counts[piece], times[piece], rates_from[piece]
        slope = (rates_to[piece] - a) / np.diff(times)[piece]
        # n = a t + slope t^2 / 2, solved for t in the form that stays exact for slope 0
        root = np.sqrt(np.maximum(a * a + 2 * slope * n, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            out = start + 2 * n / (a + root)
        out = np.where(n == 0, start, out)
        # Behind its end a profile goes on with one a second. No stage releases those, but as with a constant rate they
        # are there: a rate that has come to its end, or pauses before it, is no workload that has run out.
        return np.where(ticks >= counts[-1], times[-1] + (ticks - counts[-1]), out)

    return inverse


def profile(load: Load, load_s: float | None) -> tuple[Floats, Floats, Floats]:
    """Piecewise linear rate over time: breakpoints (n + 1) in s, rate at the start and at the end of each piece (n).

    Raises:
        ConfigError: the load has no length, without which the rate's course is undefined.
    """
    arrival: Mapping[str, Any] = load.arrival
    if load_s is None:
        raise ConfigError(
            f"arrival '{arrival['type']}' needs a duration, over which the rate takes its course",
            advice="set 'duration'; with num_requests, whichever comes first ends the stage",
        )
    if arrival["type"] == "ramp":
        return np.array([0.0, load_s]), np.array([float(arrival["from_rate"])]), np.array([float(arrival["to_rate"])])
    if arrival["type"] == "steps":
        rates = np.asarray(arrival["rates"], np.float64)
        return np.linspace(0.0, load_s, len(rates) + 1), rates, rates
    every, spike = float(arrival["every"]), float(arrival["length"])
    starts = np.arange(math.ceil(load_s / every)) * every
    # Each period is quiet first and ends with the spike.
    edges = np.append(np.column_stack([starts, starts + every - spike]).ravel(), load_s)
    pieces = int(np.searchsorted(edges[:-1], load_s))
    rates = np.tile([float(load.rate or 0), float(arrival["peak"])], len(starts))[:pieces]
    return np.append(edges[:pieces], load_s), rates, rates


def expected_arrivals(load: Load, load_s: float) -> float | None:
    """Expected number of arrivals in ``load_s`` seconds; None where the workload's own times say (a trace)."""
    if load.arrival["type"] == "trace":
        return None
    if load.arrival["type"] in ("constant", "poisson", "gamma"):
        return float(load.rate or 0) * load_s
    times, first, last = profile(load, load_s)
    return float(((first + last) / 2 * np.diff(times)).sum())
