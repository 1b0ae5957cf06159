from __future__ import annotations

from dataclasses import dataclass, field
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.simulator.api import EngineRequest
from llm_d_benchmark.simulator.engine import Engine
from llm_d_benchmark.simulator.progress import Progress
from tests.support.simulator import LinearCost, request, small_engine


@dataclass
class Ran:
    """What an engine did with a schedule."""

    finished: dict[int, Progress] = field(default_factory=dict)
    steps: int = 0
    busy: float = 0.0
    ended: float = 0.0


def check_work_conserved(engine: Engine, preemptions: int) -> None:
    """Whoever waits has no place, no token of the budget, or no blocks; and no step is empty."""
    limits, load = engine.limits, engine.load
    budget = limits.max_num_batched_tokens - load.prefill_tokens - load.decode_seqs
    assert budget >= 0
    assert load.prefill_tokens or load.decode_seqs
    if engine.waiting and budget and engine.running < limits.max_num_seqs and engine.preemptions == preemptions:
        head = engine._waiting[0]
        hit = engine._pool.hits(head.chain, (head.tokens - 1) // limits.block_size)
        need = limits.blocks(min(head.tokens, hit * limits.block_size + budget)) - hit
        assert need > engine.free_blocks - engine._pool.idle(head.chain, hit)


def run(engine: Engine, schedule: list[tuple[float, EngineRequest]], *, most: int) -> Ran:
    """Drive an engine through a schedule, planning at most ``most`` steps at a time."""
    out, now, left = Ran(), 0.0, sorted(schedule, key=lambda entry: entry[0])
    while left or not engine.idle:
        if engine.idle:
            now = max(now, left[0][0])
        while left and left[0][0] <= now:
            engine.submit(left[0][1], left[0][0])
            left.pop(0)
        free = engine.free_blocks
        assert 0 <= free <= engine.limits.num_gpu_blocks
        preemptions = engine.preemptions
        ends = engine.begin(now, most)
        assert ends is not None
        assert engine.running <= engine.limits.max_num_seqs
        check_work_conserved(engine, preemptions)
        count = len(ends) if not left else min(len(ends), int(np.searchsorted(ends, left[0][0])) + 1)
        out.busy += float(ends[count - 1]) - now
        now = float(ends[count - 1])
        _, finished = engine.end(count)
        assert engine.free_blocks >= 0
        out.steps += count
        for progress in finished:
            out.finished[progress.request.request_id] = progress
    out.ended = now
    return out


schedules = st.lists(
    st.tuples(
        st.floats(0, 2),
        st.integers(1, 60),  # prompt
        st.integers(1, 30),  # output
        st.one_of(st.none(), st.integers(0, 2)),
    ),
    min_size=1,
    max_size=25,
)


def requests(rows: list[tuple[float, int, int, int | None]]) -> list[tuple[float, EngineRequest]]:
    return [(at, request(i, prompt, output, prefix=prefix)) for i, (at, prompt, output, prefix) in enumerate(rows)]


@settings(max_examples=100, deadline=None)
@given(schedules, st.integers(1, 6), st.integers(23, 60), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_ranges_and_single_steps_are_the_same(
    rows: list[tuple[float, int, int, int | None]], seqs: int, blocks: int, caching: bool, noise: float
) -> None:
    one, many = (
        run(small_engine(seqs=seqs, blocks=blocks, caching=caching, noise=noise), requests(rows), most=most)
        for most in (1, 500)
    )
    assert one.steps == many.steps
    for number, left in one.finished.items():
        right = many.finished[number]
        assert (left.started, left.preemptions, left.cached_tokens) == (
            right.started,
            right.preemptions,
            right.cached_tokens,
        )
        np.testing.assert_allclose(left.token_times, right.token_times, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(schedules, st.integers(1, 6), st.integers(23, 60), st.booleans())
def test_no_token_is_made_or_lost_and_every_block_comes_back(
    rows: list[tuple[float, int, int, int | None]], seqs: int, blocks: int, caching: bool
) -> None:
    engine = small_engine(seqs=seqs, blocks=blocks, caching=caching)
    ran = run(engine, requests(rows), most=500)
    assert sorted(ran.finished) == list(range(len(rows)))
    for number, (at, prompt, output, _) in enumerate(rows):
        progress = ran.finished[number]
        times = progress.token_times
        assert len(times) == output == progress.generated
        assert (np.diff(times) > 0).all()
        assert at <= progress.started < progress.first_token == times[0]
        assert progress.last_token == times[-1]
        assert 0 <= progress.cached_tokens < prompt
        assert caching or progress.cached_tokens == 0
    assert engine.generated_tokens == sum(row[2] for row in rows)
    assert engine.prompt_tokens == sum(row[1] for row in rows)
    assert (engine.running, engine.waiting, engine.free_blocks) == (0, 0, blocks)


@settings(max_examples=40, deadline=None)
@given(schedules)
def test_first_come_first_served(rows: list[tuple[float, int, int, int | None]]) -> None:
    ran = run(small_engine(seqs=3, blocks=500), requests(rows), most=500)
    order = sorted(range(len(rows)), key=lambda i: rows[i][0])
    started = [ran.finished[i].started for i in order]
    assert started == sorted(started)


def test_step_says_who_gets_a_token() -> None:
    engine = small_engine()
    engine.submit(request(1, 8, 2), 0.0)
    first = engine.step(0.0)
    assert first is not None
    assert (first.produced, first.load.prefill_tokens, first.load.decode_seqs) == ((1,), 8, 0)
    assert first.load.prefill_pairs == 36
    engine.submit(request(2, 4, 1), 0.001)
    second = engine.step(first.end)
    assert second is not None
    assert (second.produced, [p.request.request_id for p in second.finished]) == ((1, 2), [1, 2])
    assert (second.load.decode_seqs, second.load.decode_context, second.load.prefill_tokens) == (1, 9, 4)
    assert engine.step(second.end) is None


def test_a_long_prompt_is_computed_in_chunks() -> None:
    engine = small_engine(tokens=32)
    engine.submit(request(1, 70, 1), 0.0)
    chunks, now = [], 0.0
    while (step := engine.step(now)) is not None:
        chunks.append((step.load.prefill_tokens, len(step.produced)))
        now = step.end
    assert chunks == [(32, 0), (32, 0), (6, 1)]


def test_decoding_comes_before_prompts() -> None:
    engine = small_engine(seqs=8, tokens=16)
    engine.submit(request(1, 4, 10), 0.0)
    now = engine.step(0.0).end
    engine.submit(request(2, 40, 1), now)
    step = engine.step(now)
    assert (step.produced, step.load.prefill_tokens) == ((1,), 15)


def test_a_shared_prefix_is_not_computed_again() -> None:
    engine = small_engine()
    engine.submit(request(1, 16, 1, prefix=7), 0.0)
    now = engine.step(0.0).end
    assert engine.cached_prefix(request(2, 16, 1, prefix=7)) == 12  # the last token is always computed
    engine.submit(request(2, 18, 1, prefix=7), now)
    step = engine.step(now)
    assert step.load.prefill_tokens == 2
    assert step.finished[0].cached_tokens == 16


def test_the_answer_of_a_turn_is_found_by_the_next() -> None:
    engine = small_engine()
    engine.submit(EngineRequest(1, 8, 9, (11, 12), output_blocks=(13, 14)), 0.0)
    now = 0.0
    while (step := engine.step(now)) is not None:
        now = step.end
    assert engine.cached_prefix(EngineRequest(2, 20, 1, (11, 12, 13, 14, 15))) == 16


def test_the_longest_unused_block_is_forgotten_first() -> None:
    engine = small_engine(blocks=6)
    now = 0.0
    for number in (1, 2):
        engine.submit(request(number, 12, 1), now)
        now = engine.step(now).end
    assert engine.cached_prefix(request(1, 13, 1)) == 12
    engine.submit(request(3, 8, 1), now)
    engine.step(now)
    assert engine.cached_prefix(request(1, 13, 1)) == 4  # the end of the oldest went
    assert engine.cached_prefix(request(2, 13, 1)) == 12


def test_the_newest_is_preempted_and_computed_again() -> None:
    engine = small_engine(blocks=8, caching=False)
    schedule = [(0.0, request(1, 12, 14)), (0.0, request(2, 12, 14))]
    ran = run(engine, schedule, most=500)
    assert (ran.finished[1].preemptions, ran.finished[2].preemptions) == (0, 1)
    assert engine.preemptions == 1
    times = ran.finished[2].token_times
    assert len(times) == 14
    assert np.diff(times).max() > 5 * np.median(np.diff(times))


def test_an_aborted_request_gives_everything_back() -> None:
    engine = small_engine(tokens=16)
    for number in range(3):
        engine.submit(request(number, 40, 5), 0.0)
    now = 0.0
    for _ in range(4):
        now = engine.step(now).end
    assert (engine.running, engine.waiting) == (2, 1)
    made = engine.abort(0)
    assert made is not None
    assert len(made.token_times) == made.generated > 0
    assert engine.abort(1) is not None
    assert engine.abort(2) is not None
    assert engine.abort(2) is None
    assert (engine.idle, engine.running, engine.waiting, engine.free_blocks) == (True, 0, 0, 24)


def test_a_request_longer_than_the_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_gpu_blocks is 24"):
        small_engine().submit(request(1, 90, 10), 0.0)


def test_transferred_tokens_are_not_computed() -> None:
    engine = small_engine()
    engine.submit(EngineRequest(1, 30, 3, transferred_tokens=30), 0.0)
    step = engine.step(0.0)
    assert (step.load.prefill_tokens, step.produced) == (1, (1,))
    assert engine.free_blocks == 24 - 8


def test_memory_of_the_log_does_not_grow() -> None:
    engine = small_engine(blocks=500)
    rows = [(0.05 * i, request(i, 8, 20)) for i in range(1500)]
    run(engine, rows, most=500)
    assert len(engine._batch._log._ends) == 4096
    assert engine._batch.number > 3 * 4096


def test_littles_law() -> None:
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(0.02, 4000))
    rows = [
        (float(at), request(i, int(rng.integers(4, 30)), int(rng.integers(1, 20)))) for i, at in enumerate(arrivals)
    ]
    ran = run(small_engine(seqs=8, blocks=400, cost=LinearCost(fixed=0.002)), rows, most=500)
    stay = np.array([p.last_token - p.arrived for p in ran.finished.values()])
    ends = np.sort([p.last_token for p in ran.finished.values()])
    grid = np.linspace(0, ran.ended, 20_001)[1:-1]
    inside = np.searchsorted(arrivals, grid, side="right") - np.searchsorted(ends, grid, side="right")
    assert inside.mean() == pytest.approx(len(rows) / ran.ended * stay.mean(), rel=0.02)


def test_one_place_and_constant_service_is_m_d_1() -> None:
    """Mean wait rho S / (2 (1 - rho)): within 5 % over 20,000 requests."""
    rng, service, rho = np.random.default_rng(3), 0.05, 0.7
    cost = LinearCost(fixed=0.01, prefill=0, pair=0, sequence=0, context=0)
    arrivals = np.cumsum(rng.exponential(service / rho, 20_000))
    rows = [(float(at), request(i, 8, 5)) for i, at in enumerate(arrivals)]
    ran = run(small_engine(seqs=1, caching=False, cost=cost), rows, most=500)
    wait = np.mean([p.started - p.arrived for p in ran.finished.values()])
    assert wait == pytest.approx(rho * service / (2 * (1 - rho)), rel=0.05)
    assert ran.busy / ran.ended == pytest.approx(rho, rel=0.02)


def test_places_and_random_lengths_are_m_m_c() -> None:
    """Four places, steps of one length, geometric answers: the mean wait is Erlang's, within 10 %."""
    rng, places, step, mean, rho = np.random.default_rng(5), 4, 0.001, 100, 0.8
    cost = LinearCost(fixed=step, prefill=0, pair=0, sequence=0, context=0)
    service = mean * step
    arrivals = np.cumsum(rng.exponential(service / (places * rho), 30_000))
    lengths = rng.geometric(1 / mean, len(arrivals))
    rows = [(float(at), request(i, 1, int(n))) for i, (at, n) in enumerate(zip(arrivals, lengths, strict=True))]
    ran = run(small_engine(seqs=places, caching=False, blocks=5000, cost=cost), rows, most=500)
    wait = np.mean([p.started - p.arrived for p in ran.finished.values()])
    load = places * rho
    last = load**places / factorial(places) / (1 - rho)
    waits = last / (sum(load**k / factorial(k) for k in range(places)) + last)
    assert wait == pytest.approx(waits * service / (places * (1 - rho)), rel=0.1)
