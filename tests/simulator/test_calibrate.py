"""Calibration recovers a server that is known, predicts levels it has not seen, and refuses what would mislead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm_d_benchmark.analyze.api import RunInput
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.records import MISSING, Labels, Ragged, Records
from llm_d_benchmark.simulator.api import StepLoad
from llm_d_benchmark.simulator.calibrate import Given, calibrate
from llm_d_benchmark.simulator.calibrate.fit import fit
from llm_d_benchmark.simulator.calibrate.levels import Level, levels_of
from llm_d_benchmark.simulator.calibrate.predict import predict, simulate
from llm_d_benchmark.simulator.calibrate.steps import observed_steps
from llm_d_benchmark.simulator.cost import StepCost
from llm_d_benchmark.simulator.engine import EngineLimits
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.simulator.profiles.file import read_profile, write_profile

from .calibration_runs import CPU, CPU_LIMITS, GPU, GPU_LIMITS, as_run, served_level

LOADS = [
    StepLoad(decode_seqs=1, decode_context=800),
    StepLoad(decode_seqs=40, decode_context=40_000),
    StepLoad(prefill_tokens=1000, prefill_pairs=500_500),
    StepLoad(prefill_tokens=500, prefill_pairs=125_250, decode_seqs=20, decode_context=16_000),
]


@pytest.fixture(scope="module")
def gpu_levels() -> list[Level]:
    return [served_level(users, GPU, GPU_LIMITS) for users in (1, 4, 16, 64)]


@pytest.fixture(scope="module")
def cpu_levels() -> list[Level]:
    return [served_level(users, CPU, CPU_LIMITS, seconds=30) for users in (1, 2, 4, 8)]


@pytest.fixture(scope="module")
def cpu_run(cpu_levels: list[Level]) -> RunInput:
    return as_run(cpu_levels, CPU_LIMITS)


def test_steps_are_read_off_the_tokens(cpu_levels: list[Level]) -> None:
    """Each step took what the cost model says of the load that was read off it."""
    for level in cpu_levels:
        steps = observed_steps(level, CPU_LIMITS.max_num_batched_tokens)
        loads = zip(steps.prefill, steps.pairs, steps.seqs, steps.context, strict=True)
        said = np.array([CPU.step(StepLoad(int(p), float(q), int(s), int(c))) for p, q, s, c in loads])
        took = steps.end - steps.begin
        assert np.mean(np.abs(took / said - 1) < 1e-6) > 0.97  # two steps within a hair's breadth may be taken for one
        assert steps.prefill.sum() == level.prompt.sum()
        assert steps.seqs.sum() == (level.output - 1).sum()


def test_long_prompts_are_spread_over_steps() -> None:
    limits = EngineLimits(64, 512, 16, 28_000, False)
    level = served_level(8, GPU, limits)
    steps = observed_steps(level, 512)
    assert (steps.prefill + steps.seqs).max() <= 512
    assert steps.prefill.sum() == level.prompt.sum()
    n = level.prompt.astype(float)
    assert steps.pairs.sum() == pytest.approx((n * (n + 1) / 2).sum())


def test_a_known_server_is_recovered(gpu_levels: list[Level], cpu_levels: list[Level]) -> None:
    """Without noise the steps' times come back within 1 %, on both sides of the knee."""
    for truth, levels, limits in ((GPU, gpu_levels, GPU_LIMITS), (CPU, cpu_levels, CPU_LIMITS)):
        found = fit(levels, limits.max_num_batched_tokens).cost
        for load in LOADS if truth is GPU else LOADS[:1]:
            assert found.step(load) == pytest.approx(truth.step(load), rel=0.01), load


def test_noise_and_hiccups_do_not_bend_the_prediction() -> None:
    """Steps with 20 % noise, and one request in ten held up by a second: unseen levels are predicted within 8 %."""
    levels = [served_level(users, CPU, CPU_LIMITS, seconds=60, noise=0.2, seed=7) for users in (1, 2, 4, 8)]
    levels = [
        replace(
            level,
            chunks=[c + (1.0 if i % 10 == 5 else 0.0) * (np.arange(len(c)) > 3) for i, c in enumerate(level.chunks)],
        )
        for level in levels
    ]
    found = fit(levels, CPU_LIMITS.max_num_batched_tokens).cost
    for users in (3, 6):
        level = served_level(users, CPU, CPU_LIMITS, seconds=60)
        assert_close(predict(level, found, CPU_LIMITS), level, 0.08)


