"""Curves that a latency may follow: each is fitted to points and predicts others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
from scipy.optimize import nnls

from .points import FloatArray

FEWEST_LEVELS = 4


class Curve(Protocol):
    """A fitted curve over the requests in flight and a length."""

    @property
    def formula(self) -> str: ...

    def __call__(self, concurrency: FloatArray, length: FloatArray) -> FloatArray:
        """Seconds; arrays of one shape."""
        ...


Fit = Callable[[FloatArray, FloatArray, FloatArray], Curve]
"""Of concurrency, length and seconds, each of shape (n,)."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A sum of non-negative coefficients times features: 1, B, S, B S."""

    coefficients: tuple[float, float, float, float]
    symbol: str = "S"

    @property
    def formula(self) -> str:
        names = ("", " B", f" {self.symbol}", f" B {self.symbol}")
        terms = [f"{c:.4g}{n}" for c, n in zip(self.coefficients, names, strict=True) if c]
        return " + ".join(terms) or "0"

    def __call__(self, concurrency: FloatArray, length: FloatArray) -> FloatArray:
        return cast(FloatArray, _features(concurrency, length) @ np.asarray(self.coefficients))


def _features(b: FloatArray, s: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(b), b, s, b * s], axis=-1)


def linear(terms: Sequence[int], symbol: str) -> Fit:
    """Non-negative least squares of relative errors over some of the features 1, B, S, B S.

    The terms with S are left out where the points have one length only: nothing could tell them apart.
    """

    def fit(b: FloatArray, s: FloatArray, y: FloatArray) -> Linear:
        used = [t for t in terms if t < 2 or len(np.unique(_near(s))) > 1]
        weighted = _features(b, s)[:, used] / y[:, None]
        scale = np.maximum(weighted.max(axis=0), 1e-300)
        found, _ = nnls(weighted / scale, np.ones(len(y)))
        coefficients = np.zeros(4)
        coefficients[used] = found / scale
        return Linear(cast("tuple[float, float, float, float]", tuple(float(c) for c in coefficients)), symbol)

    return fit


@dataclass(frozen=True, slots=True)
class LogLog:
    """Interpolation of logarithms: over the requests in flight at each length, then over the lengths.

    Beyond the points it goes on as it was between the last two.
    """

    lengths: FloatArray
    tables: Sequence[tuple[FloatArray, FloatArray]]

    @property
    def formula(self) -> str:
        return f"log-log interpolation of {sum(len(x) for x, _ in self.tables)} points"

    def __call__(self, concurrency: FloatArray, length: FloatArray) -> FloatArray:
        b = np.log(np.maximum(concurrency, 1e-9))
        at = np.stack([_interpolate(b, x, y) for x, y in self.tables])
        if len(self.tables) == 1:
            return cast(FloatArray, np.exp(at[0]))
        s = np.log(length)
        i = np.clip(np.searchsorted(self.lengths, s) - 1, 0, len(self.lengths) - 2)
        low, high = self.lengths[i], self.lengths[i + 1]
        share = (s - low) / (high - low)
        lower = np.take_along_axis(at, i[None], axis=0)[0]
        upper = np.take_along_axis(at, i[None] + 1, axis=0)[0]
        return cast(FloatArray, np.exp(lower + share * (upper - lower)))


def _near(length: FloatArray) -> FloatArray:
    """Lengths that differ by a few per cent count as one."""
    return cast(FloatArray, np.round(np.log(length) / 0.05))


def log_log(b: FloatArray, s: FloatArray, y: FloatArray) -> LogLog:
    """Lengths with fewer than two levels of their own belong to the nearest one that has them."""
    keys = _near(s)
    usable = [k for k in np.unique(keys) if len(np.unique(b[keys == k])) > 1]
    if not usable:
        return LogLog(np.array([0.0]), [_table(b, y)])
    lengths = np.array([np.mean(np.log(s[keys == k])) for k in usable])
    return LogLog(lengths, [_table(b[keys == k], y[keys == k]) for k in usable])


def _table(b: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logarithms of distinct levels and of the geometric mean of their values."""
    levels = np.unique(b)
    return np.log(levels), np.array([np.mean(np.log(y[b == level])) for level in levels])


def _interpolate(at: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    if len(x) == 1:
        return np.full_like(at, y[0])
    i = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    slope = np.diff(y) / np.diff(x)
    return y[i] + slope[i] * (at - x[i])


ITL: Mapping[str, Fit] = MappingProxyType(
    {
        "alpha + beta B": linear((0, 1), "S"),
        "alpha + beta B + gamma B S": linear((0, 1, 3), "S"),
        "log-log": log_log,
    }
)
TTFT: Mapping[str, Fit] = MappingProxyType(
    {
        "c + d I": linear((0, 2), "I"),
        "c + d I + e B": linear((0, 1, 2), "I"),
        "c + d I + e B + f B I": linear((0, 1, 2, 3), "I"),
        "log-log": log_log,
    }
)
