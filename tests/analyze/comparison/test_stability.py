"""Stability, outliers: what counts, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.analyze.comparison import power
from llm_d_benchmark.analyze.comparison.outliers import outliers, robust_z
from llm_d_benchmark.analyze.comparison.stability import downtime, success_bounds


def test_how_many_requests_show_three_nines() -> None:
    assert [power.requests_needed(failures, 0.999) for failures in (0, 1, 2, 5)] == [2995, 4742, 6294, 10511]
    assert success_bounds(2995, 2995)[0] > 0.999 > success_bounds(2994, 2994)[0]


def test_the_bound_covers() -> None:
    failures = np.random.default_rng(1).binomial(4000, 0.002, 3000)
    lower = np.array([success_bounds(4000 - int(f), 4000)[0] for f in range(40)])[failures]
    assert 0.95 <= (lower < 0.998).mean() <= 0.985


def test_an_outage_lasts_from_its_first_failure_to_the_next_success() -> None:
    ends = np.arange(10.0)
    failed = np.zeros(10)
    failed[[2, 5, 6, 7]] = 1
    assert downtime(ends, failed) == (3.0, 9.0)  # the lone failure at 2 is none
    failed[:] = 1
    assert downtime(ends, failed) == (9.0, 9.0)
    assert downtime(ends[::-1], np.zeros(10)) == (0.0, 9.0)
    assert downtime(ends[:1], failed[:1]) == (0.0, 0.0)


def test_an_outlying_run_is_named_and_normal_ones_are_not() -> None:
    logs = np.log([100, 101, 99.5, 100.4, 160, 100.9])
    ((position, z),) = outliers(logs)
    assert position == 4
    assert z > 8
    assert outliers(logs[:4]) == []
    assert outliers(np.log([100, 100.0001, 100, 100.0002, 101])) == []


def test_few_normal_arms_have_an_outlier() -> None:
    z = robust_z(np.random.default_rng(2).normal(0, 0.02, (10_000, 5)))
    assert (z.max(-1) > 8).mean() < 0.03


@pytest.mark.parametrize("failures", [0, 3, 20])
def test_one_request_less_is_not_enough(failures: int) -> None:
    n = power.requests_needed(failures, 0.99)
    assert success_bounds(n - failures, n)[0] > 0.99 >= success_bounds(n - 1 - failures, n - 1)[0]