def test_steps_that_no_roofline_has_get_knots_and_what_precedes_the_queue_is_told_apart(tmp_path: Path) -> None:
    """As llama.cpp is measured: four sequences are faster than three, and requests need a moment before they count."""
    truth = replace(CPU, decode_knots=((1, 0.033), (2, 0.065), (3, 0.099), (4, 0.084)))
    levels = [
        served_level(users, truth, CPU_LIMITS, seconds=60, request_overhead=0.02, noise=0.05) for users in (1, 2, 4, 8)
    ]
    found = fit(levels, CPU_LIMITS.max_num_batched_tokens)
    assert found.request_overhead == pytest.approx(0.02, abs=0.005)
    assert [n for n, _ in found.cost.decode_knots] == [1, 2, 3, 4]
    for users in (3, 6):
        level = served_level(users, truth, CPU_LIMITS, seconds=60, request_overhead=0.02)
        predicted = predict(level, found.cost, CPU_LIMITS, request_overhead=found.request_overhead)
        assert_close(predicted, level, 0.05)
    file = tmp_path / "profile.yaml"
    made = calibrate([as_run(levels, CPU_LIMITS)])
    write_profile(file, made.profile())
    loaded = load_profile(SimulatorTargetConfig(profile=str(file)))
    assert (loaded.cost, loaded.request_overhead) == (made.cost, made.request_overhead)
    assert loaded.cost.decode_knots


class _InBlocks(StepCost):
    """Prompts are computed in blocks, of which the last one is as slow as a whole one: no model of ours has that."""

    def step(self, load: StepLoad) -> float:
        return super().step(load) + (0.08 if load.prefill_tokens % 64 > 32 else 0.0)


@pytest.mark.parametrize("users", [(1, 3, 4, 8), (1, 2, 4, 8)])
def test_a_batch_that_was_never_the_whole_load_is_not_taken_for_the_prompts_beside_it(users: tuple[int, ...]) -> None:
    """Two sequences decode alone only until the third user's next prompt comes, whose time the model cannot know."""
    knots = ((1, 0.025), (2, 0.054), (3, 0.09), (4, 0.079))
    truth = _InBlocks(CPU.fixed, CPU.weights, CPU.token, CPU.sequence, CPU.context, CPU.pair, decode_knots=knots)
    levels = [served_level(n, truth, CPU_LIMITS, seconds=60, noise=0.05) for n in users]
    found = dict(fit(levels, CPU_LIMITS.max_num_batched_tokens).cost.decode_knots)
    assert found == {n: pytest.approx(seconds, rel=0.03) for n, seconds in knots}


def test_a_knot_that_was_hardly_seen_leaves_the_roofline() -> None:
    truth = replace(CPU, decode_knots=((1, 0.033), (2, 0.065), (3, 0.099), (4, 0.084)))
    levels = [served_level(users, truth, CPU_LIMITS, seconds=s) for users, s in ((1, 30), (2, 30), (4, 1))]
    assert not fit(levels, CPU_LIMITS.max_num_batched_tokens).cost.decode_knots


def assert_close(predicted: object, level: Level, limit: float) -> None:
    for quantity in ("throughput", "ttft", "tpot"):
        assert getattr(predicted, quantity) == pytest.approx(getattr(level.measured, quantity), rel=limit), quantity


def test_an_open_loop_is_predicted_from_its_times_of_sending(gpu_levels: list[Level]) -> None:
    found = fit(gpu_levels, GPU_LIMITS.max_num_batched_tokens).cost
    closed = gpu_levels[2]
    poisson = np.cumsum(np.random.default_rng(3).exponential(0.1, len(closed)))
    asked = replace(closed, concurrency=None, sent=poisson)
    sent, output, chunks = simulate(asked, GPU, GPU_LIMITS)
    assert_close(predict(asked, found, GPU_LIMITS), replace(asked, sent=sent, output=output, chunks=chunks), 0.02)


