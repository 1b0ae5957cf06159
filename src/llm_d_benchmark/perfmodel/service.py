"""What a replica is to a queue: how long a request among n takes; and the latencies that follow at a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

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

    @property
    def scv(self) -> float:
        """Squared coefficient of variation."""
        return float(np.dot(np.square(self.values), self.weights)) / self.mean**2 - 1


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


GRID = 24
MOST_SKEWED = 0.05
"""Shape of a gamma distribution of which the parts still tell something."""
MOST_BUSY = 0.9
"""With prompts, as far as the batch's swing goes: beyond it nothing is steady within minutes."""


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

    def interference(self, batch: float, requests: Requests, rate: float) -> Interference:
        """What the prompts of others do to single requests among ``batch``; ``ttft`` and ``itl`` hold its mean."""
        ...


PARTS = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0])
"""A distribution is condensed to the mean of each of these parts: fine where percentiles are asked for."""
FINE = np.concatenate([np.arange(0, 80, 5), np.arange(80, 99), [99, 99.25, 99.5, 99.75, 100]]) / 100
"""Finer parts, for what decides alone: the time to the first token is a matter of a few steps, not of a sum of many."""
SHARES = np.diff(PARTS)
MIDDLES = (PARTS[1:] + PARTS[:-1]) / 2


@dataclass(frozen=True, slots=True)
class Interference:
    """What the prompts of others do to one request: a few kinds of arrival, arrays of shape (k,).

    Attributes:
        first: s; of the time to the first token, what waiting for these prompts makes differ.
        later: s; by how much longer than usual the answer takes after that, because of the prompts that it met.
        weights: probability of each.
        held: s; how long the prompts that come later hold up an answer of mean length, on average.
        stall: s; its standard deviation.
    """

    first: FloatArray
    later: FloatArray
    weights: FloatArray
    held: float
    stall: float


def condensed(first: FloatArray, later: FloatArray, weights: FloatArray, held: float, stall: float) -> Interference:
    """Of many kinds of arrival, in the order of ``first``, the means of ``FINE``."""
    order = np.argsort(first)
    first, later, weights = first[order], later[order], weights[order]
    return Interference(_means(first, weights, FINE), _means(later, weights, FINE), np.diff(FINE), held, stall)


def _means(values: FloatArray, weights: FloatArray, parts: FloatArray) -> FloatArray:
    """Of each part, in the order of the values."""
    until = np.append(0.0, np.cumsum(weights) / weights.sum())
    area = np.append(0.0, np.cumsum(values * np.diff(until)))
    return cast(FloatArray, np.diff(np.interp(parts, until, area)) / np.diff(parts))


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

    def interference(self, batch: float, requests: Requests, rate: float) -> Interference:
        found = self.base.interference(batch, requests, rate)
        itl = self.itl_factor
        held, stall = found.held * itl, found.stall * itl
        return Interference(found.first * self.ttft_factor, found.later * itl, found.weights, held, stall)


def _grid(places: int) -> FloatArray:
    """Batches from 1 to ``places``, each a little more than the last: latencies between them are interpolated."""
    return np.unique(np.round(np.geomspace(1, places, GRID)))


def service_times(service: Service, requests: Requests, rate: float | None) -> FloatArray:
    """T(n) for n = 1 to ``places``: to the first token, then one for each further token."""
    some = _grid(service.places)
    return _in_service(requests, some, service.ttft(some, requests, rate), service.itl(some, requests, rate))


def _in_service(requests: Requests, some: FloatArray, first: FloatArray, each: FloatArray) -> FloatArray:
    seconds = first + max(requests.output.mean - 1, 0.0) * each
    return np.interp(np.arange(1, some[-1] + 1), some, seconds)


def capacity(service: Service, requests: Requests) -> float:
    """Requests/s that a replica serves at most."""
    seconds = service_times(service, requests, None)
    return float((np.arange(1, len(seconds) + 1) / seconds).max())


TOGETHER = 0.5 / math.sqrt(2 / 3)
"""Correlation of the prompts that arrive while an answer is made with the batch that it meets: on average each of them
is in the batch for half of that time, and the batch's own variance over it is 2 / 3 (``queueing.AVERAGED``)."""


def latencies(service: Service, requests: Requests, rate: float) -> Latencies | Unstable:
    """The distribution of latencies of an open loop of ``rate`` independent requests/s.

    While prompts are computed nobody gets on with an answer, and those that arrive meanwhile are added to the batch:
    of the time that answers see, requests come in groups as large as a busy period of prompts, of which
    E[X^2] / E[X] = 1 / (1 - busy)^2 (Borel's distribution). The batch of requests that all stay about as long varies by
    that factor more than by independent arrivals; so does one of exponential stays in ``solve``'s geometric groups.
    """
    some = _grid(service.places)
    firsts, eachs = service.ttft(some, requests, rate), service.itl(some, requests, rate)
    seconds = _in_service(requests, some, firsts, eachs)
    queue = solve(rate, seconds)
    if isinstance(queue, Unstable):
        return queue
    busy = min(service.busy(queue.in_service, requests, rate), MOST_BUSY)
    queue = solve(rate, seconds, 1 / (1 - busy) ** 2, requests.output.scv)
    assert isinstance(queue, Queue)
    batch, weight = _few(*queue.batches())
    waited = np.zeros(len(batch))
    waited[-1] = 1.0
    first, each = np.interp(batch, some, firsts), np.interp(batch, some, eachs)
    apart = batch - batch @ weight
    swing = apart / max(math.sqrt(apart**2 @ weight), 1e-12)
    waiting = Waiting(weight, waited, np.full(len(batch), queue.decay), swing)
    others = service.interference(float(batch @ weight), requests, rate)
    return Latencies(queue, requests, first, each, others, waiting)


