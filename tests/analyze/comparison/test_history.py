"""Histories of whole results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llm_d_benchmark.analyze.comparison.history import PastRun, history
from llm_d_benchmark.domain.comparison import History
from llm_d_benchmark.domain.result import Absent, Measured
from llm_d_benchmark.report.trend import render_csv, render_html, render_lines
from tests.analyze.comparison.test_regression import run


def past(factors: list[float], **config: object) -> list[PastRun]:
    return [
        PastRun(run(f"run-{i}", f, 1), {"spec": {"benchmark": {"seed": i, **config}}}, f"c{i:03}")
        for i, f in enumerate(factors)
    ]


def steps(seed: int = 1, at: int = 14, n: int = 24, size: float = 1.12) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(f) * (size if i >= at else 1) for i, f in enumerate(np.exp(rng.normal(0, 0.01, n)))]


def followed(found: History, metric: str):  # type: ignore[no-untyped-def]
    return next(t for t in found.trends if t.metric == metric)


def test_a_change_names_the_commits_between_which_it_came() -> None:
    found = history(past(steps()), ["e2e.mean", "throughput"], by="commit")
    e2e, rate = followed(found, "e2e.mean"), followed(found, "output_tokens_per_second")
    for trend, sign in ((e2e, 1), (rate, -1)):
        (change,) = trend.change_points
        assert change.worse
        assert change.index == 14
        assert change.earliest <= 14 <= change.latest
        assert np.sign(change.change) == sign
    text = render_lines(found)
    assert "e2e.mean at 2/s poisson: +" in text
    assert "after c013, by c014" in text
    page = render_html(found)
    assert "CHANGED" in page
    assert page.count('<figure class="chart') == 2
    rows = render_csv(found).splitlines()
    assert rows[0] == "load,metric,unit,commit,run,value,level,quarantined"
    assert len(rows) == 1 + 2 * 24
    assert ",c013,run-13," in rows[14]
    assert rows[14].endswith(",1,")
    assert rows[15].endswith(",2,")


def test_a_slow_drift_is_a_trend() -> None:
    rng = np.random.default_rng(3)
    found = history(past([float(np.exp(0.002 * i + rng.normal(0, 0.005))) for i in range(20)]), ["e2e.mean"])
    (trend,) = found.trends
    assert trend.direction == "rising"
    assert isinstance(trend.slope, Measured)
    assert trend.slope.value == pytest.approx(0.002, abs=0.0006)
    assert "STEADY" in render_html(found)


def test_few_runs_say_so() -> None:
    (trend,) = history(past([1.0, 1.01, 0.99]), ["e2e.mean"]).trends
    assert trend.direction == "unknown"
    assert isinstance(trend.slope, Absent)
    assert trend.change_points == []


def test_other_loads_and_bad_runs_are_not_mixed_in() -> None:
    runs = [*past([1.0] * 8), *past([2.0] * 8, duration=60)]
    bad = dataclasses.replace(runs[0].result, status="partial", run_id="bad")
    found = history([*runs, PastRun(bad, {}, "c")], ["e2e.mean"])
    assert [len(t.values) for t in found.trends] == [8, 8]
    assert any("1 of 17 runs are left out" in n for n in found.notes)
    assert any("2 histories" in n for n in found.notes)


def test_an_odd_run_is_marked_and_is_no_change() -> None:
    factors = steps(at=99)
    factors[9] = 1.6
    (trend,) = history(past(factors), ["e2e.mean"]).trends
    assert trend.quarantined == [9]
    assert trend.change_points == []
