"""Designs that are fixed before anything is measured: every combination, random ones, spread ones. Pure."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.stats import qmc

from ..domain.study import Settings
from .plan import FULL
from .space import Space, key_of

TRIES = 20
"""Batches of a random design before it is taken that the space has no further combination."""


def design(space: Space, method: str, count: int, seed: int) -> list[Settings]:
    """Up to ``count`` different allowed configurations, in random order (so that drift is no factor's effect).

    Args:
        method: grid_search, factorial_design, random_search, latin_hypercube or sobol.
    """
    rng = np.random.default_rng(seed)
    if method in FULL:
        every = list(space.combinations())
        return [every[i] for i in rng.permutation(len(every))[:count]]
    return _distinct(space, _points(space, method, count, rng), count)


def _points(space: Space, method: str, count: int, rng: np.random.Generator) -> Iterator[Settings]:
    names = [d.name for d in space.dimensions]
    sobol = qmc.Sobol(len(names), seed=rng) if method == "sobol" else None
    for _ in range(TRIES):
        if method == "latin_hypercube":
            points = qmc.LatinHypercube(len(names), seed=rng).random(count)
        elif sobol is not None:
            with warnings.catch_warnings():
                # A count that is no power of two is a little less even, and is what was asked for.
                warnings.simplefilter("ignore", UserWarning)
                points = sobol.random(count)
        else:
            points = rng.random((count, len(names)))
        for point in points:
            values = [d.at(float(x)) for d, x in zip(space.dimensions, point, strict=True)]
            yield space.active(dict(zip(names, values, strict=True)))


def _distinct(space: Space, points: Iterable[Settings], count: int) -> list[Settings]:
    found: dict[str, Settings] = {}
    for settings in points:
        if space.allows(settings):
            found.setdefault(key_of(settings), settings)
        if len(found) == count:
            break
    return list(found.values())
