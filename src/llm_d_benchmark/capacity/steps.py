"""A replica known by the cost of its engine's steps, as ``perfmodel.service.Service``: without any measured level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np

from ..perfmodel.points import FloatArray
from ..perfmodel.service import Interference, Requests
from ..simulator.api import StepLoad
from ..simulator.cost import StepCost
from ..simulator.engine import EngineLimits
from .prompts import STATES, chain, critical, poisson

LONGEST = 50.0
"""Times a step without prompts: what stands for steps where prompts come faster than they are computed."""
FEWEST_PROMPTS = 8
"""That the table of steps goes up to."""
COLUMNS = 48
ROUNDS = 5
HALVINGS = 24


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
        steps = _at(self._table(requests), batch)
        if rate is None:
            return _mean_step(steps, self._leaving(batch, requests))
        return self._open(steps, batch, requests, rate)[0]

    def ttft(self, batch: FloatArray, requests: Requests, rate: float | None) -> FloatArray:
        table = self._table(requests)
        if rate is None:
            return _first(table, batch, self._leaving(batch, requests))
        alone = _at(table, np.zeros_like(batch))[1]
        first = self._open(_at(table, np.maximum(batch - 1, 0.0)), batch, requests, rate)[1]
        return np.where(batch > 1, first, alone)

    def _open(
        self, steps: FloatArray, batch: FloatArray, requests: Requests, rate: float
    ) -> tuple[FloatArray, FloatArray]:
        """Mean seconds of a step, and to the first token, where prompts come at random: shapes (n,)."""
        fit = self._fit(float(batch.max()), requests)
        over = critical(steps, fit, rate) | (steps[0] <= 0)
        step, first = LONGEST * steps[1], LONGEST * steps[1]
        if not over.all():
            found = chain(steps[:, ~over], fit, rate)
            step[~over], first[~over] = found.step, found.first_token
        return step, first

    def _fit(self, batch: float, requests: Requests) -> int:
        """Prompts that a step holds beside a batch."""
        return max(1, int((self.limits.max_num_batched_tokens - batch) / requests.input.mean))

    def _leaving(self, batch: FloatArray, requests: Requests) -> FloatArray:
        """Requests/s of a closed loop: as many arrive as leave, by Little's law; found by bisection."""
        table = self._table(requests)
        more = max(requests.output.mean - 1, 0.0)
        low, high = np.zeros_like(batch), batch / table[1, 0]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            whole = _first(table, batch, middle) + more * _mean_step(_at(table, batch), middle)
            below = middle * whole < batch
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return low

    def busy(self, batch: float, requests: Requests, rate: float) -> float:
        steps = _at(self._table(requests), np.full(1, batch))[:, 0]
        return float(min(rate * (steps[1] - steps[0]), 1.0))

    def interference(self, batch: float, requests: Requests, rate: float) -> Interference:
        """Of the chain of prompts; nothing on an idle replica."""
        steps, fit = _at(self._table(requests), np.full(1, max(batch - 1, 0.0))), self._fit(batch, requests)
        if batch <= 1 or critical(steps, fit, rate)[0]:
            return Interference(np.zeros(1), np.zeros(1), np.ones(1), 0.0, 0.0)
        return chain(steps, fit, rate).interference(requests.output.mean - 1)

    def _table(self, requests: Requests) -> FloatArray:
        return _step_table(self.cost, self.limits, round(requests.input.mean), requests.context)


def _first(table: FloatArray, batch: FloatArray, rates: FloatArray) -> FloatArray:
    """Mean TTFT of a closed loop: alone at once; else the rest of the step that was met, a long one more often, and
    the next."""
    steps = _at(table, np.maximum(batch - 1, 0.0))
    chance = _chance(steps, rates * _mean_step(steps, rates))
    met = (chance * steps * steps).sum(axis=0) / np.maximum((chance * steps).sum(axis=0), 1e-12)
    own = np.concatenate([steps[1:], steps[-1:] + _grows(steps)[-1:]])
    second = (_chance(steps, rates * met) * own).sum(axis=0)
    return cast(FloatArray, np.where(batch > 1, met / 2 + second, steps[1]))


def _chance(steps: FloatArray, mean: FloatArray) -> FloatArray:
    """Of each number of prompts, where as many leave as arrive and numbers do not depend on each other."""
    return poisson(mean, len(steps) - 1).T


def _grows(steps: FloatArray) -> FloatArray:
    """What one more prompt adds to a step; beyond the table what the prompts in it add on average."""
    return np.concatenate([np.diff(steps, axis=0), (steps[-1:] - steps[1:2]) / (len(steps) - 2)])


def _mean_step(steps: FloatArray, rates: FloatArray) -> FloatArray:
    """Mean seconds of a step in a closed loop: steps by prompts and batch, shape (k, n), rates (n,)."""
    grows = _grows(steps)
    length = steps[0]
    for _ in range(ROUNDS):  # of Newton's method
        mean = rates * length
        chance = _chance(steps, mean)
        beyond = np.maximum(mean - (chance * np.arange(len(steps))[:, None]).sum(axis=0), 0.0)
        error = (chance * steps).sum(axis=0) + beyond * grows[-1] - length
        slope = rates * (chance * grows).sum(axis=0)
        length = np.clip(length + error / np.maximum(1 - slope, 0.01), steps[0], LONGEST * steps[0])
    return cast(FloatArray, length)


def _at(table: FloatArray, batch: FloatArray) -> FloatArray:
    """Columns of the table, between whole batches too: shape (k, n)."""
    low = np.clip(np.floor(batch).astype(int), 0, table.shape[1] - 1)
    high = np.minimum(low + 1, table.shape[1] - 1)
    share = batch - low
    return cast(FloatArray, table[:, low] * (1 - share) + table[:, high] * share)


@lru_cache(maxsize=64)
def _step_table(cost: StepCost, limits: EngineLimits, tokens: int, context: float) -> FloatArray:
    """Seconds by prompts and sequences that decode (0 to ``max_num_seqs``); between some of these, by interpolation.

    Prompts that do not fit a step take several: what they add to all of them counts.
    """
    prompts = range(min(STATES, max(FEWEST_PROMPTS, limits.max_num_batched_tokens // tokens)) + 1)
    most = limits.max_num_seqs
    batches = np.unique(np.append(0, np.round(np.geomspace(1, most, COLUMNS)))).astype(int).tolist()
    some = [[_seconds(cost, limits, k * tokens, tokens, b, context) for b in batches] for k in prompts]
    return np.array([np.interp(np.arange(most + 1), batches, row) for row in some])


def _seconds(cost: StepCost, limits: EngineLimits, tokens: int, prompt: int, batch: int, context: float) -> float:
    alone = cost.step(StepLoad(0, 0.0, batch, round(batch * context))) if batch else 0.0
    seconds, done = alone, 0
    while done < tokens:
        part = max(1, min(tokens - done, limits.max_num_batched_tokens - batch))
        pairs = part * min(done % prompt + (part + 1) / 2, prompt / 2 if part >= prompt else prompt)
        seconds += cost.step(StepLoad(part, pairs, batch, round(batch * context))) - alone
        done += part
    return seconds