def test_a_run_becomes_a_profile_that_simulates_it(cpu_run: RunInput, cpu_levels: list[Level], tmp_path: Path) -> None:
    found = calibrate([cpu_run], Given(hardware="a core"))
    assert [c.label for c in found.levels] == ["c=1", "c=2", "c=4", "c=8"]
    assert all(c.held_out for c in found.levels)
    # eight users share four places, so of four levels only the first is beyond all others
    assert [c.outside for c in found.levels] == [True, False, False, False]
    assert found.levels[0].measured.tpot == pytest.approx(cpu_levels[0].measured.tpot, rel=1e-3)  # type: ignore[union-attr]
    assert max(found.worst(q) for q in ("throughput", "ttft", "tpot")) < 0.1
    file = tmp_path / "profile.yaml"
    write_profile(file, found.profile())
    assert read_profile(file) == found.profile()
    loaded = load_profile(SimulatorTargetConfig(profile=str(file), max_num_seqs=4))
    assert loaded.cost == found.cost
    assert (loaded.model, loaded.hardware) == ("m", "a core")
    assert_close(predict(cpu_levels[2], loaded.cost, CPU_LIMITS), cpu_levels[2], 0.03)


def test_levels_named_are_held_out_and_the_rest_fitted(cpu_run: RunInput, cpu_levels: list[Level]) -> None:
    more = as_run([served_level(users, CPU, CPU_LIMITS, seconds=30) for users in (3, 6)], CPU_LIMITS, run_id="more")
    found = calibrate([cpu_run, more], hold_out=["c=3", "c=6"])
    assert found.cost == calibrate([cpu_run]).cost  # what is held out does not count
    assert {c.label: c.held_out for c in found.levels} == {
        "c=1": False, "c=2": False, "c=4": False, "c=8": False, "c=3": True, "c=6": True,
    }  # fmt: skip
    assert max(found.worst(q) for q in ("throughput", "ttft", "tpot")) < 0.05
    assert found.ranges["sequences"] == (1, 4)  # eight users share four places


def test_repeated_levels_are_one_level(cpu_levels: list[Level]) -> None:
    again = as_run(cpu_levels[:3], CPU_LIMITS, run_id="again")
    with pytest.raises(ConfigError, match=r"3 load levels to fit \(c=1, c=2, c=4\), 4 are needed"):
        calibrate([as_run(cpu_levels[:3], CPU_LIMITS), again])
    found = calibrate([as_run(cpu_levels, CPU_LIMITS), again])
    assert [c.stages for c in found.levels] == [2, 2, 2, 1]


def test_cached_prompt_tokens_are_context_but_not_computed(cpu_levels: list[Level]) -> None:
    run = as_run(cpu_levels[:1], CPU_LIMITS)
    whole = observed_steps(cpu_levels[0], CPU_LIMITS.max_num_batched_tokens)
    (level,) = levels_of(changed(run, cached_tokens=lambda p: p.ints("input_tokens") - 5))
    assert set(level.computed.tolist()) == {5}
    steps = observed_steps(level, CPU_LIMITS.max_num_batched_tokens)
    assert steps.context.tolist() == whole.context.tolist()
    assert steps.prefill.sum() == 5 * len(level)
    assert steps.pairs.sum() == (5 * (level.prompt - 5) + 15).sum()  # each looks at all before it, and at itself
    (level,) = levels_of(changed(run, cached_tokens=lambda p: p.ints("input_tokens")))
    assert set(level.computed.tolist()) == {1}  # one always is


def changed(run: RunInput, **columns: object) -> RunInput:
    """The run with other columns in every part."""
    parts = [Records({**p.columns, **{k: v(p) for k, v in columns.items()}}) for p in run.parts()]  # type: ignore[operator]
    return replace(run, parts=lambda: parts)


