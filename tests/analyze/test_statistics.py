"""Claims of docs/statistics.md, tested by simulation with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.analyze.gaps import GapCounts
from llm_d_benchmark.analyze.percentiles import BLOCKS, distribution, minimum_count, order_statistic_ranks
from llm_d_benchmark.analyze.steady import mser5, steady_state
from llm_d_benchmark.domain.result import Distribution, Estimate, Insufficient


@pytest.mark.parametrize(("level", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_minimum_counts(level: float, n: int) -> None:
    assert minimum_count(level) == n
    assert order_statistic_ranks(n, level) is not None
    assert order_statistic_ranks(n - 1, level) is None


def covers(found: object, name: str, truth: float) -> bool:
    assert isinstance(found, Distribution)
    p = found.percentiles[name]
    assert isinstance(p, Estimate)
    return p.low <= truth <= p.high


def test_coverage_of_independent_values() -> None:
    rng = np.random.default_rng(1)
    hits = [covers(distribution(rng.exponential(1, 400), "s", ""), "p95", -np.log(0.05)) for _ in range(400)]
    assert 0.93 <= np.mean(hits) <= 0.99


def ar1(rng: np.random.Generator, n: int, phi: float) -> np.ndarray:
    values = np.empty(n)
    values[0] = rng.normal()
    noise = rng.normal(0, np.sqrt(1 - phi**2), n)
    for i in range(1, n):
        values[i] = phi * values[i - 1] + noise[i]
    return values


def test_coverage_of_autocorrelated_requests() -> None:
    rng = np.random.default_rng(2)
    found = [distribution(ar1(rng, 4000, 0.8) + 10, "s", "") for _ in range(100)]
    assert {d.limits for d in found if isinstance(d, Distribution)} == {"block_bootstrap"}
    assert 0.9 <= np.mean([covers(d, "p90", 10 + 1.2815516) for d in found]) <= 1.0


def test_coverage_of_gaps_that_depend_within_and_between_requests() -> None:
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(150):
        slow = np.repeat(np.exp(0.3 * ar1(rng, 1200, 0.7)), 50)  # each request has its own pace, near its neighbours'
        gaps = np.rint(1000 * slow * np.exp(rng.normal(0, 0.2, len(slow)))).astype(np.int32)
        counts = GapCounts()
        counts.add(gaps, (np.arange(len(gaps)) * BLOCKS // len(gaps)).astype(np.int32))
        truth = 1e-3 * np.exp(1.2815516 * np.sqrt(0.3**2 + 0.2**2))
        hits.append(covers(counts.distribution(""), "p90", truth))
    assert 0.9 <= np.mean(hits) <= 0.99


def test_gap_counts_are_exact_and_keep_long_gaps() -> None:
    gaps = np.asarray([1, 5, 5, 70_000, 3_000_000], np.int32)
    counts = GapCounts()
    counts.add(gaps, np.zeros(5, np.int32))
    found = counts.distribution("")
    assert isinstance(found, Distribution)
    assert (found.count, found.max, found.percentiles["p50"].value) == (5, 3.0, 5e-6)
    assert found.mean == pytest.approx(gaps.mean() / 1e6)
    assert isinstance(found.percentiles["p99"], Insufficient)


def test_mser_sees_a_warm_up() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(1, 0.1, 1000) + 2 * np.exp(-np.arange(1000) / 40)
    assert 0.05 < mser5(values) < 0.35
    assert steady_state(values, "ttft").steady is False


def test_a_growing_queue_is_not_steady() -> None:
    rng = np.random.default_rng(5)
    assert steady_state(rng.normal(1, 0.1, 500) + np.arange(500) / 250, "ttft").steady is False


def test_stationary_series_are_steady() -> None:
    rng = np.random.default_rng(6)
    verdicts = [steady_state(rng.lognormal(0, 0.5, 500), "ttft").steady for _ in range(200)]
    assert np.mean(verdicts) > 0.95


def test_too_few_requests_are_not_judged() -> None:
    assert steady_state(np.ones(20), "ttft").steady is None
