"""The cost model: its two forms agree, and it is monotone in every load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.simulator.api import CostModel, StepLoad
from llm_d_benchmark.simulator.cost import StepCost

COST = StepCost(fixed=1e-3, weights=6e-3, token=2e-5, sequence=1e-5, context=5e-8, pair=1e-9)
EXPERTS = replace(COST, weights=1e-3, experts=20e-3, expert_share=0.25, transfer=1e-6)

KNOTS = replace(COST, decode_knots=((1, 33e-3), (2, 65e-3), (3, 99e-3), (4, 84e-3), (8, 120e-3)))


@given(
    st.sampled_from([COST, EXPERTS, KNOTS]),
    st.integers(1, 512),
    st.integers(0, 2_000_000),
    st.integers(0, 50),
)
def test_a_range_of_decode_steps_equals_its_steps_one_by_one(
    cost: StepCost, seqs: int, context: int, steps: int
) -> None:
    model: CostModel = cost
    at_once = model.decode_steps(seqs, context, steps)
    one_by_one = [model.step(StepLoad(decode_seqs=seqs, decode_context=context + k * seqs)) for k in range(steps)]
    assert at_once.shape == (steps,)
    np.testing.assert_array_equal(at_once, np.asarray(one_by_one))


@given(
    st.sampled_from([COST, EXPERTS]),
    st.integers(0, 8192),
    st.integers(0, 512),
    st.sampled_from(["prefill_tokens", "prefill_pairs", "decode_seqs", "decode_context"]),
)
def test_more_load_never_takes_less_time(cost: StepCost, prefill: int, seqs: int, more: str) -> None:
    load = StepLoad(prefill, prefill * (prefill + 1) / 2, seqs, seqs * 500)
    heavier = StepLoad(**{f: getattr(load, f) + (1 if f == more else 0) for f in StepLoad.__slots__})
    assert cost.step(heavier) >= cost.step(load) >= cost.fixed + cost.weights


def test_weights_are_read_once_until_arithmetic_takes_longer() -> None:
    """300 tokens' arithmetic takes as long as reading the weights: below, prefill tokens ride along for free."""
    assert COST.step(StepLoad(prefill_tokens=299)) == COST.step(StepLoad(prefill_tokens=1)) == pytest.approx(7e-3)
    assert COST.step(StepLoad(prefill_tokens=600)) == pytest.approx(13e-3)


def test_a_batch_touches_experts_as_independent_draws_do() -> None:
    """Two of eight experts per token: 1, 2 and 64 tokens touch a quarter, 7/16 and all of them."""
    extra = [EXPERTS.step(StepLoad(decode_seqs=n)) - EXPERTS.step(StepLoad()) for n in (1, 2, 64)]
    per_sequence = EXPERTS.sequence + EXPERTS.transfer
    touched = [(e - n * per_sequence) / EXPERTS.experts for e, n in zip(extra, (1, 2, 64), strict=True)]
    assert touched == pytest.approx([0.25, 0.4375, 1.0], abs=1e-6)


def test_knots_say_what_decoding_takes_and_leave_prefill_alone() -> None:
    said = [KNOTS.step(StepLoad(decode_seqs=n)) for n in (1, 3, 4, 6, 8)]
    assert said == pytest.approx([33e-3, 99e-3, 84e-3, 102e-3, 120e-3])
    growth = COST.step(StepLoad(decode_seqs=500)) - COST.step(StepLoad(decode_seqs=8))
    assert KNOTS.step(StepLoad(decode_seqs=500)) == pytest.approx(120e-3 + growth)
    mixed = StepLoad(prefill_tokens=40, prefill_pairs=820, decode_seqs=3, decode_context=300)
    assert KNOTS.step(mixed) == COST.step(mixed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token": -1.0}, "token: -1.0"),
        ({"pair": float("nan")}, "pair: nan"),
        ({"context": float("inf")}, "context: inf"),
        ({"expert_share": 1.5}, "expert_share: 1.5 is above 1"),
        ({"decode_knots": ((2, 1.0), (1, 2.0))}, "are not ascending"),
        ({"decode_knots": ((1, 0.0),)}, "decode_knots: 0.0 at 1 sequences"),
        ({"fixed": 0.0, "weights": 0.0}, "a step would take no time"),
    ],
)
def test_impossible_coefficients_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(COST, **change)
