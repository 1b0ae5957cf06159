"""A replica known by the cost of its engine's steps, as ``perfmodel.service.Service``: without any measured level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from scipy.special import gammaln

from ..perfmodel.points import FloatArray
from ..perfmodel.service import Requests, Spread
from ..simulator.api import StepLoad
from ..simulator.cost import StepCost
from ..simulator.engine import EngineLimits

RESIDUAL = np.array([1, 3, 5, 7]) / 8
"""Where in the step under way a request arrives: four equally likely places."""
PROMPTS = 8
"""Prompts that one step may hold, at most, in this model."""
LONGEST = 50.0
"""Times a step without prompts: where it would be longer still, prompts come faster than they are computed."""
ROUNDS = 5
HALVINGS = 24
PARTS = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0])
"""A distribution is condensed to the mean of each of these parts: fine where percentiles are asked for."""


@dataclass(frozen=True, slots=True)
class StepService:
    """One replica that makes steps: every sequence of the batch gets a token in each, and the prompts that arrived
    during one step are computed in the next, a Poisson number of them.

    The length of a step with k prompts comes from the cost model, so that two prompts in one step cost what they do
    together. How long a step is and how many prompts arrive in it determine each other.
    """

    cost: StepCost
    limits: EngineLimits
    requests: Requests

    @property
    def places(self) -> int:
        """The smaller of ``max_num_seqs`` and of what the KV cache holds of mean sequences."""
        tokens = self.limits.num_gpu_blocks * self.limits.block_size
        return max(1, min(self.limits.max_num_seqs, int(tokens / (self.requests.context + self.limits.block_size / 2))))

    def itl(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        table = self._table(requests)
        return _mean_step(_at(table, batch), self._rates(table, batch, requests, rate))

    def ttft(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        table = self._table(requests)
        return self._first(table, batch, self._rates(table, batch, requests, rate))

    def _rates(self, table: FloatArray, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        """Requests/s that arrive; of a closed loop those that leave, by Little's law: found by bisection."""
        if rate is not None:
            return np.full_like(batch, rate)
        more = max(requests.output.mean - 1, 0.0)
        low, high = np.zeros_like(batch), batch / table[1, 0]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            whole = self._first(table, batch, middle) + more * _mean_step(_at(table, batch), middle)
            below = middle * whole < batch
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return low

    def busy(self, batch: float, requests: Requests, rate: float) -> float:
        steps = _at(self._table(requests), np.full(1, batch))[:, 0]
        return float(min(rate * (steps[1] - steps[0]), 1.0))

    def stall(self, batch: float, requests: Requests, rate: float) -> float:
        """Decoding is held up by prompts as low priority is by high: the variance of a delay busy period."""
        steps = _at(self._table(requests), np.full(1, batch))[:, 0]
        prompt = float(steps[1] - steps[0])
        busy = min(rate * prompt, 0.9)
        work = max(requests.output.mean - 1, 0.0) * float(steps[0])
        return float(prompt * np.sqrt(rate * work / (1 - busy) ** 3))

    def first_token_spread(self, requests: Requests, rate: float, batch: float) -> Spread:
        """The rest of the step under way, then one's own with the other prompts that arrived by its beginning."""
        if batch <= 1:
            return Spread(np.zeros(1), np.ones(1))
        steps = _at(self._table(requests), np.full(1, batch - 1))
        length = _mean_step(steps, np.full(1, rate))
        met = _poisson(rate * length)[:, 0] * steps[:, 0]
        met = met / met.sum()
        others = _poisson(rate * steps[:, 0])  # [prompts beside one's own, step that was met]
        own = np.append(steps[1:, 0], 2 * steps[-1, 0] - steps[-2, 0])
        values = RESIDUAL[None, None, :] * steps[:, 0][None, :, None] + own[:, None, None]
        weights = others[:, :, None] * met[None, :, None] / len(RESIDUAL) * np.ones_like(RESIDUAL)
        return _condensed(values.ravel(), weights.ravel())

    def _table(self, requests: Requests) -> FloatArray:
        return _step_table(self.cost, self.limits, round(requests.input.mean), requests.context)

    def _first(self, table: FloatArray, batch: FloatArray, rates: FloatArray) -> FloatArray:
        """Mean TTFT: alone at once; else the rest of the step that was met, a long one more often, and the next."""
        steps = _at(table, np.maximum(batch - 1, 0.0))
        length = _mean_step(steps, rates)
        chance = _poisson(rates * length)
        met = (chance * steps * steps).sum(axis=0) / np.maximum((chance * steps).sum(axis=0), 1e-12)
        each = (steps[-1] - steps[1]) / (PROMPTS - 1)
        second = np.where(rates * met > 0, steps[1] + _more(steps, rates * met, each), steps[1])
        return cast(FloatArray, np.where(batch > 1, met / 2 + second, steps[1]))


