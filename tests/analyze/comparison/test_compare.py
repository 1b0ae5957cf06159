"""Runs side by side: which are one column, what differs, and what a difference is held against."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from llm_d_benchmark.analyze.comparison.compare import Compared, compare_runs
from llm_d_benchmark.analyze.comparison.differences import differences
from llm_d_benchmark.domain.comparison import ComparedMetric, Comparison, Effect
from llm_d_benchmark.domain.result import Absent, Measured
from tests.analyze.comparison.test_regression import run

CONFIG: dict[str, Any] = {
    "metadata": {"name": "x"},
    "spec": {
        "target": {"type": "local", "local": {"slots": 1}},
        "benchmark": {"load_generators": [{"config": {"seed": 0}}]},
    },
}


def compared(name: str, factor: float = 1.0, slots: int = 1, seed: int = 0, stages: int = 1) -> Compared:
    config = copy.deepcopy(CONFIG)
    config["spec"]["target"]["local"]["slots"] = slots
    config["spec"]["benchmark"]["load_generators"][0]["config"]["seed"] = seed
    return Compared(run(name, factor, stages), config)


def row(found: Comparison, metric: str) -> ComparedMetric:
    return next(m for m in found.metrics if m.metric == metric)


def test_equal_runs_are_one_column_where_others_differ() -> None:
    runs = [compared(f"a{i}", 1 + i / 100, seed=i) for i in range(3)]
    runs += [compared(f"b{i}", 1.2 + i / 100, slots=4, seed=i) for i in range(3)]
    found = compare_runs(runs)
    assert found.runs == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
    assert [(d.path, d.values) for d in found.differences] == [("spec.target.local.slots", [1, 4])]
    e2e = row(found, "e2e.mean")
    first, second = e2e.values
    assert first is not None
    assert second is not None
    assert first.delta is None
    assert isinstance(second.delta, Effect)
    assert second.delta.method == "welch"
    assert second.delta.slowdown == pytest.approx(0.198, abs=0.01)
    assert first.low is not None
    assert isinstance(first.value, Measured)
    assert first.low < first.value.value


def test_equal_runs_alone_stand_side_by_side() -> None:
    found = compare_runs([compared("a"), compared("b", seed=1)])
    assert found.runs == [["a"], ["b"]]
    assert [d.path for d in found.differences] == ["spec.benchmark.load_generators.0.config.seed"]


def test_single_runs_are_labelled_as_such() -> None:
    found = compare_runs([compared("a"), compared("b", 1.3, slots=2)])
    p50 = row(found, "e2e.p50").values[1]
    assert p50 is not None
    assert isinstance(p50.delta, Effect)
    assert p50.delta.method == "within_run"
    throughput = row(found, "output_tokens_per_second").values[1]
    assert throughput is not None
    assert isinstance(throughput.delta, Absent)
    assert "slower by +30.0 %" in throughput.delta.absent
    assert any("within the run" in note for note in found.notes)


def test_limits_from_the_records_are_used() -> None:
    one, other = compared("a"), compared("b", 1.3, slots=2)
    one, other = (
        dataclasses.replace(r, limits={0: {"e2e.mean": (m * 0.99, m * 1.01)}})
        for r in (one, other)
        if (m := r.result.stages[0].metrics.e2e.mean)  # type: ignore[union-attr]
    )
    value = row(compare_runs([one, other]), "e2e.mean").values[1]
    assert value is not None
    assert isinstance(value.delta, Effect)
    assert value.delta.low < 0.3 < value.delta.high


def test_loads_that_one_run_has_are_not_compared() -> None:
    found = compare_runs([compared("a", stages=1), compared("b", slots=2, stages=3)])
    loads = {m.load: [v is not None for v in m.values] for m in found.metrics}
    assert loads == {"2/s poisson": [True, True], "3.2/s poisson": [False, True], "5.12/s poisson": [False, True]}
    assert any("nothing to compare" in note for note in found.notes)


def test_differences_in_order_and_types() -> None:
    one = {"b": {"x": 1, "y": [1, 2]}, "a": True, "same": 1}
    other = {"b": {"x": 1.5, "y": [1]}, "a": 1, "same": 1, "new": {}}
    assert [(d.path, d.values) for d in differences([one, other])] == [
        ("b.x", [1, 1.5]),
        ("b.y.1", [2, None]),
        ("a", [True, 1]),
        ("new", [None, {}]),
    ]
    assert differences([{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]) == []


def test_seeds_within_a_column_are_no_difference_in_whatever_order_its_runs_come() -> None:
    runs = [
        compared("a1", seed=1),
        compared("a0", seed=0),
        compared("b0", slots=4, seed=0),
        compared("b1", slots=4, seed=1),
    ]
    assert [d.path for d in compare_runs(runs).differences] == ["spec.target.local.slots"]
    alone = compare_runs([compared("a", seed=0), compared("b", slots=4, seed=1)])
    assert {d.path.rpartition(".")[2] for d in alone.differences} == {"slots", "seed"}
