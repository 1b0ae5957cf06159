"""Prompts that wait at a replica, from step to step: a Markov chain.

The prompts that arrived during one step are computed in the next, as many as fit into it: an M/G/1 queue with gated
service (Takagi, Queueing Analysis, vol. 1, 1991). Of q prompts that wait when a step begins, it holds min(q, c) and
takes S(min(q, c)) seconds, and the next step finds q - min(q, c) + Poisson(rate S) of them. So a long step makes the
next one long as well: numbers that are independent of each other would make every tail too short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.special import gammaln

from ..perfmodel.points import FloatArray
from ..perfmodel.service import Interference, condensed

STATES = 40
"""The most prompts that wait, in this model."""
CRITICAL = 0.98
"""Of the prompts that full steps compute: beyond it the queue of prompts has no steady state worth the name."""
RESIDUAL = np.array([1, 3, 5, 7]) / 8
"""What is left of the step that a request meets: four equally likely parts."""


@dataclass(frozen=True, slots=True)
class PromptChain:
    """The steady state at each of n batch sizes.

    Attributes:
        rate: prompts/s.
        fit: prompts that a step holds, c.
        seconds: of a step by the prompts waiting at its beginning, shape (STATES + 1, n).
        moves: probabilities of how many wait at the next one, shape (n, STATES + 1, STATES + 1).
        share: probability of each number at the beginning of a step, shape (STATES + 1, n).
    """

    rate: float
    fit: int
    seconds: FloatArray
    moves: FloatArray
    share: FloatArray

    @property
    def step(self) -> FloatArray:
        """Mean seconds of a step, shape (n,)."""
        return cast(FloatArray, (self.share * self.seconds).sum(axis=0))

    @property
    def first_token(self) -> FloatArray:
        """Mean seconds from the arrival of a prompt to the end of the step that computes it, shape (n,).

        By Little's law over the prompts that are there: q during a step, and half of those that arrive in it.
        """
        queue = np.arange(len(self.share))[:, None]
        there = (self.share * self.seconds * (queue / self.rate + self.seconds / 2)).sum(axis=0)
        return cast(FloatArray, there / self.step)

    def interference(self, more: float) -> Interference:
        """What the prompts of others do to one request at the first of the batch sizes.

        A request meets a step with a probability that grows with its length. What its answer of ``more`` further
        tokens is held up by comes from the fundamental matrix Z of the chain (Kemeny and Snell, Finite Markov Chains,
        1960). With d = S - E[S] and g = Z d, the steps after one with q prompts take (P g)(q) s longer than as many
        steps do on average. Their sum is a martingale plus (P g)(q), whose increments have the variance
        h = P g^2 - (P g)^2: n steps vary by n E[h] + (Z (h - E[h]))(q) - 2 E[d P Z g] - Var[P g].
        """
        seconds, share, moves = self.seconds[:, 0], self.share[:, 0], self.moves[0]
        rest, after, weights = self._met(seconds, share)
        d = seconds - share @ seconds
        z = np.linalg.inv(np.eye(len(d)) - moves + share[None, :])
        g = z @ d
        pg = moves @ g
        later = pg - moves @ (np.linalg.matrix_power(moves, max(round(more), 0)) @ g)
        h = moves @ g**2 - pg**2
        begin = (z @ (h - share @ h))[after] @ weights / weights.sum()
        variance = more * (share @ h) + begin - 2 * share @ (d * (moves @ (z @ g))) - share @ pg**2
        held = more * float(share @ seconds - seconds[0])
        return condensed(rest, later[after], weights, held, float(np.sqrt(max(variance, 0.0))))

    def _met(self, seconds: FloatArray, share: FloatArray) -> tuple[FloatArray, np.typing.NDArray[np.intp], FloatArray]:
        """Seconds to the first token, the prompts waiting at the beginning of the step that makes it, and the
        probability, each flat over: prompts in the step that is met, what is left of it, prompts that arrive in it."""
        queue = np.arange(len(share))[:, None, None]
        left = RESIDUAL[None, :, None]
        arrive = np.arange(len(share))[None, None, :]
        length = seconds[:, None, None]
        behind = np.round(arrive * left)
        ahead = np.maximum(queue - self.fit, 0) + arrive - behind
        full = ahead // self.fit  # steps of others' prompts before that of one's own
        waiting = ahead - full * self.fit + 1 + behind + np.round(self.rate * full * seconds[-1])
        after = np.minimum(waiting, len(share) - 1).astype(np.intp)
        rest = left * length + full * seconds[-1] + seconds[after]
        chance = poisson(self.rate * seconds, len(share) - 1)  # [met, arrive]
        weights = (share * seconds)[:, None, None] * chance[:, None, :] / len(RESIDUAL) * np.ones_like(left)
        return rest.ravel(), after.ravel(), weights.ravel()


def chain(steps: FloatArray, fit: int, rate: float) -> PromptChain:
    """The steady state where ``rate`` prompts/s arrive.

    Args:
        steps: seconds of a step with 0, 1, ... prompts at each of n batch sizes, shape (k, n).
        fit: prompts that a step holds.
    """
    fit = min(fit, len(steps) - 1)
    states = np.arange(STATES + 1)
    seconds = steps[np.minimum(states, fit)]
    arrivals = np.moveaxis(poisson(rate * seconds, STATES), 0, 1)  # [n, waiting, arrive]
    moves = np.zeros_like(arrivals)
    for q in range(STATES + 1):
        left = max(q - fit, 0)
        moves[:, q, left:] = arrivals[:, q, : STATES + 1 - left]
    moves[:, :, -1] += 1 - moves.sum(axis=2)
    unit = np.eye(STATES + 1)
    balance = unit - np.swapaxes(moves, 1, 2) + 1.0  # (I - P^T + 1) share = 1
    share = np.linalg.solve(balance, np.ones((len(moves), STATES + 1, 1)))[..., 0].T
    return PromptChain(rate, fit, seconds, moves, np.maximum(share, 0.0) / np.maximum(share, 0.0).sum(axis=0))


def critical(steps: FloatArray, fit: int, rate: float) -> np.typing.NDArray[np.bool_]:
    """Where more prompts arrive than full steps compute, shape (n,)."""
    fit = min(fit, len(steps) - 1)
    return cast("np.typing.NDArray[np.bool_]", rate * steps[fit] > CRITICAL * fit)


def poisson(mean: FloatArray, most: int) -> FloatArray:
    """Probabilities of 0 to ``most`` on a last axis of their own, the last one of all beyond."""
    k = np.arange(most + 1)
    mean = mean[..., None]
    p = np.exp(k * np.log(np.maximum(mean, 1e-300)) - mean - gammaln(k + 1))
    p[..., -1] = np.maximum(1 - p[..., :-1].sum(axis=-1), 0.0)
    return cast(FloatArray, p)