def _more(steps: FloatArray, mean: FloatArray, each: FloatArray) -> FloatArray:
    """What a Poisson number of further prompts adds to a step that holds one."""
    own = np.concatenate([steps[1:], steps[-1:] + each])
    return cast(FloatArray, (_poisson(mean) * own).sum(axis=0) - steps[1])


def _poisson(mean: FloatArray) -> FloatArray:
    """Probabilities of 0 to ``PROMPTS``, the last one of all beyond; shape (PROMPTS + 1, *mean.shape)."""
    k = np.arange(PROMPTS + 1).reshape(-1, *[1] * mean.ndim)
    p = np.exp(k * np.log(np.maximum(mean, 1e-300)) - mean - gammaln(k + 1))
    p[-1] = np.maximum(1 - p[:-1].sum(axis=0), 0.0)
    return cast(FloatArray, p)


def _mean_step(steps: FloatArray, rates: FloatArray) -> FloatArray:
    """Mean seconds of a step when ``rates`` prompts/s arrive: steps (PROMPTS + 1, n), rates (n,).

    Beyond the prompts of the table a step grows with each as it does at its end.
    """
    each = (steps[-1] - steps[1]) / (PROMPTS - 1)
    grows = np.concatenate([np.diff(steps, axis=0), each[None]])
    length = steps[0]
    for _ in range(ROUNDS):  # of Newton's method
        mean = rates * length
        chance = _poisson(mean)
        beyond = np.maximum(mean - (chance * np.arange(PROMPTS + 1)[:, None]).sum(axis=0), 0.0)
        error = (chance * steps).sum(axis=0) + beyond * each - length
        slope = rates * (chance * grows).sum(axis=0)
        length = np.clip(length + error / np.maximum(1 - slope, 0.01), steps[0], LONGEST * steps[0])
    return cast(FloatArray, length)


def _at(table: FloatArray, batch: FloatArray) -> FloatArray:
    """Columns of the table, between whole batches too: shape (PROMPTS + 1, n)."""
    low = np.clip(np.floor(batch).astype(int), 0, table.shape[1] - 1)
    high = np.minimum(low + 1, table.shape[1] - 1)
    share = batch - low
    return cast(FloatArray, table[:, low] * (1 - share) + table[:, high] * share)


def _condensed(values: FloatArray, weights: FloatArray) -> Spread:
    """A distribution as the means of ``PARTS``."""
    order = np.argsort(values)
    values, until = values[order], np.cumsum(weights[order]) / weights.sum()
    area = np.concatenate([[0.0], np.cumsum(values * np.diff(until, prepend=0.0))])
    cuts = np.interp(PARTS, np.append(0.0, until), area)
    share = np.diff(PARTS)
    return Spread(np.diff(cuts) / share, share)


@lru_cache(maxsize=64)
def _step_table(cost: StepCost, limits: EngineLimits, tokens: int, context: float) -> FloatArray:
    """Seconds by prompts (0 to ``PROMPTS``) and sequences that decode (0 to ``max_num_seqs``).

    Prompts that do not fit a step take several: what they add to all of them counts.
    """
    return np.array(
        [[_seconds(cost, limits, k * tokens, tokens, b, context) for b in range(limits.max_num_seqs + 1)]
         for k in range(PROMPTS + 1)]
    )  # fmt: skip


def _seconds(cost: StepCost, limits: EngineLimits, tokens: int, prompt: int, batch: int, context: float) -> float:
    alone = cost.step(StepLoad(0, 0.0, batch, round(batch * context))) if batch else 0.0
    seconds, done = alone, 0
    while done < tokens:
        part = max(1, min(tokens - done, limits.max_num_batched_tokens - batch))
        pairs = part * min(done % prompt + (part + 1) / 2, prompt / 2 if part >= prompt else prompt)
        seconds += cost.step(StepLoad(part, pairs, batch, round(batch * context))) - alone
        done += part
    return seconds
