"""Choosing a curve and judging it: by configurations that are held out as a whole."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..domain.errors import ConfigError
from .curves import FEWEST_LEVELS, Curve, Fit
from .points import FloatArray

NOMINAL = 0.90
"""Of the intervals: what a new measurement falls into."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a curve predicts configurations it was not fitted to.

    Attributes:
        candidate: the form that was chosen.
        error: mean absolute relative error of the configurations held out inside the range of the others.
        worst: the greatest of these.
        edge_error: mean over those held out at the edge, which the others have to extrapolate to; None without any.
        coverage: share of all held-out values inside the nominal 90 % interval made without them.
        held_out: configurations held out inside.
        candidates: error of each form that was tried.
    """

    candidate: str
    error: float
    worst: float
    edge_error: float | None
    coverage: float
    held_out: int
    candidates: Mapping[str, float]
    nominal: float = NOMINAL


@dataclass(frozen=True, slots=True)
class Fitted:
    """A curve with its error: ``spread`` is the standard deviation of log(measured / predicted) of held-out values,
    with so many degrees of ``freedom``."""

    curve: Curve
    quality: Quality
    spread: float
    freedom: int

    def factor(self, nominal: float = NOMINAL, *, one_sided: bool = False) -> float:
        """What the prediction is multiplied with (and divided by) for its limits."""
        tail = nominal if one_sided else (1 + nominal) / 2
        return float(np.exp(stats.t.ppf(tail, self.freedom) * self.spread))


@dataclass(frozen=True, slots=True)
class Observed:
    """Seconds ``y`` at ``b`` requests in flight and a length ``s``, shapes (n,), each of a configuration ``group``."""

    b: FloatArray
    s: FloatArray
    y: FloatArray
    group: Sequence[Hashable]


def choose(what: str, candidates: Mapping[str, Fit], seen: Observed) -> Fitted:
    """The candidate with the least error on configurations held out; fitted to all points.

    Raises:
        ConfigError: fewer than 4 levels of load.
    """
    groups = list(dict.fromkeys(seen.group))
    levels = len({g[0] if isinstance(g, tuple) else g for g in groups})
    if levels < FEWEST_LEVELS:
        raise ConfigError(
            f"the performance model needs at least {FEWEST_LEVELS} levels of load below saturation for {what}, and "
            f"there are {levels}",
            advice="measure more levels: spec.benchmark.load_generators.0.config.stages with concurrency 1, 4, 16, 64",
        )
    tried = {name: _held_out(fit, seen, groups) for name, fit in candidates.items()}
    errors = {name: _mean_error(held) for name, held in tried.items()}
    best = min(errors, key=lambda name: errors[name])
    return _judged(best, candidates[best], tried[best], seen, errors)


@dataclass(frozen=True, slots=True)
class _Held:
    """Of each configuration in turn: log(measured / predicted) without it, and whether it lay inside the others."""

    errors: Sequence[FloatArray]
    inside: Sequence[bool]


def _held_out(fit: Fit, seen: Observed, groups: Sequence[Hashable]) -> _Held:
    errors, inside = [], []
    for group in groups:
        out = np.array([g == group for g in seen.group])
        rest = ~out
        curve = fit(seen.b[rest], seen.s[rest], seen.y[rest])
        predicted = np.maximum(curve(seen.b[out], seen.s[out]), 1e-12)
        errors.append(np.log(seen.y[out] / predicted))
        inside.append(bool(_within(seen.b, out) and _within(seen.s, out)))
    return _Held(errors, inside)


def _within(x: FloatArray, out: np.typing.NDArray[np.bool_]) -> bool:
    slack = 1.05
    return bool(x[~out].min() / slack <= x[out].min() and x[out].max() <= x[~out].max() * slack)


def _mean_error(held: _Held) -> float:
    found = [float(np.mean(np.abs(np.expm1(-e)))) for e, inside in zip(held.errors, held.inside, strict=True) if inside]
    return float(np.mean(found)) if found else float("inf")


def _judged(name: str, fit: Fit, held: _Held, seen: Observed, errors: Mapping[str, float]) -> Fitted:
    inner = [e for e, inside in zip(held.errors, held.inside, strict=True) if inside]
    outer = [e for e, inside in zip(held.errors, held.inside, strict=True) if not inside]
    freedom = max(1, len(inner) - 1)
    spread = _spread(inner)
    covered = []
    for i, e in enumerate(inner):
        others = inner[:i] + inner[i + 1 :]
        if others:
            limit = stats.t.ppf((1 + NOMINAL) / 2, max(1, len(others) - 1)) * _spread(others)
            covered += list(np.abs(e) <= limit)
    relative = [np.abs(np.expm1(-e)) for e in inner]
    quality = Quality(
        candidate=name,
        error=errors[name],
        worst=float(max(r.max() for r in relative)),
        edge_error=float(np.mean([np.mean(np.abs(np.expm1(-e))) for e in outer])) if outer else None,
        coverage=float(np.mean(covered)) if covered else 0.0,
        held_out=len(inner),
        candidates=errors,
    )
    return Fitted(fit(seen.b, seen.s, seen.y), quality, spread, freedom)


def _spread(errors: Sequence[FloatArray]) -> float:
    """Root mean square, each configuration counting once; never so small that an interval would be a point."""
    return max(float(np.sqrt(np.mean([np.mean(e * e) for e in errors]))), 1e-4)
