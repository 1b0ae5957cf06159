"""The chain of prompts against a simulation of it, and the tails that follow from it against the simulator."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.capacity.candidates import from_profile, limits_of
from llm_d_benchmark.capacity.prompts import STATES, chain, critical
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.perfmodel.service import Lengths, Requests, latencies
from llm_d_benchmark.runner.capacity_check import Simulated, simulate
from llm_d_benchmark.simulator.profiles import load_profile

ALONE, PROMPT, RATE, MORE = 0.01, 0.1, 6.0, 60


@pytest.fixture(scope="module")
def made():
    """Steps of 10 ms, 100 ms more for each prompt, two of which fit; 60 % of the time goes to prompts."""
    steps = (ALONE + PROMPT * np.arange(STATES + 1))[:, None]
    return chain(steps, 2, RATE)


@pytest.fixture(scope="module")
def played():
    """First tokens, and the steps after them, of requests that arrive at random."""
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1 / RATE, 30_000))
    now, waiting, next_, first, ends = 0.0, [], 0, [], []
    while next_ < len(arrivals):
        step = waiting[:2]
        now += ALONE + PROMPT * len(step)
        waiting = waiting[2:]
        ends.append(now)
        first += [(now - at, len(ends) - 1) for at in step]
        while next_ < len(arrivals) and arrivals[next_] <= now:
            waiting.append(arrivals[next_])
            next_ += 1
    ends = np.array(ends)
    seen = [(wait, ends[k + MORE] - ends[k]) for wait, k in first if k + MORE < len(ends)]
    return np.diff(ends), np.array(seen)


def test_the_mean_step_and_the_mean_first_token(made, played):
    steps, seen = played
    assert made.step[0] == pytest.approx(steps.mean(), rel=0.02)
    assert made.first_token[0] == pytest.approx(seen[:, 0].mean(), rel=0.03)


def test_tails_of_the_first_token(made, played):
    found = made.interference(MORE)
    until = np.cumsum(found.weights) - found.weights / 2
    for share in (0.5, 0.9, 0.95):
        assert np.interp(share, until, found.first) == pytest.approx(np.quantile(played[1][:, 0], share), rel=0.12)
    assert found.first @ found.weights == pytest.approx(made.first_token[0], rel=0.03)


def test_what_holds_up_an_answer(made, played):
    first, after = played[1].T
    found = made.interference(MORE)
    assert MORE * made.step[0] + found.later @ found.weights == pytest.approx(after.mean(), rel=0.02)
    spread = found.stall**2 + (found.later**2 @ found.weights - (found.later @ found.weights) ** 2)
    assert np.sqrt(spread) == pytest.approx(after.std(), rel=0.06)
    assert found.held == pytest.approx(MORE * (made.step[0] - ALONE), rel=1e-9)
    assert np.corrcoef(first, after)[0, 1] > 0.1  # whoever waited long met prompts that bring more of their kind
    assert found.later[-1] > found.later[0]


def test_more_prompts_than_are_computed():
    steps = (ALONE + PROMPT * np.arange(STATES + 1))[:, None]
    assert critical(steps, 2, 10.0)[0]
    assert not critical(steps, 2, RATE)[0]


def test_tails_of_long_prompts_and_short_answers():
    """Percentiles were up to a third too short where prompts were taken to come independently from step to step."""
    config = SimulatorTargetConfig(profile="llama-3.1-70b/h100", tensor_parallel_size=4)
    profile = load_profile(config)
    requests = Requests(Lengths.fixed(4000), Lengths.fixed(100))
    replica = from_profile(config, requests).replica
    rate = 0.7 * replica.capacity
    what = Simulated(profile.cost, limits_of(config, profile), requests, seconds=8000 / rate)
    ttft, e2e, _ = simulate(what, rate, np.random.default_rng(1)).seen
    found = latencies(replica.service, requests, rate)
    for metric, seen in (("ttft", ttft), ("e2e", e2e), ("tpot", (e2e - ttft) / 99)):
        assert found.at(metric, "mean") == pytest.approx(seen.mean(), rel=0.06)
        assert found.at(metric, "p95") == pytest.approx(np.quantile(seen, 0.95), rel=0.12)
