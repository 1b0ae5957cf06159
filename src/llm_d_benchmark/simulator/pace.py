"""How long the steps of one replica take: the cost model, times the replica's own slowness and noise."""

from __future__ import annotations

import math

import numpy as np

from .api import CostModel, FloatArray, StepLoad

BLOCK = 1024


class Pace:
    """Durations by the number of the step, so that they do not depend on how many steps are asked for at once.

    Args:
        factor: every step takes this many times as long.
        noise: relative standard deviation of a step's time (log-normal with mean 1).
        seed: of the noise; of each replica another.
    """

    def __init__(self, cost: CostModel, *, factor: float = 1.0, noise: float = 0.0, seed: int = 0) -> None:
        self._cost = cost
        self._factor = factor
        self._sigma = math.sqrt(math.log1p(noise * noise))
        self._seed = seed
        self._block = -1
        self._noise: FloatArray = np.empty(0)

    def step(self, load: StepLoad, number: int) -> float:
        """Seconds of step ``number``."""
        seconds = self._cost.step(load) * self._factor
        return seconds * float(self._draws(number, 1)[0]) if self._sigma else seconds

    def decode_steps(self, seqs: int, context: int, number: int, steps: int) -> FloatArray:
        """Seconds of ``steps`` steps from ``number`` on that only decode: shape (steps,)."""
        seconds = self._cost.decode_steps(seqs, context, steps)
        if self._factor != 1.0:
            seconds = seconds * self._factor
        return seconds * self._draws(number, steps) if self._sigma else seconds

    def _draws(self, number: int, steps: int) -> FloatArray:
        parts = []
        while steps:
            block, place = divmod(number, BLOCK)
            if block != self._block:
                rng = np.random.default_rng([self._seed, block])
                self._noise = np.exp(self._sigma * rng.standard_normal(BLOCK) - self._sigma**2 / 2)
                self._block = block
            count = min(steps, BLOCK - place)
            parts.append(self._noise[place : place + count])
            number, steps = number + count, steps - count
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
