"""Which factor matters and which is inert: main effects and two-way interactions with bootstrap limits. Pure.

A linear model of the metric (of its logarithm where every value is above 0): every factor by its levels, coded so that
main effects are averages over the other factors' levels; interactions level by level where the runs suffice, else
linear by linear for ordered factors, else none. Rounds of runs are blocks. Limits are from a studentised bootstrap,
simultaneous over the levels of a factor: with many runs a wild one, whose standard errors hold where the noise differs
from place to place (HC2; Davidson and Flachaire 2008); with few the residuals are taken to be alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..config.aliases import parse_metric
from ..domain.study import EffectVerdict, FactorEffect, Interaction, LevelMean, StudyMeasurement, Value
from .space import Dimension, Space

Array = NDArray[np.float64]
DRAWS = 999
LEVEL = 0.95
BINS = 4
MOST_LEVELS = 8
SPARE = 4
"""Residual degrees of freedom that interactions have to leave."""
MANY = 20
"""Residual degrees of freedom from which on the noise may differ from place to place."""
NOTHING = 1e-9
"""A standard error below this, on the scale of the model, is rounding: the runs agree exactly."""


Crossing = Literal["levels", "linear", "none"]
_CROSSINGS: tuple[Crossing, ...] = ("levels", "linear", "none")
"""How two factors are crossed: every level with every level; ordered ones as one number; not at all."""


@dataclass(frozen=True, slots=True)
class _Coded:
    """A factor as columns: ``codes`` (levels x columns) sum to zero; ``score`` from -1 to 1 where it is ordered."""

    dimension: Dimension
    labels: Sequence[str]
    at: NDArray[np.int64]
    codes: Array
    score: Array | None

    @property
    def columns(self) -> Array:
        return self.codes[self.at]


def effects(
    space: Space, runs: Sequence[StudyMeasurement], metric: str, *, inert_below: float, seed: int = 0
) -> tuple[list[FactorEffect], list[Interaction], list[str]]:
    """Effects of every factor that took more than one value, interactions where the runs suffice, and notes.

    Args:
        runs: of the search; those without the metric are left out.
        inert_below: a change of less than this fraction does not matter.
    """
    used = [r for r in runs if r.state == "ok" and r.settings is not None and metric in r.values]
    factors = [f for f in (_coded(d, used) for d in space.dimensions) if f is not None]
    y = np.array([r.values[metric] for r in used])
    if not factors:
        return [], [], []
    relative = bool(np.all(y > 0))
    response = np.log(y) if relative else y
    blocks = _blocks(used)
    fit = next((f for c in _CROSSINGS if (f := _Fit.make(factors, blocks, response, c)) is not None), None)
    if fit is None:
        return [], [], [f"{metric}: {len(used)} runs are too few for effects of {len(factors)} factors"]
    notes = []
    if len(factors) > 1 and not fit.pairs:
        notes.append(f"{metric}: too few runs for interactions; effects are averages that leave them out")
    margin = math.log1p(inert_below) if relative else inert_below * max(float(np.mean(np.abs(y))), NOTHING)
    judge = _Judge(metric, relative, margin, fit, np.random.default_rng([seed, 7]))
    main = [e for e in (judge.main(f) for f in factors) if e is not None]
    pairs = itertools.combinations(factors, 2) if fit.pairs else ()
    crossed = [e for e in (judge.crossed(a, b) for a, b in pairs) if e is not None]
    return main, crossed, notes


def _coded(d: Dimension, runs: Sequence[StudyMeasurement]) -> _Coded | None:
    values = [(r.settings or {}).get(d.name) for r in runs]
    order: list[Value] = [v for v in d.values if v in values] if d.values else []
    active = [v for v in values if v is not None]
    if d.values and len(order) <= MOST_LEVELS:
        labels = [str(v) for v in order]
        at = [order.index(v) if v is not None else len(order) for v in values]
    elif active and d.ordered:
        numbers = np.array([float(v) for v in active])
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)))
        if len(edges) < 3:
            return None
        labels = [f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(edges)]
        at = [int(np.clip(np.searchsorted(edges, float(v), "left") - 1, 0, len(labels) - 1)) if v is not None
              else len(labels) for v in values]  # fmt: skip
    else:
        return None
    scored = d.ordered and len(active) == len(values)
    if len(active) < len(values):
        labels.append("not set")
    k = len(labels)
    if k < 2:
        return None
    codes = np.vstack([np.eye(k - 1), -np.ones(k - 1)])
    score = np.linspace(-1.0, 1.0, k) if scored else None
    return _Coded(d, labels, np.array(at), codes, score)


def _blocks(runs: Sequence[StudyMeasurement]) -> Array:
    rounds = sorted({r.repeat for r in runs})
    columns = [[float(r.repeat == b) for b in rounds[1:]] for r in runs]
    found = np.array(columns).reshape(len(runs), len(rounds) - 1)
    centred: Array = found - found.mean(axis=0) if found.size else found
    return centred


@dataclass(frozen=True)
class _Fit:
    """A fitted model. ``main``: columns of each factor by name; ``pairs``: columns of each pair of factors."""

    x: Array
    inverse: Array
    beta: Array
    fitted: Array
    residuals: Array
    degrees: int
    main: dict[str, slice]
    pairs: dict[tuple[str, str], slice]
    crossing: Crossing

    @classmethod
    def make(cls, factors: Sequence[_Coded], blocks: Array, y: Array, crossing: Crossing) -> _Fit | None:
        """None where the runs are too few."""
        parts, main, pairs = [np.ones((len(y), 1)), blocks], {}, {}
        width = 1 + blocks.shape[1]
        for f in factors:
            parts.append(f.columns)
            main[f.dimension.name] = slice(width, width + f.columns.shape[1])
            width += f.columns.shape[1]
        if crossing != "none":
            for a, b in itertools.combinations(factors, 2):
                crossed = _cross(a, b, a.at, b.at, crossing)
                parts.append(crossed)
                pairs[(a.dimension.name, b.dimension.name)] = slice(width, width + crossed.shape[1])
                width += crossed.shape[1]
        x = np.hstack(parts)
        inverse = np.linalg.pinv(x)
        rank = int(np.linalg.matrix_rank(x))
        degrees = len(y) - rank
        crossed_out = crossing != "none" and (degrees < SPARE or rank < x.shape[1])
        if degrees < 1 or crossed_out:
            return None
        beta = inverse @ y
        fitted = x @ beta
        return cls(x, inverse, beta, fitted, y - fitted, degrees, main, pairs, crossing)


def _cross(a: _Coded, b: _Coded, at_a: NDArray[np.int64], at_b: NDArray[np.int64], crossing: Crossing) -> Array:
    linear = crossing == "linear"
    left = a.score[at_a][:, None] if linear and a.score is not None else a.codes[at_a]
    right = b.score[at_b][:, None] if linear and b.score is not None else b.codes[at_b]
    found: Array = np.einsum("ni,nj->nij", left, right).reshape(len(at_a), -1)
    return found


class _Judge:
    """Limits of contrasts of a fit, and what they mean."""

    def __init__(self, metric: str, relative: bool, margin: float, fit: _Fit, rng: np.random.Generator) -> None:
        self.metric, self.relative, self.margin, self.fit = metric, relative, margin, fit
        leverage = np.clip(np.sum(fit.x * fit.inverse.T, axis=1), 0.0, 0.999)
        residuals = fit.residuals / np.sqrt(1 - leverage)
        many, shape = fit.degrees >= MANY, (DRAWS, len(residuals))
        drawn = residuals * rng.choice([-1.0, 1.0], shape) if many else rng.choice(residuals - residuals.mean(), shape)
        self.moved = drawn @ fit.inverse.T
        left = drawn - self.moved @ fit.x.T
        self.scale = math.sqrt(float(fit.residuals @ fit.residuals) / fit.degrees)
        if many:
            self.squares, self.drawn_squares = residuals**2, left**2 / (1 - leverage)
        else:
            self.squares = np.full(len(residuals), self.scale**2)
            self.drawn_squares = np.broadcast_to(np.sum(left**2, axis=1, keepdims=True) / fit.degrees, shape)

    def limits(self, contrasts: Array) -> tuple[Array, Array] | None:
        """Estimates and half widths, simultaneous over the rows; None where the runs do not determine them."""
        fit = self.fit
        rows = contrasts @ fit.inverse
        if not np.allclose(rows @ fit.x, contrasts, atol=1e-6):
            return None
        estimates = contrasts @ fit.beta
        if self.scale < NOTHING:
            return estimates, np.zeros(len(estimates))
        errors = np.sqrt(rows**2 @ self.squares)
        studentised = np.abs(self.moved @ contrasts.T) / np.sqrt(self.drawn_squares @ (rows**2).T)
        quantile = float(np.quantile(np.max(studentised, axis=1), LEVEL))
        return estimates, quantile * errors

    def main(self, f: _Coded) -> FactorEffect | None:
        columns = self.fit.main[f.dimension.name]
        against_first = np.zeros((len(f.labels) - 1, self.fit.x.shape[1]))
        against_first[:, columns] = f.codes[1:] - f.codes[0]
        means = np.zeros((len(f.labels), self.fit.x.shape[1]))
        means[:, 0] = 1.0
        means[:, columns] = f.codes
        found, levels = self.limits(against_first), self.limits(means)
        if found is None or levels is None:
            return None
        estimates, halves = found
        strongest = int(np.argmax(np.abs(estimates)))
        verdict = self.verdict(estimates, halves)
        name = f.dimension.name
        said = f"{name} from {f.labels[0]} to {f.labels[strongest + 1]}"
        return FactorEffect(
            metric=self.metric,
            unit=parse_metric(self.metric).unit,
            factor=name,
            levels=[
                LevelMean(label, *(self._back(v) for v in (m, m - h, m + h)))
                for label, m, h in zip(f.labels, levels[0], levels[1], strict=True)
            ],
            relative=self.relative,
            **self._change(estimates[-1], halves[-1]),
            strongest=f.labels[strongest + 1],
            verdict=verdict,
            message=self._message(verdict, name, said, estimates[strongest], halves[strongest]),
        )

    def crossed(self, a: _Coded, b: _Coded) -> Interaction | None:
        names = (a.dimension.name, b.dimension.name)
        columns = self.fit.pairs[names]
        last = [(len(a.labels) - 1, len(b.labels) - 1)]
        ordered = self.fit.crossing == "linear" and a.score is not None and b.score is not None
        cells = last if ordered else list(itertools.product(range(1, len(a.labels)), range(1, len(b.labels))))
        contrasts = np.zeros((len(cells), self.fit.x.shape[1]))
        for row, (i, j) in enumerate(cells):
            at_a, at_b = np.array([i, i, 0, 0]), np.array([j, 0, j, 0])
            contrasts[row, columns] = np.array([1.0, -1.0, -1.0, 1.0]) @ _cross(a, b, at_a, at_b, self.fit.crossing)
        found = self.limits(contrasts)
        if found is None:
            return None
        estimates, halves = found
        most = int(np.argmax(np.abs(estimates)))
        verdict = self.verdict(estimates, halves)
        i, j = cells[most]
        said = f"{names[0]} from {a.labels[0]} to {a.labels[i]}, at {names[1]} {b.labels[j]} against {b.labels[0]}"
        return Interaction(
            metric=self.metric,
            factors=names,
            relative=self.relative,
            **self._change(estimates[most], halves[most]),
            verdict=verdict,
            message=self._message(verdict, " x ".join(names), said, estimates[most], halves[most]),
        )

    def verdict(self, estimates: Array, halves: Array) -> EffectVerdict:
        """Inert: every change is within the margin. Matters: some change is not 0. Both by simultaneous limits."""
        if bool(np.all(np.abs(estimates) + halves <= self.margin)):
            return "inert"
        return "matters" if bool(np.any((np.abs(estimates) > halves) & (estimates != 0))) else "unclear"

    def _change(self, estimate: float, half: float) -> dict[str, Any]:
        values = (estimate, estimate - half, estimate + half)
        return dict(zip(("change", "low", "high"), (self._ratio(float(v)) for v in values), strict=True))

    def _ratio(self, value: float) -> float:
        return math.expm1(min(value, 50.0)) if self.relative else value

    def _back(self, value: float) -> float:
        return math.exp(min(float(value), 700.0)) if self.relative else float(value)

    def _message(self, verdict: EffectVerdict, name: str, said: str, estimate: float, half: float) -> str:
        low, high = self._ratio(estimate - half), self._ratio(estimate + half)
        unit = "" if self.relative else f" {parse_metric(self.metric).unit}"
        number = f"{self._shown(self._ratio(estimate))}{unit} [{self._shown(low)}, {self._shown(high)}]"
        if verdict == "inert":
            limit = self._shown(self._ratio(self.margin)).lstrip("+")
            return f"{name} is inert: it changes {self.metric} by less than {limit}{unit} whatever its value"
        if verdict == "matters":
            return f"{said}: {self.metric} {number}"
        return f"{said}: {self.metric} {number}; the runs do not tell whether it matters"

    def _shown(self, value: float) -> str:
        if not self.relative:
            return f"{value:+.3g}"
        return f"{value:+.1%}" if abs(value) < 10 else f"x{value + 1:.3g}"
