"""How much so many replicas serve together: linearly, or by the Universal Scalability Law where it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

FEWEST = 4
MOST = 100_000


@dataclass(frozen=True, slots=True)
class Scaling:
    """R replicas serve R / (1 + sigma (R - 1) + kappa R (R - 1)) times what one does.

    Attributes:
        sigma: contention; kappa: coherence. Both 0: linear.
        name: what it rests on.
    """

    sigma: float = 0.0
    kappa: float = 0.0
    name: str = "linear, unverified"

    def times(self, replicas: int) -> float:
        """What so many replicas serve, in replicas' worth."""
        more = replicas - 1
        return replicas / (1 + self.sigma * more + self.kappa * replicas * more)

    @property
    def best(self) -> float:
        """The number beyond which more replicas serve less; infinite where there is none."""
        return math.sqrt((1 - self.sigma) / self.kappa) if self.kappa > 0 else math.inf

    def replicas(self, worth: float) -> int | None:
        """The fewest that serve ``worth`` replicas' worth; None where none do."""
        if not (self.sigma or self.kappa):
            return max(1, math.ceil(worth - 1e-9))
        for r in range(max(1, math.ceil(worth - 1e-9)), int(min(self.best + 1, MOST)) + 1):
            if self.times(r) >= worth - 1e-9:
                return r
        return None


LINEAR = Scaling()


def fit_scaling(replicas: Sequence[int], throughput: Sequence[float]) -> Scaling:
    """Of throughputs measured at several replica counts, at saturation; linear with fewer than four counts.

    X1 R / X is linear in sigma and kappa once it is multiplied out: R / X = (1 + sigma (R - 1) + kappa R (R - 1)) / X1.
    """
    if len(set(replicas)) < FEWEST:
        return LINEAR
    r, x = np.asarray(replicas, np.float64), np.asarray(throughput, np.float64)
    features = np.stack([np.ones_like(r), r - 1, r * (r - 1)], axis=1) * (x / r)[:, None]
    found = lsq_linear(features, np.ones(len(r)), bounds=(0, np.inf)).x
    sigma, kappa = float(found[1] / found[0]), float(found[2] / found[0])
    error = float(np.mean(np.abs(features @ found - 1)))
    name = f"Universal Scalability Law, {len(set(replicas))} replica counts, mean error {error:.1%}"
    return Scaling(min(sigma, 1.0), kappa, name)
