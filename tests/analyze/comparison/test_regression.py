"""Arms of whole results: loads are matched, metrics judged together, odd runs shown with and without."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from llm_d_benchmark.analyze.comparison.levels import levels, metric_refs, value_of
from llm_d_benchmark.analyze.comparison.regression import Arms, Question, compare_arms
from llm_d_benchmark.domain.comparison import Effect
from llm_d_benchmark.domain.result import Absent, Distribution, Measured, RunResult
from tests.report import sample

QUESTION = Question(deciding=metric_refs(["e2e", "throughput"]), shown=metric_refs(["ttft.p99", "goodput"]))


base = functools.cache(sample.result)


def run(name: str, factor: float, stages: int = 2) -> RunResult:
    """A result whose latencies are ``factor`` times those of the sample, and whose rates are 1/factor."""
    made = dataclasses.replace(base(stages), run_id=name)
    changed = []
    for stage in made.stages:
        m = stage.metrics
        latencies = {
            f: dataclasses.replace(d, mean=d.mean * factor)
            for f in ("ttft", "tpot", "e2e")
            if isinstance(d := getattr(m, f), Distribution)
        }
        rate = m.output_tokens_per_second
        assert isinstance(rate, Measured)
        m = dataclasses.replace(m, **latencies, output_tokens_per_second=Measured(rate.value / factor, rate.unit))
        changed.append(dataclasses.replace(stage, metrics=m))
    return dataclasses.replace(made, stages=changed)


def arm(name: str, slowdown: float, cv: float = 0.01, runs: int = 6, seed: int = 1) -> list[RunResult]:
    rng = np.random.default_rng(seed)
    return [run(f"{name}{i}", (1 + slowdown) * float(np.exp(rng.normal(0, cv)))) for i in range(runs)]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("slowdown", "verdict"), [(0.0, "pass"), (0.12, "fail"), (0.05, "inconclusive")])
def test_verdicts_of_results(slowdown: float, verdict: str, paired: bool) -> None:
    found = compare_arms(Arms(arm("a", 0, seed=1), arm("b", slowdown, seed=2), paired), QUESTION)
    assert found.verdict == verdict
    assert [(m.load, m.metric) for m in found.metrics if m.decides] == [
        (load, metric)
        for load in ("2/s poisson", "3.2/s poisson")
        for metric in ("e2e.mean", "output_tokens_per_second")
    ]
    for m in found.metrics:
        if m.decides:
            assert isinstance(m.effect, Effect)
            assert m.effect.low < slowdown < m.effect.high
            assert m.effect.method == ("paired" if paired else "welch")
    assert (found.further_runs is not None) == (verdict == "inconclusive")


def test_a_metric_beside_the_verdict_is_not_judged() -> None:
    found = compare_arms(Arms(arm("a", 0), arm("b", 0, seed=3)), QUESTION)
    assert {m.metric for m in found.metrics if not m.decides} == {"ttft.p99", "goodput"}
    assert all(m.verdict is None for m in found.metrics if not m.decides)


def test_one_run_a_side_is_inconclusive_and_says_why() -> None:
    found = compare_arms(Arms(arm("a", 0, runs=1), arm("b", 0.5, runs=1)), QUESTION)
    assert found.verdict == "inconclusive"
    assert all(isinstance(m.effect, Absent) and "one run" in m.effect.absent for m in found.metrics)


def test_a_single_test_run_is_judged_against_several() -> None:
    for slowdown, verdict in ((0.0, "pass"), (0.3, "fail")):
        found = compare_arms(Arms(arm("a", 0, runs=8), arm("b", slowdown, runs=1, seed=4)), QUESTION)
        assert found.verdict == verdict


def test_an_odd_run_is_quarantined_and_does_not_decide() -> None:
    baseline, test = arm("a", 0), arm("b", 0, seed=5)
    test[2] = run("odd", 1.9)
    found = compare_arms(Arms(baseline, test), QUESTION)
    assert {q.run for q in found.quarantined} == {"odd"}
    assert "times as slow" in found.quarantined[0].reason
    e2e = next(m for m in found.metrics if m.metric == "e2e.mean")
    assert isinstance(e2e.effect, Effect)
    assert e2e.without_outliers is not None
    assert e2e.without_outliers.upper < 0.05 < e2e.effect.upper
    assert e2e.verdict == "inconclusive"


def test_loads_are_matched_by_load_and_never_mixed() -> None:
    one, other = sample.result(2, run_id="one"), sample.result(3, run_id="two")
    other = dataclasses.replace(other, stages=[other.stages[1], other.stages[2], other.stages[1]])
    found = levels([one, other])
    assert {k: [None if s is None else s.index for s in v] for k, v in found.items()} == {
        "2/s poisson": [0, None],
        "3.2/s poisson": [1, 1],
        "5.12/s poisson": [None, 2],
        "3.2/s poisson (2)": [None, 1],
    }
    notes = compare_arms(Arms([one, one], [other, other]), QUESTION).notes
    assert any("2/s poisson" in note for note in notes)


def test_paired_arms_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="equally many"):
        compare_arms(Arms(arm("a", 0), arm("b", 0, runs=5), paired=True), QUESTION)


def test_a_value_of_zero_has_no_ratio() -> None:
    (ref,) = metric_refs(["error_rate"])
    stage = sample.result(1).stages[0]
    assert value_of(stage.metrics, ref) == Measured(0.0, "fraction")
    question = Question(deciding=[ref], shown=[])
    found = compare_arms(Arms(arm("a", 0), arm("b", 0)), question)
    assert found.verdict == "inconclusive"
    assert "a value is 0" in found.metrics[0].message
