"""Requests waiting for a replica: a birth-death process whose service rate depends on how many are in service.

State n: requests at the replica; ``min(n, N)`` of them are in service, each for ``T(min(n, N))`` seconds, so that
``mu_n = min(n, N) / T(min(n, N))`` requests leave per second. At ``rate >= mu_N`` there is no steady state: the queue
grows without end, and nothing is said of latencies but how fast it grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from .points import FloatArray

AVERAGED = 2 / 3
"""Variance of the batch as a request sees it on average while it is served, over that at one instant: arrivals are
independent and everybody stays about as long."""


@dataclass(frozen=True, slots=True)
class Unstable:
    """More arrives than leaves. ``backlog`` grows by so many requests per second; ``capacity`` is what leaves."""

    rate: float
    capacity: float

    @property
    def backlog(self) -> float:
        return self.rate - self.capacity

    @property
    def utilization(self) -> float:
        return self.rate / self.capacity


@dataclass(frozen=True, slots=True)
class Queue:
    """The steady state.

    Attributes:
        rate: requests/s that arrive.
        capacity: requests/s that leave when every place is taken.
        states: probability of finding 0 to N - 1 requests, shape (N,): of being served at once, in a batch of 1 to N.
        waits: probability of having to wait for a place.
        decay: 1/s; of the wait for a place, which is an exponential.
        in_service: mean requests in service.
    """

    rate: float
    capacity: float
    states: FloatArray
    waits: float
    decay: float
    in_service: float

    @property
    def utilization(self) -> float:
        return self.rate / self.capacity

    @property
    def waiting(self) -> float:
        """Mean requests that wait for a place."""
        return self.rate * self.mean_wait

    @property
    def mean_wait(self) -> float:
        """Seconds a request waits for a place, on average."""
        return self.waits / self.decay

    def wait_tail(self, seconds: float) -> float:
        """P(W > t). The sum over k >= N of p_k P(Erlang(k - N + 1, mu_N) > t) is geometric, hence an exponential."""
        return self.waits * float(np.exp(-self.decay * seconds))

    def batches(self) -> tuple[FloatArray, FloatArray]:
        """Batch size as a request meets it, averaged over its service, and the probability of each.

        Shapes (N + 1,); the last one is of the requests that waited, which are served in a full batch.
        """
        n = len(self.states)
        met = np.append(np.arange(1, n + 1, dtype=np.float64), float(n))
        weight = np.append(self.states, self.waits)
        mean = float(met @ weight)
        seen = mean + np.sqrt(AVERAGED) * (met - mean)
        seen[-1] = n
        return cast(FloatArray, np.clip(seen, 1.0, n)), weight


def solve(rate: float, seconds: FloatArray, dispersion: float = 1.0, service_scv: float = 1.0) -> Queue | Unstable:
    """The steady state at ``rate`` requests/s.

    Requests may come in groups whose members stay equally long. Their number in service varies as it does with
    exponential stays in groups of a geometric size, P(X > j) = g^j with g = 1 - 1 / dispersion. There as many pass from
    n to n + 1 as back, rate (1 - g) sum over k <= n of p_k g^(n - k) = mu_(n+1) p_(n+1), and what a request finds is a
    product as it is without groups: f_n ~ product over k <= n of (g + (1 - g) rate / mu_k). Beyond N the wait decays at
    2 (mu_N - rate) / (dispersion + service_scv), Kingman's heavy traffic limit, which is exact where both are 1.

    Args:
        seconds: T(n), the time in service of a request among n, for n = 1 to N; shape (N,).
        dispersion: E[X^2] / E[X] of the groups; 1: one by one.
        service_scv: squared coefficient of variation of the time in service.
    """
    n = np.arange(1, len(seconds) + 1)
    leaving = np.maximum.accumulate(n / seconds)  # a larger batch never serves less in all: it need not be used
    capacity = float(leaving[-1])
    if rate >= capacity * (1 - 1e-9):
        return Unstable(rate, capacity)
    ratio = 1 - (1 - rate / leaving) / dispersion
    log_f = np.concatenate([[0.0], np.cumsum(np.log(ratio))])  # of finding 0 to N requests
    f = np.exp(log_f - log_f.max())
    ends = min(1.0, 2 * (1 - rate / capacity) / (dispersion + service_scv))
    tail = f[-1] / ends  # of N and more
    total = float(f[:-1].sum() + tail)
    states, waits = f[:-1] / total, float(tail / total)
    in_service = rate * float(states @ (n / leaving) + waits * n[-1] / capacity)  # Little's law
    return Queue(rate, capacity, states, waits, ends * capacity, in_service)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A latency: a mixture of constants, each with a chance of an exponential on top. Arrays of one shape (n,).

    Attributes:
        offset: seconds.
        weight: probability of the component; they add up to 1.
        chance: probability that the exponential is there.
        decay: 1/s; of the exponential.
    """

    offset: FloatArray
    weight: FloatArray
    chance: FloatArray
    decay: FloatArray

    @property
    def mean(self) -> float:
        more = np.divide(self.chance, self.decay, out=np.zeros_like(self.chance), where=self.chance > 0)
        return float(self.weight @ (self.offset + more))

    def tail(self, seconds: float) -> float:
        """P(latency > seconds)."""
        over = np.maximum(seconds - self.offset, 0.0)
        after = self.chance * np.exp(-self.decay * over)
        return float(self.weight @ np.where(self.offset > seconds, 1.0, after))

    def quantile(self, share: float) -> float:
        """Seconds that ``share`` of the requests stay under."""
        low, high = 0.0, float(self.offset.max()) + 1e-9
        while self.tail(high) > 1 - share:
            low, high = high, high * 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.tail(middle) > 1 - share else (low, middle)
        return high


def spread(mixture: Mixture, values: FloatArray, weights: FloatArray) -> Mixture:
    """Each component once for each of several independent further constants, s, with their probabilities."""
    return Mixture(
        (mixture.offset[:, None] + values[None, :]).ravel(),
        (mixture.weight[:, None] * weights[None, :]).ravel(),
        np.repeat(mixture.chance, len(values)),
        np.repeat(mixture.decay, len(values)),
    )


def closed_loop(users: float, seconds: FloatArray) -> tuple[float, float]:
    """Requests/s and the wait for a place of a closed loop of so many users without think time.

    Args:
        seconds: T(n) for n = 1 to N.
    """
    places = len(seconds)
    served = min(users, float(places))
    at = float(np.interp(served, np.arange(1, places + 1), seconds))
    rate = served / at
    return rate, users / rate - at
