"""Spaces and designs: what a block means, and that designs cover it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.explore.designs import design
from llm_d_benchmark.explore.plan import plan_of
from llm_d_benchmark.explore.space import Dimension, Space, key_of
from tests.explore.synthetic import plan

MISSION = Path(__file__).parents[2] / "examples" / "mission"
KEY = "spec.target.simulator.step_noise"


def test_the_missions_blocks_are_plans() -> None:
    config = load_config([MISSION / "advanced_config.yaml"], env={}).config
    found = plan_of(config, "simulator")
    assert [d.key.rpartition(".")[2] for d in found.space.dimensions] == [
        "max_num_seqs",
        "output_length",
        "temperature",
    ]
    assert [(m.method, m.trials) for m in found.methods] == [("factorial_design", 36)]
    assert [(c.metric, c.value, c.is_upper) for c in found.limits] == [
        ("e2e.p95", 2.0, True),
        ("output_tokens_per_second", 50.0, False),
        ("cost_per_token", 0.001, True),
    ]
    config = load_config([MISSION / "configuration_optimization.yaml"], env={}).config
    found = plan_of(config, "local")
    assert found.space.dimensions[0].key == "spec.target.local.slots"
    assert [(m.method, m.trials) for m in found.methods] == [
        ("grid_search", 150),
        ("bayesian_optimization", 30),
        ("genetic_algorithm", 30),
    ]
    assert [c.name for c in found.limits] == ["max_latency", "min_throughput", "max_cost"]
    with pytest.raises(ConfigError, match="which a target of type 'existing' cannot change"):
        plan_of(config, "existing")


def test_what_cannot_be_explored_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing says what to explore"):
        plan_of(load_config([], env={}).config, "simulator")
    both = load_config([MISSION / f"{n}.yaml" for n in ("advanced_config", "configuration_optimization")], env={})
    with pytest.raises(ConfigError, match="both"):
        plan_of(both.config, "simulator")
    with pytest.raises(ConfigError, match="'when' names temperature"):
        plan({"batch_size": {"values": [1, 2], "when": {"temperature": [0.1]}}, "temperature": [0.1, 0.2]})
    with pytest.raises(ConfigError, match="'forbidden' names temperature"):
        plan({"batch_size": [1, 2]}, forbidden=[{"temperature": 0.1}])
    for wrong, why in (
        ({"low": 4}, "low' and 'high"),
        ({"low": 4, "high": 2}, "not below"),
        ({"low": 0, "high": 2, "log": True}, "above 0"),
        ({"values": [1], "low": 1, "high": 2}, "either"),
        ({"values": [1, 1]}, "more than once"),
    ):
        with pytest.raises(ConfigError, match=why):
            plan({"batch_size": wrong})


def test_a_key_goes_by_its_last_part_where_that_is_enough() -> None:
    first, second = (f"spec.benchmark.load_generators.{i}.config.top_k" for i in (0, 1))
    cache = "spec.target.simulator.enable_prefix_caching"
    noise = {"values": [0.0, 0.1], "when": {cache: [True]}}
    space = {first: [1, 2], second: [1, 2], cache: [True, False], KEY: noise}
    found = plan(space, forbidden=[{cache: False, first: 2}])
    assert [d.name for d in found.space.dimensions] == [first, second, "enable_prefix_caching", "step_noise"]
    assert found.space.dimensions[3].when == {"enable_prefix_caching": (True,)}
    assert [(d.present, d.key) for d in found.space.dimensions[2:]] == [(True, cache), (0.0, KEY)]
    assert not found.space.allows({"enable_prefix_caching": False, first: 2})


def test_ranges_have_steps_and_types() -> None:
    found = plan({"batch_size": {"low": 8, "high": 32, "step": 8}, KEY: {"low": 0.0, "high": 0.3, "step": 0.1}})
    assert [list(d.values) for d in found.space.dimensions] == [[8, 16, 24, 32], [0.0, 0.1, 0.2, 0.3]]
    (log,) = plan({"batch_size": {"low": 1, "high": 256, "log": True}}).space.dimensions
    assert log.levels() == [1, 4, 16, 64, 256]
    assert all(isinstance(v, int) for v in log.levels())


@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from(["random_search", "latin_hypercube", "sobol"]))
@settings(max_examples=40, deadline=None)
def test_designs_are_distinct_and_inside(count: int, seed: int, method: str) -> None:
    space = Space(
        [Dimension("a", "spec.a", (1, 2, 3)), Dimension("b", "spec.b", low=0.5, high=8.0, log=True)], [{"a": (2,)}]
    )
    found = design(space, method, count, seed)
    assert len({key_of(s) for s in found}) == len(found) == count
    assert all(s["a"] in (1, 3) and 0.5 <= float(s["b"]) <= 8.0 for s in found)
    assert found == design(space, method, count, seed)


@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_grid_is_every_combination_once_in_another_order(a: int, b: int, seed: int) -> None:
    space = Space([Dimension("a", "spec.a", tuple(range(a))), Dimension("b", "spec.b", tuple(range(b)))])
    found = design(space, "grid_search", a * b, seed)
    assert Counter(key_of(s) for s in found) == Counter(key_of(s) for s in space.combinations())


def test_a_latin_hypercube_spreads_each_factor() -> None:
    space = Space([Dimension(n, f"spec.{n}", low=0.0, high=1.0) for n in "abc"])
    found = design(space, "latin_hypercube", 20, 1)
    for name in "abc":
        counts, _ = np.histogram([float(s[name]) for s in found], bins=20, range=(0, 1))
        assert counts.tolist() == [1] * 20
