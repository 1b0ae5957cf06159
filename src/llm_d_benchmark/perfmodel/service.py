"""What a replica is to a queue: how long a request among n takes; and the latencies that follow at a rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .points import FloatArray
from .queueing import Mixture, Queue, Unstable, solve


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

    def first_token_wait(self, requests: Requests, rate: float) -> tuple[float, float]:
        """Chance of waiting for the prompts of others, and the decay (1/s) of that wait; part of ``ttft``'s mean."""
        ...


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

    def first_token_wait(self, requests: Requests, rate: float) -> tuple[float, float]:
        chance, decay = self.base.first_token_wait(requests, rate)
        return chance, decay / self.ttft_factor


@dataclass(frozen=True, slots=True)
class Latencies:
    """What requests see at a rate that the replica keeps up with."""

    queue: Queue
    ttft: Mixture
    e2e: Mixture
    tpot: Mixture

    def at(self, metric: str, statistic: str) -> float:
        """Seconds of ttft, tpot, itl (as tpot) or e2e: mean, p50, p90, p95, p99, p99.9."""
        found: Mixture = getattr(self, "tpot" if metric == "itl" else metric)
        return found.mean if statistic == "mean" else found.quantile(float(statistic[1:]) / 100)


def service_times(service: Service, requests: Requests, rate: float | None) -> FloatArray:
    """T(n) for n = 1 to ``places``: to the first token, then one for each further token."""
    batch = np.arange(1, service.places + 1, dtype=np.float64)
    more = max(requests.output.mean - 1, 0.0)
    return service.ttft(batch, requests, rate) + more * service.itl(batch, requests, rate)


def capacity(service: Service, requests: Requests) -> float:
    """Requests/s that a replica serves at most."""
    seconds = service_times(service, requests, None)
    return float((np.arange(1, len(seconds) + 1) / seconds).max())


def latencies(service: Service, requests: Requests, rate: float) -> Latencies | Unstable:
    """The distribution of latencies of an open loop of ``rate`` independent requests/s."""
    most = capacity(service, requests)
    if rate >= most:
        return Unstable(rate, most)
    queue = solve(rate, service_times(service, requests, rate))
    if isinstance(queue, Unstable):
        return queue
    batch, weight = queue.batches()
    waited = np.zeros(len(batch))
    waited[-1] = 1.0
    keep = weight > 1e-9
    batch, weight, waited = batch[keep], weight[keep] / weight[keep].sum(), waited[keep]
    slack = np.full(len(batch), queue.capacity - rate)
    first = service.ttft(batch, requests, rate)
    each = service.itl(batch, requests, rate)
    return Latencies(
        queue,
        _first(service, requests, rate, first, weight, waited, slack),
        _whole(requests, first, each, weight, waited, slack),
        Mixture(each, weight, np.zeros(len(batch)), np.ones(len(batch))),
    )


def _first(
    service: Service,
    requests: Requests,
    rate: float,
    first: FloatArray,
    weight: FloatArray,
    waited: FloatArray,
    slack: FloatArray,
) -> Mixture:
    """Those who waited for a place wait by the queue; the others for the prompts of others."""
    chance, decay = service.first_token_wait(requests, rate)
    base = np.where(waited > 0, first, np.maximum(first - chance / decay, 0.0))
    return Mixture(base, weight, np.where(waited > 0, 1.0, chance), np.where(waited > 0, slack, decay))


def _whole(
    requests: Requests,
    first: FloatArray,
    each: FloatArray,
    weight: FloatArray,
    waited: FloatArray,
    slack: FloatArray,
) -> Mixture:
    outputs = np.asarray(requests.output.values)
    offset = first[:, None] + np.maximum(outputs - 1, 0.0)[None, :] * each[:, None]
    share = weight[:, None] * np.asarray(requests.output.weights)[None, :]
    many = len(outputs)
    return Mixture(offset.ravel(), share.ravel(), np.repeat(waited, many), np.repeat(slack, many))
