"""What a replica is to a queue: how long a request among n takes; and the latencies that follow at a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import gammaincinv

from .points import FloatArray
from .queueing import Mixture, Queue, Unstable, solve, spread


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a request as a few values with their probabilities."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    @staticmethod
    def fixed(tokens: float) -> Lengths:
        return Lengths((float(tokens),), (1.0,))

    @staticmethod
    def of(samples: Sequence[float], parts: int = 9) -> Lengths:
        """Equally likely parts of a sample, each by its mean."""
        cut = np.array_split(np.sort(np.asarray(samples, np.float64)), min(parts, len(samples)))
        return Lengths(tuple(float(c.mean()) for c in cut), tuple(len(c) / len(samples) for c in cut))

    @property
    def mean(self) -> float:
        return float(np.dot(self.values, self.weights))


@dataclass(frozen=True, slots=True)
class Requests:
    """The lengths of the requests, prompts and answers independent of each other."""

    input: Lengths
    output: Lengths

    @property
    def context(self) -> float:
        """Mean tokens of context that a decoding sequence holds; a long answer is met more often than a short one."""
        square = float(np.dot(np.square(self.output.values), self.output.weights))
        return self.input.mean + square / self.output.mean / 2


GRID = 40


class Service(Protocol):
    """One replica."""

    @property
    def places(self) -> int:
        """Requests in service at once."""
        ...

    def itl(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        """Seconds per output token after the first, for a request among ``batch``, shape (n,).

        Args:
            rate: requests/s that arrive; None: as many as leave (a closed loop).
        """
        ...

    def ttft(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        """Seconds to the first token without waiting for a place, shape (n,)."""
        ...

    def busy(self, batch: float, requests: Requests, rate: float) -> float:
        """Share of the time that goes to prompts; 0 where that is not known."""
        ...

    def stall(self, batch: float, requests: Requests, rate: float) -> float:
        """Standard deviation, s, of how long the prompts of others hold up one answer; 0 where that is not known."""
        ...

    def first_token_spread(self, requests: Requests, rate: float, batch: float) -> Spread:
        """What ``ttft`` holds on average, and single requests more or less of: waiting for the prompts of others."""
        ...


@dataclass(frozen=True, slots=True)
class Spread:
    """A few values, s, with their probabilities; arrays of shape (k,)."""

    values: FloatArray
    weights: FloatArray

    @property
    def mean(self) -> float:
        return float(self.values @ self.weights)


@dataclass(frozen=True, slots=True)
class Slower:
    """A replica whose latencies are those of another times a factor: the pessimistic side of its interval."""

    base: Service
    itl_factor: float
    ttft_factor: float

    @property
    def places(self) -> int:
        return self.base.places

    def itl(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        return self.base.itl(batch, requests, rate) * self.itl_factor

    def ttft(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        return self.base.ttft(batch, requests, rate) * self.ttft_factor

    def busy(self, batch: float, requests: Requests, rate: float) -> float:
        return min(self.base.busy(batch, requests, rate) * self.ttft_factor, 1.0)

    def stall(self, batch: float, requests: Requests, rate: float) -> float:
        return self.base.stall(batch, requests, rate) * self.itl_factor

    def first_token_spread(self, requests: Requests, rate: float, batch: float) -> Spread:
        found = self.base.first_token_spread(requests, rate, batch)
        return Spread(found.values * self.ttft_factor, found.weights)


@dataclass(frozen=True, slots=True)
class Latencies:
    """What requests see at a rate that the replica keeps up with."""

    queue: Queue
    ttft: Mixture
    e2e: Mixture
    tpot: Mixture

    def of(self, metric: str) -> Mixture:
        """The distribution of ttft, tpot, itl (as tpot) or e2e."""
        found: Mixture = getattr(self, "tpot" if metric == "itl" else metric)
        return found

    def at(self, metric: str, statistic: str) -> float:
        """Seconds of ttft, tpot, itl (as tpot) or e2e: mean, p50, p90, p95, p99, p99.9."""
        found = self.of(metric)
        return found.mean if statistic == "mean" else found.quantile(float(statistic[1:]) / 100)


def _grid(places: int) -> FloatArray:
    """Batches from 1 to ``places``, each a little more than the last: latencies between them are interpolated."""
    return np.unique(np.round(np.geomspace(1, places, GRID)))


def service_times(service: Service, requests: Requests, rate: float | None) -> FloatArray:
    """T(n) for n = 1 to ``places``: to the first token, then one for each further token."""
    some = _grid(service.places)
    more = max(requests.output.mean - 1, 0.0)
    seconds = service.ttft(some, requests, rate) + more * service.itl(some, requests, rate)
    return np.interp(np.arange(1, service.places + 1), some, seconds)


def capacity(service: Service, requests: Requests) -> float:
    """Requests/s that a replica serves at most."""
    seconds = service_times(service, requests, None)
    return float((np.arange(1, len(seconds) + 1) / seconds).max())


def latencies(service: Service, requests: Requests, rate: float) -> Latencies | Unstable:
    """The distribution of latencies of an open loop of ``rate`` independent requests/s."""
    queue = solve(rate, service_times(service, requests, rate))
    if isinstance(queue, Unstable):
        return queue
    batch, weight = queue.batches()
    waited = np.zeros(len(batch))
    waited[-1] = 1.0
    keep = weight > 1e-7
    batch, weight, waited = batch[keep], weight[keep] / weight[keep].sum(), waited[keep]
    mean = float(batch @ weight)
    # An arrival adds itself to the batch, and keeps everybody else there for as long as its prompt takes.
    swing = 1 + service.busy(mean, requests, rate)
    batch = np.clip(mean + swing * (batch - mean), 1.0, float(service.places))
    some = _grid(service.places)
    first = np.interp(batch, some, service.ttft(some, requests, rate))
    each = np.interp(batch, some, service.itl(some, requests, rate))
    waiting = Waiting(weight, waited, np.full(len(batch), queue.capacity - rate))
    around = service.first_token_spread(requests, rate, mean)
    stall = service.stall(mean, requests, rate)
    e2e, tpot = _whole(requests, first, each, stall, waiting)
    return Latencies(queue, _first(first, around, waiting), e2e, tpot)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of each batch size: its probability, whether its requests waited for a place, and the decay of that wait, 1/s."""

    weight: FloatArray
    waited: FloatArray
    decay: FloatArray


