"""What a study recommends: only what fresh runs show, and why."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
import yaml

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.config.target import TargetConfig
from llm_d_benchmark.domain.result import Claim
from llm_d_benchmark.domain.study import Gain, RunAdvice, Settings, StudyResult
from llm_d_benchmark.explore.conclude import Facts, conclude
from llm_d_benchmark.explore.flags import Diagnosed, hypotheses
from llm_d_benchmark.explore.ledger import Ledger
from llm_d_benchmark.explore.plan import Plan, plan_of
from llm_d_benchmark.report.explore import render_lines, render_study
from llm_d_benchmark.report.hypotheses import advice_lines
from llm_d_benchmark.store.comparison_json import from_json, published_schema, to_json
from tests.explore.synthetic import LATENCY, THROUGHPUT, Bench, explored, plan, server

TARGET = TargetConfig.model_validate({"simulator": {}})
FACTS = Facts("study", "study", "done", 0, 60_000_000_000, TARGET)
SPACE = {"batch_size": [1, 4, 16, 64], "concurrency": [16], "temperature": [0.1, 1.0]}


def served(settings: Settings) -> dict[str, float]:
    return server({**settings, "max_tokens": 128})


async def study(asked: Plan, bench: Bench) -> StudyResult:
    explorer = await explored(asked, bench)
    result = conclude(asked, explorer.ledger, FACTS)
    text = to_json(result)
    jsonschema.validate(json.loads(text), json.loads(published_schema(StudyResult)))
    assert to_json(from_json(text, StudyResult)) == text
    assert "http" not in render_lines(result)
    assert "<html" in render_study(result)
    return result


async def test_a_better_configuration_is_recommended_with_its_reasons() -> None:
    asked = plan(SPACE, constraints={"max_latency": "5s"})
    bench = Bench(served, noise=0.003, present={"batch_size": 4, "concurrency": 16, "temperature": 0.1})
    found = (await study(asked, bench)).recommendation
    assert found.sure
    assert found.settings["batch_size"] in (16, 64)
    assert isinstance(found.gain, Gain)
    true = served({"batch_size": 16, "concurrency": 16})[THROUGHPUT] / served({"batch_size": 4, "concurrency": 16})[THROUGHPUT] - 1  # noqa: E501  # fmt: skip
    assert found.gain.low <= true <= found.gain.high
    assert any(w.startswith("batch_size from 1 to") for w in found.why)
    assert "temperature is inert: leave it as the application needs it" in found.why
    assert (found.leave, "temperature" in found.settings) == (["temperature"], False)
    assert found.message.startswith(f"set batch_size={found.settings['batch_size']} (now 256)")
    assert "within the noise" in found.runner_up  # a batch of 64 with 16 users is one of 16
    assert "max_latency" in found.binding
    assert len(found.evidence) == 8


async def test_where_nothing_is_better_the_present_one_is_kept() -> None:
    asked = plan(SPACE)
    bench = Bench(served, noise=0.01, present={"batch_size": 16, "concurrency": 16, "temperature": 0.1})
    found = (await study(asked, bench)).recommendation
    assert (found.trial, found.sure) == (None, False)
    assert found.message == "keep the present configuration: no finalist is better than it beyond the noise"


@pytest.mark.parametrize("rounds", [4, 2])
async def test_one_failed_run_of_the_last_comparison_decides_nothing(rounds: int) -> None:
    asked = plan(SPACE, finalist_runs=rounds, finalists=1)
    bench = Bench(served, noise=0.01, present={"batch_size": 16, "concurrency": 16, "temperature": 0.1})
    explorer = await explored(asked, bench)
    at = next(i for i, r in enumerate(explorer.ledger.runs) if r.purpose == "final" and r.settings is None)
    runs = [replace(r, state="failed", values={}) if i == at else r for i, r in enumerate(explorer.ledger.runs)]
    found = conclude(asked, Ledger(runs), FACTS)
    assert found.recommendation.trial is None
    assert all(f.feasible for f in found.finalists)
    assert [g.rounds for f in found.finalists for g in f.gains] == ([3] if rounds == 4 else [])


async def test_where_nothing_keeps_the_limits_it_is_said_plainly() -> None:
    asked = plan(SPACE, constraints={"max_cost": "$0.001/token", "max_latency": "1ms"})
    bench = Bench(served, present={"batch_size": 16, "concurrency": 16, "temperature": 0.1})
    found = (await study(asked, bench)).recommendation
    assert found.message == "no configuration that was measured keeps every limit"
    assert any(w.startswith("max_latency (e2e.p95 <= 1ms) is broken by 8 of 8") for w in found.why)
    assert any("give spec.prices" in m for m in found.measure_next)


async def test_a_present_configuration_that_breaks_a_limit_is_left_even_at_a_loss() -> None:
    asked = plan({"concurrency": [4, 16, 64]}, constraints={"max_latency": "3s"})
    bench = Bench(lambda s: served({"batch_size": 16, **s}), noise=0.003, present={"concurrency": 64})
    found = (await study(asked, bench)).recommendation
    assert found.settings == {"concurrency": 16}
    assert found.why[0].startswith("the present configuration breaks a limit: max_latency")


async def test_several_objectives_give_a_front() -> None:
    asked = plan(
        {"batch_size": [1, 4, 16, 64], "concurrency": [4, 16, 64]}, optimization_target=["throughput", "p95_latency"]
    )
    result = await study(asked, Bench(served, noise=0.001, present={"batch_size": 4, "concurrency": 16}))
    assert len([t for t in result.trials if t.best]) >= 2
    assert [g.metric for f in result.finalists if f.trial for g in f.gains][:2] == [THROUGHPUT, LATENCY]
    assert 'id="front"' in render_study(result)


@pytest.mark.parametrize(("drift", "seen"), [(0.004, True), (0.0, False)])
async def test_drift_is_seen(drift: float, seen: bool) -> None:
    bench = Bench(served, noise=0.005, seed=3, present={"batch_size": 16, "concurrency": 16})
    bench.drift = drift
    result = await study(plan({**SPACE, "concurrency": [4, 16, 64]}, reference_every=4), bench)
    assert result.drift.runs >= 5
    assert ("drifted" in result.drift.message) is seen


def test_flags_follow_the_diagnosis_and_name_a_factor() -> None:
    claims = [Diagnosed("run1", Claim("the KV cache was full", "high", ["kv_cache_utilization_max 100%"])),
              Diagnosed("run2", Claim("prefill took most of a request's time", "medium", ["prefill 60%"]))]  # fmt: skip
    found = {h.flag: h for h in hypotheses(claims, TARGET, [])}
    assert found["--gpu-memory-utilization"].key == "spec.target.simulator.gpu_memory_utilization"
    assert found["--max-num-seqs"].values == (256, 128, 64)
    assert found["--max-num-batched-tokens"].values == (8192, 16384, 32768)
    assert "high confidence: kv_cache_utilization_max 100%" in found["--kv-cache-dtype"].because
    assert (found["--kv-cache-dtype"].run, found["--max-num-batched-tokens"].run) == ("run1", "run2")
    assert found["--kv-cache-dtype"].key is None  # the simulator has no such knob
    assert {"--tensor-parallel-size", "--enable-prefix-caching"} <= found.keys()
    tried = hypotheses(claims, TARGET, ["spec.target.simulator.max_num_seqs"])
    assert "--max-num-seqs" not in {h.flag for h in tried}
    command = ["vllm", "serve", "{model}", "--max-num-seqs", "{max_num_seqs}"]
    vllm = TargetConfig.model_validate({"process": {"command": command, "args": {"max_num_seqs": 64}}})
    (seqs,) = (h for h in hypotheses(claims, vllm, []) if h.flag == "--max-num-seqs")
    assert (seqs.key, seqs.values) == ("spec.target.process.args.max_num_seqs", (64, 32, 16))


def test_the_local_model_is_advised_in_its_own_flags() -> None:
    target = TargetConfig.model_validate({"type": "local"})
    begins = ("the KV cache was full", "requests waited in the server's queue", "prefill took most of a request's time",
              "most of a request's time passed before its first token", "decoding took most of a request's time",
              "prompts share prefixes, but the prefix cache was hardly hit")  # fmt: skip
    found = [h for b in begins for h in hypotheses([Diagnosed("run1", Claim(b, "high", ["x"]))], target)]
    assert {h.flag for h in found} == {"--ctx-size", "--cache-type-k", "--parallel", "--ubatch-size", "--batch-size"}
    for h in found:  # each is a search that the target takes
        assert h.key is not None
        assert len(h.values) > 1
        for value in h.values:
            load_config(
                [], env={}, overrides={"spec": {"target": {"local": {}}}}, sets=[f"{h.key}={json.dumps(value)}"]
            )
    (queued,) = hypotheses([Diagnosed("run1", Claim(begins[1], "high", ["x"]), 3.9)], target)
    assert (queued.flag, queued.key, queued.values) == ("--parallel", "spec.target.local.slots", (4, 8, 16))
    few = TargetConfig.model_validate({"local": {"threads": 2}})
    decoding = hypotheses([Diagnosed("run1", Claim(begins[4], "high", ["x"]))], few)
    assert ("--threads", (2, 4)) in [(h.flag, h.values) for h in decoding]


async def test_finalists_differ_in_what_matters() -> None:
    asked = plan({**SPACE, "temperature": [0.1, 0.5, 1.0]}, finalists=2)
    bench = Bench(served, noise=0.003, present={"batch_size": 4, "concurrency": 16, "temperature": 0.1})
    result = await study(asked, bench)
    tried = [f.settings for f in result.finalists if f.trial is not None]
    assert sorted(tried, key=str) == [{"batch_size": 16, "concurrency": 16}, {"batch_size": 64, "concurrency": 16}]
    for f in result.finalists:
        if f.trial is not None:
            assert f.settings.items() <= result.trials[f.trial - 1].settings.items()


async def test_where_no_factor_matters_there_is_nothing_to_compare() -> None:
    asked = plan({"temperature": [0.1, 0.5, 1.0]}, repeats=2)
    bench = Bench(lambda _: {THROUGHPUT: 100.0})
    result = await study(asked, bench)
    assert not result.finalists
    assert result.recommendation.message.startswith("keep the present configuration: nothing that was measured differs")
    assert result.recommendation.leave == ["temperature"]


async def test_a_factor_of_a_condition_is_not_left_out() -> None:
    caching, block = "spec.target.simulator.enable_prefix_caching", "spec.target.simulator.block_size"
    space = {"batch_size": [1, 4, 16], caching: [True, False], block: {"values": [16, 32], "when": {caching: [True]}}}
    asked = plan(space, repeats=2, finalists=1)
    bench = Bench(lambda s: {THROUGHPUT: 10.0 * float(s["batch_size"])}, noise=0.001, present={"batch_size": 1})
    result = await study(asked, bench)
    assert result.recommendation.settings["batch_size"] == 16
    assert ("enable_prefix_caching" in result.recommendation.settings, result.recommendation.leave) == (True, [])


def test_who_waits_beside_free_places_is_not_helped_by_more_places() -> None:
    claim = Claim("requests waited in the server's queue", "high", ["queue 61%"], stage=0)
    flags = [[h.flag for h in hypotheses([Diagnosed("run1", claim, running)], TARGET)] for running in (3.0, 250.0)]
    assert flags == [
        ["--max-num-batched-tokens", "--tensor-parallel-size", "--enable-prefix-caching"],
        ["--max-num-seqs"],
    ]
    full = Claim("the KV cache was full", "high", ["preemptions 64"], stage=0)
    limited = TargetConfig.model_validate({"simulator": {"num_gpu_blocks": 1200}})
    both = hypotheses([Diagnosed("run1", claim, 60.0), Diagnosed("run1", full, 60.0)], limited)
    assert all(h.because.startswith("the KV cache was full") for h in both)
    (blocks,) = (h for h in both if h.flag == "--num-gpu-blocks-override")
    assert (blocks.key, blocks.values) == ("spec.target.simulator.num_gpu_blocks", (1200, 1800, 2400))
    assert "--gpu-memory-utilization" not in {h.flag for h in both}


def test_the_search_to_paste_is_one_that_explore_takes() -> None:
    claim = Claim("the KV cache was full", "high", ["kv_cache_utilization_max 100%", "preemptions 12"], stage=0)
    text = "\n".join(advice_lines(RunAdvice("run1", [claim], hypotheses([Diagnosed("run1", claim)], TARGET))))
    assert "#   stage 0: the KV cache was full (high confidence: kv_cache_utilization_max 100%; preemptions 12)" in text
    assert "nothing in the configuration of this target sets --kv-cache-dtype" in text
    search = {**yaml.safe_load(text)["spec"], "target": "simulator"}
    config = load_config([], env={}, overrides={"spec": search}).config
    found = {d.key.rpartition(".")[2]: list(d.values) for d in plan_of(config, "simulator").space.dimensions}
    assert found == {
        "gpu_memory_utilization": [0.9, 0.93, 0.95], "tensor_parallel_size": [1, 2, 4], "max_num_seqs": [256, 128, 64]
    }  # fmt: skip
