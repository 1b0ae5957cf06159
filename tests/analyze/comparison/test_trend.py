"""Trends and change points, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.analyze.comparison.changepoints import change_points, divergence
from llm_d_benchmark.analyze.comparison.effects import FloatArray
from llm_d_benchmark.analyze.comparison.trend import theil_sen

STEP = np.log(1.10)


def autoregressive(rng: np.random.Generator, rho: float, n: int) -> FloatArray:
    x = np.zeros(n + 50)
    for i in range(1, len(x)):
        x[i] = rho * x[i - 1] + rng.normal()
    return x[50:]


def test_the_statistic_is_the_energy_distance() -> None:
    x = np.random.default_rng(0).normal(size=9)
    d = np.abs(x[:, None] - x[None, :])
    a, b = d[:4, :4], d[4:, 4:]
    expected = (2 * d[:4, 4:].mean() - a.sum() / 12 - b.sum() / 20) * 4 * 5 / 9
    assert divergence(d)[1] == pytest.approx(expected)
    assert divergence(np.stack([d, d])).shape == (2, 4)


def test_a_tenth_is_located_within_three_runs() -> None:
    rng = np.random.default_rng(1)
    found = covered = 0
    for _ in range(40):
        at = int(rng.integers(15, 45))
        logs = rng.normal(0, 0.03, 60)
        logs[at:] += STEP * rng.choice([-1, 1])
        splits = change_points(logs)
        found += len(splits) == 1 and abs(splits[0].index - at) <= 3
        covered += any(s.earliest <= at <= s.latest for s in splits)
    assert found >= 36
    assert covered >= 36


def test_a_tenth_is_seen_three_runs_after_it_came() -> None:
    rng = np.random.default_rng(2)
    seen = 0
    for _ in range(40):
        logs = rng.normal(0, 0.02, 33)
        logs[30:] += STEP
        seen += any(abs(s.index - 30) <= 3 for s in change_points(logs))
    assert seen >= 36


def test_stable_histories_raise_no_alarm_at_any_of_their_runs() -> None:
    """Looked at after every run, as a nightly job does, 200 stable runs raise at most one alarm."""
    rng = np.random.default_rng(3)
    for cv in (0.01, 0.03):
        alarms = set()
        logs = rng.normal(0, cv, 200)
        for now in range(6, 201):
            alarms |= {s.index for s in change_points(logs[max(0, now - 80) : now])}
        assert len(alarms) <= 1


def test_one_odd_run_is_no_change() -> None:
    logs = np.random.default_rng(4).normal(0, 0.01, 40)
    logs[20] += 0.5
    assert change_points(logs) == []


def test_two_changes_are_two() -> None:
    logs = np.random.default_rng(5).normal(0, 0.02, 60)
    logs[20:40] += 0.15
    splits = change_points(logs)
    assert [round(s.index, -1) for s in splits] == [20, 40]
    assert splits[0].change == pytest.approx(0.15, abs=0.02)
    assert splits[1].change == pytest.approx(-0.15, abs=0.02)


def test_changes_under_the_least_magnitude_are_not_reported() -> None:
    logs = np.random.default_rng(6).normal(0, 0.002, 40)
    logs[20:] += 0.03
    assert change_points(logs) == []
    assert len(change_points(logs, magnitude=0.02)) == 1


@pytest.mark.parametrize("n", [3, 5])
def test_short_histories(n: int) -> None:
    assert change_points(np.arange(float(n))) == []


def test_slope_and_limits() -> None:
    rng = np.random.default_rng(7)
    covered, rejected = 0, 0
    for _ in range(300):
        found = theil_sen(0.4 * np.arange(30) + rng.normal(0, 2, 30))
        covered += found.low <= 0.4 <= found.high
        rejected += found.p < 0.05
    assert covered / 300 == pytest.approx(0.95, abs=0.03)
    assert rejected > 295


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_dependent_runs_are_no_trend(rho: float) -> None:
    rng = np.random.default_rng(8)
    for n in (20, 60):
        false = np.mean([theil_sen(autoregressive(rng, rho, n)).p < 0.05 for _ in range(300)])
        assert false <= 0.085


def test_a_constant_history_has_no_trend() -> None:
    found = theil_sen(np.ones(20))
    assert (found.slope, found.p) == (0.0, 1.0)
