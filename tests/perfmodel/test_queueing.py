"""The queue against a simulation of it, and against formulas that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.perfmodel.queueing import Mixture, Queue, Unstable, closed_loop, solve


def test_constant_service_is_erlang_c():
    rate, seconds, places = 8.0, 1.0, 10
    queue = solve(rate, np.full(places, seconds))
    a = rate * seconds
    waits = a**places / math.factorial(places) / (1 - a / places)
    waits /= sum(a**k / math.factorial(k) for k in range(places)) + waits
    assert isinstance(queue, Queue)
    assert queue.waits == pytest.approx(waits, rel=1e-9)
    assert queue.mean_wait == pytest.approx(waits / (places - rate), rel=1e-9)
    assert queue.in_service == pytest.approx(a, rel=1e-9)


def test_state_dependent_service_against_simulation():
    places, rate = 8, 9.0
    times = 0.3 + 0.06 * np.arange(1, places + 1)
    queue = solve(rate, times)
    assert isinstance(queue, Queue)
    rng = np.random.default_rng(1)
    n, now, waits, counts = 0, 0.0, 0, np.zeros(400)
    for _ in range(200_000):
        leave = min(n, places) / times[min(n, places) - 1] if n else 0.0
        step = rng.exponential(1 / (rate + leave))
        counts[min(n, 399)] += step
        now += step
        n += 1 if rng.random() < rate / (rate + leave) else -1
    waits = counts[places:].sum() / now
    assert queue.waits == pytest.approx(waits, abs=0.02)
    assert queue.waiting == pytest.approx(counts[places:] @ np.arange(400 - places) / now, rel=0.1)


def test_requests_in_groups_against_simulation():
    """What a request finds, those before it in its group included; leaving at n / T(n), groups geometric."""
    places, rate, dispersion = 8, 6.0, 4.0
    times = 0.3 + 0.06 * np.arange(1, places + 1)
    # Geometric groups have E[X^2] / E[X] = 2 dispersion - 1, and exponential stays 1: together 2 dispersion.
    queue = solve(rate, times, dispersion, service_scv=dispersion)
    assert isinstance(queue, Queue)
    rng = np.random.default_rng(1)
    n, found = 0, np.zeros(2000)
    for _ in range(200_000):
        leave = min(n, places) / times[min(n, places) - 1] if n else 0.0
        if rng.random() < leave / (leave + rate / dispersion):
            n -= 1
            continue
        for _ in range(rng.geometric(1 / dispersion)):
            found[n] += 1
            n += 1
    found /= found.sum()
    assert queue.states == pytest.approx(found[:places], rel=0.05, abs=0.003)
    assert queue.waits == pytest.approx(found[places:].sum(), abs=0.02)
    assert solve(rate, times, dispersion, service_scv=0.0).mean_wait < queue.mean_wait


@given(st.floats(0.01, 200), st.integers(1, 300), st.floats(0.01, 2), st.floats(0, 0.1))
def test_probabilities_add_up_or_it_is_unstable(rate, places, alone, more):
    queue = solve(rate, alone + more * np.arange(1, places + 1))
    if isinstance(queue, Unstable):
        assert queue.backlog >= -1e-6 * rate
        assert queue.utilization >= 1 - 1e-6
    else:
        assert queue.states.sum() + queue.waits == pytest.approx(1)
        assert 0 <= queue.utilization < 1
        assert queue.wait_tail(0) == queue.waits
        assert queue.wait_tail(1e9) == 0
        assert queue.batches()[1].sum() == pytest.approx(1)


def test_quantiles_of_a_mixture_against_samples():
    mixture = Mixture(np.array([1.0, 2.0]), np.array([0.7, 0.3]), np.array([0.5, 1.0]), np.array([2.0, 4.0]))
    rng = np.random.default_rng(2)
    second = rng.random(200_000) < 0.3
    sample = np.where(
        second, 2 + rng.exponential(0.25, 200_000), 1 + (rng.random(200_000) < 0.5) * rng.exponential(0.5, 200_000)
    )
    for share in (0.5, 0.9, 0.95, 0.99):
        assert mixture.quantile(share) == pytest.approx(np.quantile(sample, share), rel=0.02)
    assert mixture.mean == pytest.approx(sample.mean(), rel=0.01)


def test_a_closed_loop_obeys_littles_law():
    times = np.full(4, 2.0)
    assert closed_loop(3, times) == (1.5, 0.0)
    rate, wait = closed_loop(10, times)
    assert rate * (wait + 2.0) == pytest.approx(10)
    assert rate == 2.0
