"""How many pairs are run, and that the way they are chosen keeps the error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llm_d_benchmark.analyze.comparison import plan
from llm_d_benchmark.analyze.comparison.effects import FloatArray, paired
from llm_d_benchmark.analyze.comparison.power import runs_needed
from llm_d_benchmark.analyze.comparison.regression import Arms, compare_arms
from llm_d_benchmark.analyze.comparison.verdicts import judge
from tests.analyze.comparison.test_regression import QUESTION, arm

LIMIT = math.log(1.05)
LEAST, MOST = 5, 20


def experiment(pairs: FloatArray) -> str:
    """The verdict of one experiment with one metric, run as ``runner.regress`` does. ``pairs``: (MOST, 2)."""
    first = paired(pairs[:LEAST, 0], pairs[:LEAST, 1])
    sd = float((pairs[:LEAST, 1] - pairs[:LEAST, 0]).std(ddof=1))
    gap = math.log(1.10) - LIMIT
    needed = runs_needed(sd, gap, blocks=True, alpha=plan.ALPHA, power=plan.POWER, least=LEAST)
    planned = min(MOST, needed or MOST)
    for n in range(LEAST, planned + 1):
        ratio = paired(pairs[:n, 0], pairs[:n, 1]) if n > LEAST else first
        alpha = plan.ALPHA if n == planned else plan.EARLY
        passed, failed = judge(ratio, LIMIT, ratio.p_over(LIMIT), alpha=alpha)
        if passed or failed:
            return "pass" if passed else "fail"
    return "inconclusive"


def shares(slowdown: float, cv: float, seed: int, experiments: int = 1500) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    noise = rng.normal([0, math.log1p(slowdown)], cv, (experiments, MOST, 2))
    verdicts = [experiment(e) for e in noise]
    return {v: verdicts.count(v) / experiments for v in ("pass", "fail", "inconclusive")}


@pytest.mark.parametrize("cv", [0.015, 0.03])
def test_the_whole_procedure_keeps_its_promises(cv: float) -> None:
    equal = shares(0.0, cv, 1)
    assert equal["fail"] <= 0.01
    assert equal["pass"] >= 0.90
    assert shares(0.10, cv, 2)["fail"] >= 0.90
    assert shares(0.03, cv, 3)["fail"] <= 0.02


@pytest.mark.parametrize("cv", [0.02, 0.04])
def test_at_the_limit_the_whole_procedure_errs_in_one_of_twenty(cv: float) -> None:
    at_limit = shares(0.05, cv, 4)
    assert at_limit["pass"] <= 0.06
    assert at_limit["fail"] <= 0.06


def test_quiet_runs_need_no_more_and_noisy_ones_do() -> None:
    quiet = compare_arms(Arms(arm("a", 0, cv=0.005, runs=5), arm("b", 0, cv=0.005, runs=5, seed=2), True), QUESTION)
    assert plan.plan(quiet, QUESTION, least=5, most=20) == (5, "the runs agree so well that no more are needed")
    assert plan.overwhelming(quiet, QUESTION)
    noisy = compare_arms(Arms(arm("a", 0, cv=0.08, runs=5), arm("b", 0, cv=0.08, runs=5, seed=2), True), QUESTION)
    pairs, why = plan.plan(noisy, QUESTION, least=5, most=20)
    assert pairs == 20
    assert "from pair to pair" in why
    assert "max_runs is 20" in why
    assert not plan.overwhelming(noisy, QUESTION)


def test_a_gross_slowdown_ends_the_experiment_early() -> None:
    found = compare_arms(Arms(arm("a", 0, cv=0.02), arm("b", 0.5, cv=0.02, seed=2), True), QUESTION)
    assert plan.overwhelming(found, QUESTION)