def _few(batch: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Batch sizes condensed to the means of ``PARTS``; the last one, of those that wait, stays apart."""
    served = float(weight[:-1].sum())
    return np.append(_means(batch[:-1], weight[:-1], PARTS), batch[-1]), np.append(SHARES * served, weight[-1])


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of each batch size: its probability, whether its requests waited for a place, and the decay of that wait, 1/s;
    and its distance from the mean, in standard deviations."""

    weight: FloatArray
    waited: FloatArray
    decay: FloatArray
    swing: FloatArray


@dataclass(frozen=True)
class Latencies:
    """What requests see at a rate that the replica keeps up with: ``ttft``, ``e2e`` and ``tpot`` as distributions.

    Attributes:
        first, each: s; to the first token and for each further one, by batch size, as ``waiting`` has them.
    """

    queue: Queue
    requests: Requests
    first: FloatArray
    each: FloatArray
    others: Interference
    waiting: Waiting

    @cached_property
    def ttft(self) -> Mixture:
        w = self.waiting
        return spread(Mixture(self._alone, w.weight, w.waited, w.decay), self.others.first, self.others.weights)

    @cached_property
    def e2e(self) -> Mixture:
        """Of each length of the answer."""
        w, (first, later) = self.waiting, self._met
        whole = []
        for more, share in self._answers:
            slow, held = self._slow(more)
            base = Mixture(self._alone + slow, w.weight * share, w.waited, w.decay)
            whole.append(spread(spread(base, first + later * bool(more), SHARES), held, SHARES))
        return joined(whole)

    @cached_property
    def tpot(self) -> Mixture:
        """Of the answers of more than one token."""
        w, (_, later) = self.waiting, self._met
        none = np.zeros(len(self.each))
        tokens = [Mixture(self.each, w.weight, none, none + 1)] if self.requests.output.mean <= 1 else []
        for more, share in self._answers:
            if more:
                slow, held = self._slow(more)
                met = spread(Mixture(slow / more, w.weight * share, none, none + 1), later / more, SHARES)
                tokens.append(spread(met, held / more, SHARES))
        return joined(tokens)

    def of(self, metric: str) -> Mixture:
        """The distribution of ttft, tpot, itl (as tpot) or e2e."""
        found: Mixture = getattr(self, "tpot" if metric == "itl" else metric)
        return found

    def at(self, metric: str, statistic: str) -> float:
        """Seconds of ttft, tpot, itl (as tpot) or e2e: mean, p50, p90, p95, p99, p99.9."""
        found = self.of(metric)
        return found.mean if statistic == "mean" else found.quantile(float(statistic[1:]) / 100)

    @property
    def _alone(self) -> FloatArray:
        """Seconds to the first token without the prompts of others."""
        return np.maximum(self.first - self.others.first @ self.others.weights, 0.0)

    @cached_property
    def _met(self) -> tuple[FloatArray, FloatArray]:
        """What the prompts of others do, condensed to ``PARTS``: for the sum of many steps that is enough."""
        o = self.others
        return _means(o.first, o.weights, PARTS), _means(o.later, o.weights, PARTS)

    @property
    def _answers(self) -> list[tuple[float, float]]:
        """Tokens after the first, and the probability of so many."""
        output = self.requests.output
        return [(max(tokens - 1, 0.0), share) for tokens, share in zip(output.values, output.weights, strict=True)]

    def _slow(self, more: float) -> tuple[FloatArray, FloatArray]:
        """Seconds for further tokens by batch size, and the deviations from that by ``PARTS``.

        The square of ``others.stall``, which is that of an answer of mean length, grows with the length, so that a
        short answer is held up more for each of its tokens.
        """
        usual = max(self.requests.output.mean - 1, 1.0)
        stall = self.others.stall * math.sqrt(more / usual)
        held = skewed(self.others.held * more / usual, stall * math.sqrt(1 - TOGETHER**2))
        return more * self.each + TOGETHER * stall * self.waiting.swing, held


def joined(parts: Sequence[Mixture]) -> Mixture:
    """One mixture of several; their weights are scaled to add up to 1."""
    total = sum(float(p.weight.sum()) for p in parts)
    return Mixture(
        np.concatenate([p.offset for p in parts]),
        np.concatenate([p.weight for p in parts]) / total,
        np.concatenate([p.chance for p in parts]),
        np.concatenate([p.decay for p in parts]),
    )


def skewed(mean: float, deviation: float) -> FloatArray:
    """Deviations around 0 that are skewed as those of a sum of few delays are: of a gamma distribution of this mean.

    One for each of ``PARTS``.
    """
    if deviation <= 1e-6 * mean:
        return np.zeros(len(SHARES))
    values = gammaincinv(max((mean / deviation) ** 2, MOST_SKEWED), MIDDLES)
    values -= values @ SHARES
    return cast(FloatArray, values * (deviation / math.sqrt(values**2 @ SHARES)))
