"""Arrivals: the gaps are those of the process, and the counts those of the rate's integral."""

from __future__ import annotations

import math
from itertools import islice, takewhile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.load import Arrival
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Load, Stage
from llm_d_benchmark.workload.arrivals import expected_arrivals, offsets


def stage(
    arrival: dict[str, Any], *, rate: float | None = None, seconds: float | None = 100.0, index: int = 0
) -> Stage:
    return Stage(index, "s", Load(rate=rate, arrival=arrival), duration_s=seconds)


def released(of: Stage, seed: int = 1) -> list[float]:
    return list(takewhile(lambda offset: offset < (of.load_s or 0), offsets(of, seed)))


def cv_of_gaps(arrival: dict[str, Any]) -> float:
    gaps = np.diff(list(islice(offsets(stage(arrival, rate=20.0), seed=3), 40_000)))
    assert float(gaps.mean()) == pytest.approx(1 / 20, rel=0.03)
    return float(gaps.std() / gaps.mean())


def test_constant_is_exactly_constant() -> None:
    got = list(islice(offsets(stage({"type": "constant"}, rate=3.0), seed=1), 10_000))
    assert got == [k / 3.0 for k in range(10_000)]


def test_poisson_gaps_vary_as_much_as_they_are_long() -> None:
    assert cv_of_gaps({"type": "poisson"}) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("shape", [0.25, 0.5, 4.0])
def test_gamma_gaps_vary_by_the_burstiness(shape: float) -> None:
    assert cv_of_gaps({"type": "gamma", "burstiness": shape}) == pytest.approx(1 / math.sqrt(shape), rel=0.05)


SHAPES: list[tuple[dict[str, Any], float | None, float]] = [
    ({"type": "ramp", "from_rate": 2.0, "to_rate": 18.0}, None, 1000.0),
    ({"type": "ramp", "from_rate": 18.0, "to_rate": 2.0}, None, 1000.0),
    ({"type": "ramp", "from_rate": 5.0, "to_rate": 5.0}, None, 500.0),
    ({"type": "steps", "rates": [1.0, 0.0, 9.0, 2.0]}, None, 300.0),
    ({"type": "steps", "rates": [0.0, 4.0]}, None, 200.0),
    ({"type": "spikes", "peak": 50.0, "every": 10.0, "length": 1.0}, 2.0, 10 * (9 * 2 + 50)),
    ({"type": "spikes", "peak": 50.0, "every": 30.0, "length": 5.0}, 2.0, 3 * (25 * 2 + 5 * 50) + 10 * 2),
]


@pytest.mark.parametrize(("arrival", "rate", "integral"), SHAPES)
def test_counts_are_the_integral_of_the_rate(arrival: dict[str, Any], rate: float | None, integral: float) -> None:
    assert expected_arrivals(stage(arrival, rate=rate).load, 100.0) == pytest.approx(integral)
    assert abs(len(released(stage(arrival, rate=rate))) - integral) <= 1
    random = stage({**arrival, "process": "poisson"}, rate=rate)
    assert abs(len(released(random)) - integral) < 4 * math.sqrt(integral)


def test_steps_change_where_they_should() -> None:
    got = np.array(released(stage({"type": "steps", "rates": [1.0, 0.0, 9.0, 2.0]})))
    counts = np.histogram(got, bins=[0, 25, 50, 75, 100])[0]
    assert counts.tolist() == [25, 0, 225, 50]


def test_a_spike_ends_each_period() -> None:
    got = np.array(released(stage({"type": "spikes", "peak": 50.0, "every": 10.0, "length": 1.0}, rate=2.0)))
    inside = got % 10.0 >= 9.0
    assert int(inside.sum()) == pytest.approx(500, abs=10)
    assert int((~inside).sum()) == pytest.approx(180, abs=10)


def test_a_ramp_is_denser_at_its_fast_end() -> None:
    got = np.array(released(stage({"type": "ramp", "from_rate": 0.1, "to_rate": 20.0})))
    assert int((got < 50).sum()) == pytest.approx(100 * (0.1 + 10.05) / 4, abs=2)


@pytest.mark.parametrize("kind", ["ramp", "steps", "spikes"])
def test_a_rate_that_takes_its_course_needs_a_duration(kind: str) -> None:
    arrival = next(a for a, _, _ in SHAPES if a["type"] == kind)
    with pytest.raises(ConfigError, match=f"arrival '{kind}' needs a duration"):
        next(offsets(stage(arrival, rate=1.0, seconds=None), seed=1))


@pytest.mark.parametrize(
    "arrival",
    [
        {"type": "steps", "rates": [1.0, -2.0]},
        {"type": "steps", "rates": [0.0, 0.0]},
        {"type": "spikes", "peak": 5.0, "every": 10.0, "length": 10.0},
    ],
)
def test_shapes_that_cannot_be_are_refused(arrival: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=arrival["type"]):
        Arrival.model_validate(arrival)


rates = st.floats(0.1, 200.0)
arrivals = st.one_of(
    st.sampled_from([{"type": "constant"}, {"type": "poisson"}]),
    st.builds(lambda b: {"type": "gamma", "burstiness": b}, st.floats(0.2, 20.0)),
    st.builds(lambda a, b, p: {"type": "ramp", "from_rate": a, "to_rate": b, "process": p}, rates, rates,
              st.sampled_from(["constant", "poisson"])),
    st.builds(lambda r, p: {"type": "steps", "rates": r, "process": p},
              st.lists(st.one_of(st.just(0.0), rates), min_size=1, max_size=6).filter(any),
              st.sampled_from(["constant", "poisson"])),
    st.builds(lambda peak, every, part: {"type": "spikes", "peak": peak, "every": every, "length": every * part},
              rates, st.floats(0.5, 40.0), st.floats(0.05, 0.95)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(arrivals, rates, st.floats(0.5, 60.0), st.integers(-5, 2**40))
def test_offsets_never_go_back_and_depend_on_the_seed_alone(
    arrival: dict[str, Any], rate: float, seconds: float, seed: int
) -> None:
    of = stage(arrival, rate=rate, seconds=seconds)
    got = list(islice(offsets(of, seed), 500))
    assert got == sorted(got)
    assert all(0 <= offset < math.inf for offset in got)
    assert got == list(islice(offsets(of, seed), 500))
    assert len(got) == 500  # a profile that is over is a pause, and no end of the workload


def test_seeds_and_stages_give_other_arrivals() -> None:
    of = {"type": "poisson"}
    first = released(stage(of, rate=5.0))
    assert first != released(stage(of, rate=5.0), seed=2)
    assert first != released(stage(of, rate=5.0, index=1))