def _first(first: FloatArray, around: Spread, waiting: Waiting) -> Mixture:
    base = Mixture(np.maximum(first - around.mean, 0.0), waiting.weight, waiting.waited, waiting.decay)
    return spread(base, around.values, around.weights)


def _whole(
    requests: Requests, first: FloatArray, each: FloatArray, stall: float, waiting: Waiting
) -> tuple[Mixture, Mixture]:
    """The whole answer, and its time per further token, for each length of the answer.

    Args:
        stall: standard deviation of how long prompts of others hold up an answer of mean length. Its square grows with
            the length, so that a short answer is held up more for each of its tokens.
    """
    whole, tokens = [], []
    usual = max(requests.output.mean - 1, 1.0)
    for output, share in zip(requests.output.values, requests.output.weights, strict=True):
        more = max(output - 1, 0.0)
        weight = waiting.weight * share
        held = skewed(more * float(each @ waiting.weight), stall * math.sqrt(more / usual))
        whole.append(
            spread(Mixture(first + more * each, weight, waiting.waited, waiting.decay), held.values, held.weights)
        )
        if more:
            none = np.zeros(len(each))
            tokens.append(spread(Mixture(each, weight, none, none + 1), held.values / more, held.weights))
    return joined(whole), joined(tokens or [Mixture(each, waiting.weight, np.zeros(len(each)), np.ones(len(each)))])


def joined(parts: Sequence[Mixture]) -> Mixture:
    """One mixture of several; their weights are scaled to add up to 1."""
    total = sum(float(p.weight.sum()) for p in parts)
    return Mixture(
        np.concatenate([p.offset for p in parts]),
        np.concatenate([p.weight for p in parts]) / total,
        np.concatenate([p.chance for p in parts]),
        np.concatenate([p.decay for p in parts]),
    )


def skewed(mean: float, deviation: float, parts: int = 10) -> Spread:
    """Deviations around 0 that are skewed as those of a sum of few delays are: of a gamma distribution of this mean."""
    if deviation <= 1e-6 * mean:
        return Spread(np.zeros(1), np.ones(1))
    shape = (mean / deviation) ** 2
    values = gammaincinv(shape, (np.arange(parts) + 0.5) / parts) * mean / shape
    return Spread((values - values.mean()) * (deviation / max(values.std(), 1e-12)), np.full(parts, 1 / parts))
