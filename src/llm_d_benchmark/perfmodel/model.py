"""The fitted model: what it knows, how well, and what it predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ..domain.errors import ConfigError
from ..domain.result import RunResult
from .curves import ITL, TTFT, Fit, Linear
from .points import FloatArray, Point, decoding, from_results, from_table, split_saturated
from .queueing import Unstable, closed_loop
from .service import MIDDLES, SHARES, Interference, Latencies, Lengths, Requests, Slower, latencies, service_times
from .validate import NOMINAL, Fitted, Observed, choose

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
SLACK = 1.05
"""A load so little outside what was measured does not count as outside."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A prediction with the limits that a new measurement falls into with 90 % (nominal)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of a load.

    Attributes:
        stable: False where more arrives than one replica serves; then there are no latencies, and ``backlog`` tells
            how many requests per second the queue grows by.
        ttft, tpot, e2e: seconds by statistic (mean, p50, p90, p95, p99); of a closed loop the mean only.
        throughput: output tokens/s.
        requests_per_second: that are answered.
        in_flight: requests at the replica, waiting ones included.
        utilization: rate over the most that the replica serves.
        extrapolated: sentences on how the load lies outside what was measured; empty inside.
    """

    stable: bool
    ttft: Mapping[str, Interval]
    tpot: Mapping[str, Interval]
    e2e: Mapping[str, Interval]
    throughput: Interval
    requests_per_second: Interval
    in_flight: float | None
    utilization: float
    backlog: float
    extrapolated: Sequence[str]


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """Seconds of an engine's step: ``fixed``, per prompt ``token``, per decoding ``sequence``, per token of ``context``
    that these read."""

    fixed: float
    token: float
    sequence: float
    context: float


@dataclass(frozen=True, slots=True)
class PerformanceModel:
    """One replica, as fitted to measured levels of load. Implements ``service.Service``.

    Attributes:
        itl: time per output token over requests in flight and context.
        ttft: time to the first token, without waiting for a place, over requests in flight and prompt.
        points: what it was fitted to.
        saturated: levels whose requests waited; of them only the batch that was really decoded is used.
        places: requests in service at once: as given, else the largest batch that was measured.
        places_source: what ``places`` rests on.
        notes: what was left out and why.
    """

    itl_curve: Fitted
    ttft_curve: Fitted
    points: Sequence[Point]
    saturated: Sequence[Point]
    places: int
    places_source: str
    notes: Sequence[str] = field(default_factory=tuple)

    def itl(self, batch: FloatArray, requests: Requests, rate: float | None = None) -> FloatArray:
        """Seconds per output token after the first, shape of ``batch``; the prompts of others are in it as measured."""
        return np.maximum(self.itl_curve.curve(batch, np.full_like(batch, requests.context)), 1e-9)

    def ttft(self, batch: FloatArray, requests: Requests, rate: float | None = None) -> FloatArray:
        """Seconds to the first token of a request that need not wait for a place, shape of ``batch``."""
        return np.maximum(self.ttft_curve.curve(batch, np.full_like(batch, requests.input.mean)), 1e-9)

    def prompt_seconds(self, requests: Requests) -> float:
        """By how much a prompt makes the TTFT longer than none would; 0 where only one length was measured."""
        lengths = np.array([p.input_tokens for p in self.points])
        low, high = lengths.min(), lengths.max()
        if high < low * SLACK:
            return 0.0
        ends = self.ttft_curve.curve(np.ones(2), np.array([low, high]))
        slope = max(float(ends[1] - ends[0]) / (high - low), 0.0)
        return float(min(slope * requests.input.mean, self.ttft(np.ones(1), requests)[0]))

    def busy(self, batch: float, requests: Requests, rate: float) -> float:
        """See ``Service``."""
        return min(rate * self.prompt_seconds(requests), 1.0)

    def interference(self, batch: float, requests: Requests, rate: float) -> Interference:
        """Prompts are computed one after the other; where it is not known how long one takes, it may be all of TTFT,
        and then nothing is known of how they hold up answers."""
        prompt = self.prompt_seconds(requests)
        wait = prompt_queue(rate, prompt or float(self.ttft(np.ones(1), requests)[0]))
        busy = min(rate * prompt, 0.9)
        decoding = max(requests.output.mean - 1, 0.0) * float(self.itl(np.full(1, batch), requests)[0])
        later = (wait - wait @ SHARES) * busy / (1 - busy)  # what was met brings more of its kind: a busy period
        return Interference(wait, later, SHARES, busy * decoding, prompt * math.sqrt(rate * decoding) / (1 - busy))

    def pessimistic(self) -> Slower:
        """The model at the one-sided 95 % limit of both its curves."""
        factor = self.itl_curve.factor(0.95, one_sided=True), self.ttft_curve.factor(0.95, one_sided=True)
        return Slower(self, *factor)

    def optimistic(self) -> Slower:
        factor = self.itl_curve.factor(0.95, one_sided=True), self.ttft_curve.factor(0.95, one_sided=True)
        return Slower(self, 1 / factor[0], 1 / factor[1])

    def outside(self, requests: Requests, batch: float) -> list[str]:
        """How a load lies outside what was measured: sentences, empty inside."""
        seen = [*self.points, *self.saturated]
        found = []
        for what, value, measured in (
            ("requests in flight", batch, [p.concurrency for p in seen]),
            ("prompt tokens", requests.input.mean, [p.input_tokens for p in seen]),
            ("answer tokens", requests.output.mean, [p.output_tokens for p in seen]),
        ):
            low, high = min(measured), max(measured)
            if value > high * SLACK or (value < low / SLACK and what != "requests in flight"):
                found.append(f"{value:.4g} {what}; measured: {low:.4g} to {high:.4g}")
        return found

    def coefficients(self, requests: Requests) -> StepCoefficients:
        """The linear form of the model, also where another curve predicts better: what a simulated engine needs.

        The prompts of others, which are in the measured time per token, are taken out of it.
        """
        itl = _linear(ITL["alpha + beta B + gamma B S"], self.points, "itl")
        first = _linear(TTFT["c + d I + e B"], self.points, "ttft")
        prompt = first.coefficients[2]
        if not prompt:  # one length only: what is longer than a step is taken to be the prompt
            prompt = max(first.coefficients[0] - itl.coefficients[0], 0.0) / requests.input.mean
        alpha, beta, _, gamma = itl.coefficients
        grows = beta + gamma * requests.context  # s for each further sequence, the prompts that come with it included
        interference = prompt * requests.input.mean / max(requests.output.mean - 1, 1.0)
        own = max(grows - interference - prompt, 0.0) / grows if grows > 0 else 0.0
        return StepCoefficients(fixed=max(alpha, 1e-6), token=prompt, sequence=beta * own, context=gamma * own)

    def predict(
        self,
        *,
        input_tokens: float,
        output_tokens: float,
        concurrency: float | None = None,
        rate: float | None = None,
    ) -> Prediction:
        """What a load is expected to give on one replica.

        Args:
            concurrency: users of a closed loop, each of which sends when it was answered.
            rate: requests/s of an open loop of independent requests.

        Raises:
            ConfigError: neither or both are given, or a number is not positive.
        """
        if (concurrency is None) == (rate is None):
            raise ConfigError("predict takes either concurrency or rate")
        if min(input_tokens, output_tokens, concurrency or rate or 0.0) <= 0:
            raise ConfigError("predict takes positive numbers")
        requests = Requests(Lengths.fixed(input_tokens), Lengths.fixed(output_tokens))
        if concurrency is not None:
            return self._closed(requests, concurrency)
        assert rate is not None
        return self._open(requests, rate)

    def _closed(self, requests: Requests, users: float) -> Prediction:
        sides = (self, self.optimistic(), self.pessimistic())
        batch = np.full(1, min(users, float(self.places)))
        first, each, rates = [], [], []
        for side in sides:
            rate, wait = closed_loop(users, service_times(side, requests, None))
            first.append(float(side.ttft(batch, requests, None)[0]) + wait)
            each.append(float(side.itl(batch, requests, None)[0]))
            rates.append(rate)
        whole = [f + (requests.output.mean - 1) * e for f, e in zip(first, each, strict=True)]
        rate_limits = Interval(rates[0], rates[2], rates[1])
        return Prediction(
            stable=True,
            ttft={"mean": Interval(*_two_sided(self.ttft_curve, first))},
            tpot={"mean": Interval(*_two_sided(self.itl_curve, each))},
            e2e={"mean": Interval(*whole)},
            throughput=_scaled(rate_limits, requests.output.mean),
            requests_per_second=rate_limits,
            in_flight=users,
            utilization=min(1.0, users / self.places),
            backlog=0.0,
            extrapolated=self.outside(requests, users),
        )

    def _open(self, requests: Requests, rate: float) -> Prediction:
        found = [latencies(side, requests, rate) for side in (self, self.optimistic(), self.pessimistic())]
        point, best, worst = found
        if isinstance(point, Unstable):
            most = best.capacity if isinstance(best, Unstable) else rate
            served = Interval(point.capacity, min(point.capacity, _capacity(worst)), most)
            return Prediction(
                stable=False, ttft={}, tpot={}, e2e={}, throughput=_scaled(served, requests.output.mean),
                requests_per_second=served, in_flight=None, utilization=point.utilization, backlog=point.backlog,
                extrapolated=self.outside(requests, float(self.places)),
            )  # fmt: skip

        def metric(name: str) -> dict[str, Interval]:
            return {
                s: Interval(
                    point.at(name, s),
                    float("nan") if isinstance(best, Unstable) else best.at(name, s),
                    float("inf") if isinstance(worst, Unstable) else worst.at(name, s),
                )
                for s in STATISTICS
            }

        same = Interval(rate, min(rate, _capacity(worst)), rate)
        return Prediction(
            stable=True,
            ttft=metric("ttft"),
            tpot=metric("tpot"),
            e2e=metric("e2e"),
            throughput=_scaled(same, requests.output.mean),
            requests_per_second=same,
            in_flight=point.queue.in_service + point.queue.waiting,
            utilization=point.queue.utilization,
            backlog=0.0,
            extrapolated=self.outside(requests, point.queue.in_service),
        )


def _capacity(found: Latencies | Unstable) -> float:
    return found.capacity if isinstance(found, Unstable) else found.queue.capacity


def prompt_queue(rate: float, seconds: float) -> FloatArray:
    """The wait for other prompts, for each of ``PARTS``: of a queue of equal services (M/D/1), whose mean is
    rate seconds^2 / (2 (1 - rate seconds)), an atom at 0 and an exponential."""
    busy = min(rate * seconds, 0.98)
    beyond = np.maximum(1 - MIDDLES, 0.0) / max(busy, 1e-12)
    found = -np.log(np.minimum(beyond, 1.0)) * seconds / (2 * (1 - busy))
    mean = busy * seconds / (2 * (1 - busy))
    return cast(FloatArray, found * (mean / max(found @ SHARES, 1e-12)))


def _two_sided(curve: Fitted, values: Sequence[float]) -> tuple[float, float, float]:
    factor = curve.factor(NOMINAL)
    return values[0], min(values[1], values[0] / factor), max(values[2], values[0] * factor)


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def fit(table: Mapping[str, Sequence[float | None]], *, max_num_seqs: int | None = None) -> PerformanceModel:
    """Fit a table of measured levels of one replica; see ``points.from_table`` for its columns.

    Raises:
        ConfigError: the table is not of that form, or has fewer than 4 levels below saturation.
    """
    return fit_points(from_table(table), max_num_seqs=max_num_seqs)


def fit_runs(results: Sequence[RunResult], *, max_num_seqs: int | None = None) -> PerformanceModel:
    """Fit the stages of runs of one deployment, of any load generator, also imported ones.

    Raises:
        ConfigError: fewer than 4 levels of load below saturation among the stages that can be used.
    """
    points, notes = from_results(results)
    if max_num_seqs is None:
        told = {n for r in results for k in ("max_num_seqs", "slots") if isinstance(n := r.target.info.get(k), int)}
        max_num_seqs = told.pop() if len(told) == 1 else None
    return fit_points(points, max_num_seqs=max_num_seqs, notes=notes)


def fit_points(
    points: Sequence[Point], *, max_num_seqs: int | None = None, notes: Sequence[str] = ()
) -> PerformanceModel:
    """Fit points.

    Args:
        max_num_seqs: requests that the replica has in service at once, where that is known.

    Raises:
        ConfigError: fewer than 4 levels of load below saturation.
    """
    try:
        return _fit(points, max_num_seqs, notes)
    except ConfigError as error:
        if not notes:
            raise
        raise ConfigError("\n".join([error.message, *notes]), advice=error.advice) from None


def _fit(points: Sequence[Point], max_num_seqs: int | None, notes: Sequence[str]) -> PerformanceModel:
    over = [p for p in points if max_num_seqs is not None and p.concurrency > max_num_seqs * SLACK]
    free, waiting = split_saturated([p for p in points if p not in over])
    saturated = [decoding(p) for p in (*waiting, *over)]
    itl_points = [p for p in (*free, *saturated) if p.itl is not None]
    ttft_points = [p for p in free if p.ttft is not None]
    itl = choose("ITL", ITL, _observed(itl_points, "itl"))
    ttft = choose("TTFT", TTFT, _observed(ttft_points, "ttft"))
    largest = max(1, round(max(p.concurrency for p in itl_points)))
    if max_num_seqs is None or max_num_seqs > largest * SLACK:
        unknown = "the server does not say how many it takes" if max_num_seqs is None else f"it takes {max_num_seqs}"
        places, source = largest, f"the largest batch that was measured; {unknown}"
    else:
        places, source = max_num_seqs, "max_num_seqs of the server"
    return PerformanceModel(itl, ttft, free, saturated, places, source, tuple(notes))


def _linear(fit: Fit, points: Sequence[Point], what: str) -> Linear:
    seen = _observed([p for p in points if getattr(p, what) is not None], what)
    found = fit(seen.b, seen.s, seen.y)
    assert isinstance(found, Linear)
    return found


def _observed(points: Sequence[Point], what: str) -> Observed:
    length = [p.context if what == "itl" else p.input_tokens for p in points]
    return Observed(
        np.array([p.concurrency for p in points]),
        np.array(length),
        np.array([getattr(p, what) for p in points]),
        [p.group for p in points],
    )
