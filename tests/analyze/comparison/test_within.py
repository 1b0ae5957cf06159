"""Limits from within single runs cover the truth, for means and percentiles, of independent and queued requests."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llm_d_benchmark.analyze.comparison.effects import FloatArray
from llm_d_benchmark.analyze.comparison.within import mean_limits, rate_limits, ratio_effect
from llm_d_benchmark.analyze.percentiles import distribution
from llm_d_benchmark.domain.result import Distribution, Estimate


def latencies(rng: np.random.Generator, rho: float, runs: int, n: int = 2000) -> FloatArray:
    """Lognormal latencies of runs (runs, n) whose logs are a stationary autoregressive series."""
    noise = rng.normal(size=(runs, n)) * math.sqrt(1 - rho**2)
    logs = np.empty((runs, n))
    logs[:, 0] = rng.normal(size=runs)
    for i in range(1, n):
        logs[:, i] = rho * logs[:, i - 1] + noise[:, i]
    return np.exp(0.4 * logs)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_ratios_of_means_are_covered(rho: float) -> None:
    rng = np.random.default_rng(11)
    pairs = 1500
    covered = 0
    for one, other in zip(latencies(rng, rho, pairs), 1.1 * latencies(rng, rho, pairs), strict=True):
        limits = mean_limits(one), mean_limits(other)
        assert limits[0] is not None
        assert limits[1] is not None
        effect = ratio_effect(one.mean(), limits[0], other.mean(), limits[1], lower_is_better=True)
        assert effect is not None
        covered += effect.low <= 0.1 <= effect.high
    assert covered / pairs == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("rho", "pairs", "tolerance"), [(0.0, 600, 0.02), (0.6, 40, 0.05)])
def test_ratios_of_percentiles_are_covered(rho: float, pairs: int, tolerance: float) -> None:
    """Dependent latencies in a few pairs only: their limits take long, and are tested by themselves elsewhere."""
    rng = np.random.default_rng(13)
    covered = {"p50": 0, "p95": 0, "p99": 0}
    for one, other in zip(latencies(rng, rho, pairs), 1.1 * latencies(rng, rho, pairs), strict=True):
        sides = [distribution(x, "s", "") for x in (one, other)]
        for name in covered:
            found = [d.percentiles[name] for d in sides if isinstance(d, Distribution)]
            x, y = (p for p in found if isinstance(p, Estimate))
            effect = ratio_effect(x.value, (x.low, x.high), y.value, (y.low, y.high), lower_is_better=True)
            assert effect is not None
            covered[name] += effect.low <= 0.1 <= effect.high
    for name, hits in covered.items():
        assert hits / pairs == pytest.approx(0.95, abs=tolerance), name


def test_rates_are_covered() -> None:
    rng = np.random.default_rng(12)
    covered = 0
    for _ in range(400):
        times = np.cumsum(rng.exponential(0.05, 1500))
        amounts = rng.integers(50, 150, 1500).astype(float)
        limits = rate_limits(times, amounts, 60.0)
        assert limits is not None
        covered += limits[0] <= 99.5 * 20 <= limits[1]
    assert covered / 400 == pytest.approx(0.95, abs=0.025)


def test_too_few_say_nothing() -> None:
    assert mean_limits(np.ones(5)) is None
    assert rate_limits(np.arange(10.0), np.ones(10), 10.0) is None
    assert ratio_effect(1.0, (-0.1, 1.2), 1.0, (0.9, 1.1), lower_is_better=True) is None


def test_a_rate_that_falls_is_a_slowdown() -> None:
    effect = ratio_effect(100.0, (98.0, 102.0), 95.0, (93.0, 97.0), lower_is_better=False)
    assert effect is not None
    assert effect.slowdown == pytest.approx(100 / 95 - 1)
    assert effect.low < effect.lower < effect.slowdown < effect.upper < effect.high
    assert effect.method == "within_run"
