"""What the verdicts promise, by simulation: thousands of experiments at once, seeds fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.analyze.comparison import power
from llm_d_benchmark.analyze.comparison.effects import FloatArray, bca, holm, log_ratio, slowness
from llm_d_benchmark.analyze.comparison.verdicts import further_runs, judge, measure, verdict_of, worst

LIMIT = math.log(1.05)
EXPERIMENTS = 4000


def arms(slowdown: float, cv: float, runs: int, seed: int, *, drift: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Log values of interleaved runs: independent noise, and a drift of the machine over the whole experiment."""
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(0, cv, (EXPERIMENTS, runs)) for _ in range(2))
    time = np.arange(2 * runs) / (2 * runs) * drift
    first = np.arange(runs) % 2  # ABBA: every second pair starts with the test
    return a + time[2 * np.arange(runs) + first], b + math.log1p(slowdown) + time[2 * np.arange(runs) + 1 - first]


def rates(
    slowdown: float, cv: float, runs: int, *, blocks: bool, seed: int = 1, drift: float = 0.0
) -> tuple[float, float]:
    """Shares of experiments that pass and that fail."""
    ratio = log_ratio(*arms(slowdown, cv, runs, seed, drift=drift), blocks=blocks)
    passed, failed = judge(ratio, LIMIT, ratio.p_over(LIMIT))
    return float(passed.mean()), float(failed.mean())


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize(("cv", "runs"), [(0.01, 5), (0.02, 6), (0.03, 11), (0.05, 26)])
def test_equal_arms_pass_and_a_tenth_is_caught(cv: float, runs: int, blocks: bool) -> None:
    passed, failed = rates(0.0, cv, runs, blocks=blocks)
    assert failed <= 0.05
    assert passed >= 0.88
    assert rates(0.10, cv, runs, blocks=blocks)[1] >= 0.90


@pytest.mark.parametrize("blocks", [True, False])
def test_a_slowdown_under_the_limit_is_not_failed(blocks: bool) -> None:
    assert rates(0.03, 0.03, 11, blocks=blocks)[1] <= 0.01


@pytest.mark.parametrize("blocks", [True, False])
def test_at_the_limit_both_errors_stay_at_five_percent(blocks: bool) -> None:
    passed, failed = rates(0.05, 0.03, 8, blocks=blocks)
    assert passed == pytest.approx(0.05, abs=0.01)
    assert failed == pytest.approx(0.05, abs=0.01)


def test_pairs_do_not_see_the_drift_of_the_machine() -> None:
    assert rates(0.0, 0.01, 6, blocks=True, drift=0.2)[0] > 0.9
    assert rates(0.0, 0.01, 6, blocks=False, drift=0.2)[0] < 0.5


def test_unequal_noise_keeps_the_error_rate() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 0.01, (EXPERIMENTS, 12)), rng.normal(LIMIT, 0.05, (EXPERIMENTS, 5))
    ratio = log_ratio(a, b, blocks=False)
    assert judge(ratio, LIMIT, ratio.p_over(LIMIT))[1].mean() == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("blocks", [True, False])
def test_limits_cover_the_truth(blocks: bool) -> None:
    ratio = log_ratio(*arms(0.07, 0.04, 6, seed=5), blocks=blocks)
    covered = (ratio.lower(0.025) < math.log(1.07)) & (ratio.upper(0.025) > math.log(1.07))
    assert covered.mean() == pytest.approx(0.95, abs=0.02)


def test_a_single_run_is_held_against_the_spread_of_the_baseline() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(0, 0.02, (EXPERIMENTS, 8)), rng.normal(LIMIT, 0.02, (EXPERIMENTS, 1))
    ratio = log_ratio(a, b, blocks=False)
    passed, failed = judge(ratio, LIMIT, ratio.p_over(LIMIT))
    assert passed.mean() == pytest.approx(0.05, abs=0.01)
    assert failed.mean() == pytest.approx(0.05, abs=0.01)
    judged = measure(a[0], b[0], LIMIT, blocks=False)
    assert judged.effect.method == "prediction"
    assert judged.effect.bca_low is None


def test_the_bootstrap_limits_agree_where_there_are_many_runs() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(0, 0.03, 40), rng.normal(0.02, 0.03, 40)
    for blocks in (True, False):
        found = bca(a, b, blocks=blocks)
        ratio = log_ratio(a, b, blocks=blocks)
        assert found is not None
        assert found == pytest.approx((float(ratio.lower(0.025)), float(ratio.upper(0.025))), abs=0.004)
    assert bca(np.ones(5), np.ones(5), blocks=True) is None


def test_with_several_equal_metrics_holm_keeps_false_failures_rare() -> None:
    rng = np.random.default_rng(7)
    failed = naive = 0
    for _ in range(300):
        p = [
            float(log_ratio(rng.normal(0, 0.03, 6), rng.normal(LIMIT, 0.03, 6), blocks=False).p_over(LIMIT))
            for _ in range(6)
        ]
        failed += min(holm(p)) < 0.05
        naive += min(p) < 0.05
    assert failed / 300 <= 0.08
    assert naive / 300 > 0.2


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(adjusted[i] <= adjusted[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])


def test_direction_of_a_rate() -> None:
    slower = slowness([95.0, 96.0], False) - slowness([100.0, 101.0], False)
    assert (slower > 0).all()
    with pytest.raises(ValueError, match="above 0"):
        slowness([0.0, 1.0], True)


def test_the_runs_asked_for_are_enough_and_one_less_is_not() -> None:
    for cv, runs in (
        (0.02, power.runs_needed(0.02, LIMIT, blocks=False)),
        (0.04, power.runs_needed(0.04, LIMIT, blocks=False)),
    ):
        assert runs is not None
        assert rates(0.0, cv, runs, blocks=False)[0] >= 0.88
        assert rates(0.0, cv, runs - 2, blocks=False)[0] < 0.88


def test_an_inconclusive_verdict_says_how_many_more() -> None:
    rng = np.random.default_rng(8)
    judged = measure(rng.normal(0, 0.04, 5), rng.normal(0.01, 0.04, 5), LIMIT, blocks=False)
    assert verdict_of(judged, LIMIT, judged.p) == "inconclusive"
    more = further_runs(judged, 5, LIMIT)
    assert more is not None
    assert 1 <= more <= 60


def test_runs_without_any_noise_are_judged_by_their_value() -> None:
    same = np.zeros(5)
    for slowdown, expected in ((0.0, "pass"), (0.04, "pass"), (0.06, "fail")):
        judged = measure(same, same + math.log1p(slowdown), LIMIT, blocks=True)
        assert verdict_of(judged, LIMIT, judged.p) == expected


def test_one_verdict_for_all() -> None:
    assert worst(["pass", "pass"]) == "pass"
    assert worst(["pass", "inconclusive"]) == "inconclusive"
    assert worst(["inconclusive", "fail", "pass"]) == "fail"
    assert worst([]) == "inconclusive"