def test_what_would_mislead_is_refused(cpu_run: RunInput, cpu_levels: list[Level]) -> None:
    with pytest.raises(ConfigError, match="not streamed") as caught:
        calibrate([changed(cpu_run, streaming=lambda p: np.zeros(len(p), np.bool_))])
    assert caught.value.advice == "measure again with streaming: true"
    with pytest.raises(ConfigError, match=r"only 0 of \d+ requests were answered"):
        calibrate([changed(cpu_run, status=lambda p: Labels.from_list(["failed"] * len(p)))])
    with pytest.raises(ConfigError, match=r"only 0 of \d+ requests were answered with counted tokens"):
        calibrate([changed(cpu_run, output_tokens=lambda p: np.full(len(p), MISSING))])
    with pytest.raises(ConfigError, match="times at which their tokens arrived: native did not tell them"):
        calibrate([changed(cpu_run, chunk_times=lambda p: Ragged.from_lists([[]] * len(p)))])
    with pytest.raises(ConfigError, match="no such level; did you mean 'c=4'"):
        calibrate([cpu_run], hold_out=["c4"])
    with pytest.raises(ConfigError, match="3 load levels to fit"):
        calibrate([cpu_run], hold_out=["c=4"])
    with pytest.raises(ConfigError, match="runs are of 2 replicas"):
        calibrate([as_run(cpu_levels, CPU_LIMITS, replicas=2)])
    late = replace(cpu_levels[0], label="c=9", window=(900.0, 930.0))
    with pytest.raises(ConfigError, match="level c=9: in its window no request with more than one token was sent"):
        calibrate([as_run([*cpu_levels, late], CPU_LIMITS)])
    other = as_run(cpu_levels, replace(CPU_LIMITS, max_num_seqs=8), run_id="other")
    with pytest.raises(ConfigError, match="different servers: max_num_seqs is run: 4, other: 8"):
        calibrate([cpu_run, other])


def test_answers_in_one_piece_have_no_decode_step() -> None:
    level = served_level(1, CPU, CPU_LIMITS, seconds=5)
    at_once = replace(level, chunks=[c[-1:] for c in level.chunks])
    one_token = replace(at_once, output=np.ones(len(level), np.int64))
    for of_no_use in (at_once, one_token):
        with pytest.raises(ConfigError, match="no answer arrived in more than one piece"):
            fit([of_no_use], 2048)


def test_what_was_not_told_is_assumed_and_said(cpu_levels: list[Level]) -> None:
    run = as_run(cpu_levels, CPU_LIMITS)
    run.manifest["target"]["info"].clear()  # as of a server that says nothing of itself
    told = calibrate([run], Given(max_num_seqs=4)).served
    assert told.max_num_seqs == 4
    assert [a.split()[0] for a in told.assumed] == ["max_num_batched_tokens", "max_model_len", "kv_cache_tokens"]
    assert told.max_num_batched_tokens == SimulatorTargetConfig().max_num_batched_tokens
    uncounted = changed(as_run(cpu_levels, CPU_LIMITS), cached_tokens=lambda p: np.full(len(p), MISSING))
    assumed = calibrate([uncounted]).served.assumed[-1]
    assert assumed.startswith("that no prompt token came from a prefix cache")
    assert "vLLM does with --enable-prompt-tokens-details" in assumed


def test_merged_chunks_are_spread_over_their_tokens() -> None:
    """A server that sends two tokens per chunk is read as making one after the other."""
    level = served_level(1, CPU, CPU_LIMITS, seconds=20)
    even = [i for i, n in enumerate(level.output) if n % 2 == 1]
    pairs = replace(
        level, sent=level.sent[even], prompt=level.prompt[even], cached=level.cached[even], output=level.output[even],
        chunks=[level.chunks[i][::2] for i in even], session=level.session[even],
    )  # fmt: skip
    found, truth = fit([pairs], 2048).cost, fit([level], 2048).cost
    one = StepLoad(decode_seqs=1, decode_context=60)
    assert isinstance(found, StepCost)
    assert found.step(one) == pytest.approx(truth.step(one), rel=0.02)
