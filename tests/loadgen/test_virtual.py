from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import MISSING, Records
from llm_d_benchmark.domain.schedule import Session, Shard, Stage
from llm_d_benchmark.loadgen.api import LoadJob
from llm_d_benchmark.loadgen.virtual.generator import VirtualLoadGenerator
from llm_d_benchmark.simulator.deployment import VirtualDeployment
from llm_d_benchmark.simulator.tokens import MadePrompts, chat_overhead
from llm_d_benchmark.workload.api import WorkloadContext
from llm_d_benchmark.workload.registry import create_workload
from llm_d_benchmark.workload.schedule import build_schedule, workload_options
from llm_d_benchmark.workload.stages import stage_source
from tests.loadgen.fakes import collect

EPOCH = 1_800_000_000_000_000_000
S = 1_000_000_000


def job(load: dict[str, Any], target: dict[str, Any] | None = None, **more: Any) -> LoadJob:
    """A job as the runner prepares it."""
    config = LoadConfig.model_validate(load)
    deployment = VirtualDeployment(SimulatorTargetConfig.model_validate(target or {}), EPOCH)
    kind = config.endpoint or "chat"
    options = workload_options(config)
    sizer = MadePrompts(chat_overhead() if kind == "chat" else 0)
    workload = create_workload(options, WorkloadContext(sizer=sizer, endpoint=kind, options=options))
    model = deployment.profile.model
    return LoadJob(
        endpoint=Endpoint("virtual://simulator", model),
        config=config,
        stages=stage_source(config, duration_s=20.0, warmup_s=0.0, cooldown_s=0.0, first_index=0, endpoint=kind),
        schedule=build_schedule(config, workload, seed=config.seed, default_model=model),
        log_dir=Path("unused"),
        stop=asyncio.Event(),
        clock_offset=0,
        options={"drain_s": 60.0, "deployment": deployment, **more},
    )


def run(work: LoadJob, *, stop_after: float | None = None) -> tuple[Records, list[Event]]:
    async def go() -> tuple[list[Records], list[Event]]:
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, work.stop.set)
        parts: list[Records] = []
        events: list[Event] = []
        async for item in VirtualLoadGenerator().run(work):
            (parts if isinstance(item, Records) else events).append(item)  # type: ignore[attr-defined]
        return parts, events

    parts, events = asyncio.run(go())
    return Records.concat(parts), events


def test_times_are_in_order_and_nothing_is_late() -> None:
    records, events = run(job({"request_rate": 5, "arrival": "poisson", "input_length": 100, "output_length": 10}))
    assert 60 < len(records) < 140
    column = {n: records.ints(n) for n in ("scheduled", "ready", "sent", "first_token", "last_token", "end")}
    assert (column["scheduled"] >= EPOCH).all()
    assert (column["sent"] == column["ready"]).all()
    assert (column["sent"] == column["scheduled"]).all()
    assert (column["sent"] < column["first_token"]).all()
    assert (column["last_token"] == column["end"]).all()
    chunks = records.ragged("chunk_times")
    assert set(chunks.lengths.tolist()) == {10}
    first = chunks.values[chunks.offsets[:-1]]
    np.testing.assert_array_equal(first, (column["first_token"] - column["sent"]) // 1000)
    assert set(records.ints("input_tokens").tolist()) == {100}
    intervals = [e.data for e in events if e.type is EventType.INTERVAL]
    assert sum(i["sent"] for i in intervals) == sum(i["succeeded"] for i in intervals) == len(records)
    assert sum(i["chunks"] for i in intervals) == 10 * len(records)
    assert [i["end"] - i["start"] for i in intervals][:-1] == [S] * (len(intervals) - 1)


def test_the_same_seed_gives_the_same_run() -> None:
    load = {"request_rate": 20, "arrival": "poisson", "output_length": {"distribution": "uniform", "min": 1, "max": 99}}
    target = {"replicas": 3, "step_noise": 0.1, "failures": {"stall_rate": 0.1, "http_500_rate": 0.1}}
    (one, _), (two, _), (other, _) = (run(job(load, {**target, "seed": seed})) for seed in (1, 1, 2))
    for name in ("sent", "end", "first_token", "output_tokens"):
        np.testing.assert_array_equal(one.ints(name), two.ints(name))
    np.testing.assert_array_equal(one.ragged("chunk_times").values, two.ragged("chunk_times").values)
    assert one.ragged("chunk_times").values.tolist() != other.ragged("chunk_times").values.tolist()


def test_a_closed_loop_keeps_its_places_full() -> None:
    records, _ = run(job({"concurrency": 8, "output_length": 50, "num_requests": 100}))
    assert len(records) == 100
    sent, end = np.sort(records.ints("sent")), np.sort(records.ints("end"))
    np.testing.assert_array_equal(sent[8:], end[:-8])  # a place is taken as soon as it is free
    assert (records.ints("scheduled") == MISSING).all()


def test_a_closed_loop_ramps_up() -> None:
    records, _ = run(job({"concurrency": 4, "ramp": 8, "output_length": 3000, "duration": 10}))
    assert ((np.sort(records.ints("sent"))[:4] - EPOCH) / S).tolist() == [0, 2, 4, 6]


def test_a_rate_with_a_cap_waits_for_a_place() -> None:
    records, _ = run(job({"request_rate": 10, "concurrency": 2, "output_length": 100, "duration": 5}))
    sent, end = records.ints("sent"), records.ints("end")
    assert (records.ints("ready") == sent).all()
    assert (sent > records.ints("scheduled")).any()
    flights = [(int(t), 1) for t in sent] + [(int(t), -1) for t in end]
    level = np.cumsum([d for _, d in sorted(flights)])
    assert level.max() == 2


def test_conversations_wait_to_think_and_find_their_history_in_the_cache() -> None:
    workload = {"type": "conversation", "turns": 3, "think_time": 2, "think_distribution": "constant"}
    load = {"concurrency": 1, "num_requests": 6, "workload": {**workload, "input_length": 200, "output_length": 70}}
    records, _ = run(job(load))
    rows = np.lexsort((records.ints("turn"), records.ints("session")))
    turn, sent, end = (records.ints(n)[rows] for n in ("turn", "sent", "end"))
    prompt, cached = (records.ints(n)[rows] for n in ("input_tokens", "cached_tokens"))
    assert turn.tolist() == [0, 1, 2] * 2
    assert (sent[1:3] - end[:2]).tolist() == [2 * S, 2 * S]
    # A turn adds 200 tokens, three of its template, and two for the answer; the answer is 70.
    assert prompt[:3].tolist() == [205, 205 + 70 + 1 + 205, 205 + 2 * (70 + 1 + 205)]
    # All of the turn before but the last token of its answer is cached, in whole blocks.
    assert cached[:3].tolist() == [0, 274 // 16 * 16, 550 // 16 * 16]


def test_a_run_without_streams_has_no_chunks() -> None:
    records, events = run(job({"concurrency": 2, "num_requests": 4, "streaming": False, "output_length": 5}))
    assert len(records.ragged("chunk_times").values) == 0
    assert (records.ints("first_token") == MISSING).all()
    assert records.ints("output_tokens").tolist() == [5] * 4
    assert sum(e.data["chunks"] for e in events if e.type is EventType.INTERVAL) == 0


@pytest.mark.parametrize(
    ("failures", "load", "error", "status"),
    [
        ({"http_429_rate": 1.0}, {}, "http_429", 429),
        ({"http_500_rate": 1.0}, {}, "http_5xx", 500),
        ({"cut_rate": 1.0}, {}, "truncated", 200),
        ({"stall_rate": 1.0}, {"timeouts": {"total": 5}}, "timeout_total", 200),
        ({}, {"input_length": 9000}, "http_4xx", 400),
        ({}, {"parameters": {"min_tokens": -1}}, "http_4xx", 400),
        ({"stall_rate": 1.0}, {"timeouts": {"first_token": 0.005}}, "timeout_first_token", 200),
    ],
)
def test_what_goes_wrong(failures: dict[str, Any], load: dict[str, Any], error: str, status: int) -> None:
    target = {"failures": failures, "max_model_len": 8192}
    records, _ = run(job({"concurrency": 2, "num_requests": 6, "output_length": 50, **load}, target))
    assert records.labels("error_class").counts() == {error: 6}
    assert records.ints("http_status").tolist() == [status] * 6
    got = records.ragged("chunk_times").lengths.tolist()
    assert got == [24 if error in ("truncated", "timeout_total") else 0] * 6


def test_a_stall_holds_tokens_back() -> None:
    target = {"failures": {"stall_rate": 1.0, "stall_time": 4}}
    records, _ = run(job({"concurrency": 1, "num_requests": 3, "output_length": 50}, target))
    gaps = np.diff(records.ragged("chunk_times").row(1))
    assert (gaps > 3_900_000).sum() == 1
    assert records.labels("status").counts() == {"ok": 3}


def test_a_full_queue_refuses_and_retries_get_through() -> None:
    target = {"max_num_seqs": 1, "failures": {"max_queue": 1}}
    load = {"concurrency": 4, "num_requests": 12, "output_length": 20}
    refused, _ = run(job(load, target))
    assert refused.labels("error_class").counts()["http_429"] > 3
    retried, _ = run(job({**load, "retries": {"max": 10, "on": ["http_429"]}}, target))
    assert retried.labels("status").counts() == {"ok": 12}
    assert retried.ints("attempts").max() > 1
    waited = retried.ints("attempts") > 1
    assert (retried.ints("first_token") - retried.ints("sent"))[waited].min() > 0.9 * S  # Retry-After is a second


def test_the_total_limit_includes_the_waits_for_retries() -> None:
    load = {"concurrency": 4, "num_requests": 40, "timeouts": {"total": 1.5}, "retries": {"max": 5}}
    refused, _ = run(job(load, {"failures": {"http_429_rate": 1.0}}))
    assert refused.labels("error_class").counts() == {"http_429": 40}
    assert set(refused.ints("attempts").tolist()) == {2}  # the server asks to wait for a second
    mixed, _ = run(job({**load, "output_length": 50}, {"failures": {"http_429_rate": 0.5, "stall_rate": 0.5}}))
    late = mixed.labels("error_class").is_("timeout_total")
    took = (mixed.ints("end") - mixed.ints("sent"))[late]
    np.testing.assert_allclose(took, 1.5 * S, rtol=1e-9)
    assert set(mixed.ints("attempts")[late].tolist()) == {1, 2}


def test_the_end_of_the_load_and_the_drain() -> None:
    records, events = run(job({"concurrency": 4, "duration": 3, "output_length": 5000}, drain_s=2.0))
    end = next(e.data for e in events if e.type is EventType.STAGE_END)
    assert (end["load_end"] - end["start"], end["end"] - end["start"]) == (3 * S, 5 * S)
    assert (end["window_end"] - end["window_start"], end["reason"]) == (3 * S, "duration")
    assert records.labels("status").counts() == {"cancelled": 4}
    assert (records.ints("end") == end["end"]).all()
    assert (records.ragged("chunk_times").lengths > 100).all()


@pytest.mark.parametrize(
    "load",
    [
        {"arrival": {"type": "steps", "rates": [10, 20, 0]}},
        {"arrival": {"type": "steps", "rates": [5]}, "output_length": 2000},
        {"arrival": {"type": "ramp", "from": 20, "to": 1, "process": "poisson"}},
        {"arrival": {"type": "spikes", "peak": 20, "every": 2, "length": 1}, "request_rate": 1, "num_requests": 1000},
    ],
)
def test_a_course_lasts_to_its_planned_end(load: dict[str, Any]) -> None:
    _, events = run(job({"warmup": 1, "duration": 4, "cooldown": 3, **load}))
    end = next(e.data for e in events if e.type is EventType.STAGE_END)
    assert [end[k] - end["start"] for k in ("window_start", "window_end", "load_end")] == [1 * S, 5 * S, 8 * S]
    assert end["reason"] == "duration"


def test_a_course_ends_with_its_number_of_requests() -> None:
    records, events = run(job({"arrival": {"type": "steps", "rates": [10, 0]}, "duration": 4, "num_requests": 7}))
    end = next(e.data for e in events if e.type is EventType.STAGE_END)
    assert (len(records), end["reason"]) == (7, "requests")
    assert end["window_end"] == records.ints("end").max() + 1


def test_cancelled_requests_leave_the_server_empty() -> None:
    work = job({"concurrency": 30, "duration": 1, "output_length": 5000}, {"max_num_seqs": 8}, drain_s=0.0)
    records, _ = run(work)
    assert len(records) == 30
    deployment = work.options["deployment"]
    while deployment.loop.run(1000):
        pass
    engine = deployment.cluster.replicas[0].engine
    assert (engine.running, engine.waiting) == (0, 0)
    assert engine.free_blocks == engine.limits.num_gpu_blocks


def test_stages_follow_one_another_and_a_sweep_finds_the_knee() -> None:
    load = {"sweep": {"over": "rate", "start": 2, "refine": 1, "max_stages": 8}, "output_length": 64, "duration": 20}
    records, events = run(job(load, {"max_num_seqs": 4}))
    rates = [e.data["load"]["rate"] for e in events if e.type is EventType.STAGE_START]
    assert len(rates) >= 4
    assert rates[:3] == [2, 4, 8]
    starts = [e.data["start"] for e in events if e.type is EventType.STAGE_START]
    ends = [e.data["end"] for e in events if e.type is EventType.STAGE_END]
    assert all(start >= end for start, end in zip(starts[1:], ends, strict=False))
    assert len(set(records.ints("request_id").tolist())) == len(records)


def test_disaggregation_trades_ttft_for_smooth_decoding() -> None:
    load = {"request_rate": 4, "input_length": 3000, "output_length": 150, "arrival": "poisson", "duration": 60}
    together, _ = run(job(load, {"replicas": 2}))
    apart, _ = run(job(load, {"replicas": 2, "disaggregation": {"prefill_replicas": 1, "transfer_latency": 0.05}}))

    def ttft(records: Records) -> float:
        return float(np.median(records.ints("first_token") - records.ints("sent"))) / S

    def gap(records: Records) -> float:
        return float(
            np.percentile([np.diff(records.ragged("chunk_times").row(i)).max() for i in range(len(records))], 50)
        )

    assert ttft(apart) > ttft(together) + 0.05
    assert gap(apart) < gap(together) / 2
    assert apart.labels("status").counts() == {"ok": len(apart)}


def test_stop_ends_it_and_loses_nothing() -> None:
    records, events = run(job({"concurrency": 4, "num_requests": 1_000_000, "output_length": 4}), stop_after=0.5)
    assert 0 < len(records) < 1_000_000
    assert len(set(records.ints("request_id").tolist())) == len(records)
    assert sum(e.data["sent"] for e in events if e.type is EventType.INTERVAL) == len(records)
    assert events[-1].data["reason"] == "interrupted"


def test_a_workload_that_fails_under_way_loses_nothing() -> None:
    work = job({"concurrency": 4, "num_requests": 1000, "output_length": 20})

    class Broken:
        def sessions(self, stage: Stage) -> Iterator[Session]:
            yield from islice(work.schedule.sessions(stage), 30)
            raise ConfigError("data.jsonl:31: no prompt")

    ran = asyncio.run(collect(VirtualLoadGenerator().run(replace(work, schedule=Broken()))))
    assert isinstance(ran.error, ConfigError)
    assert ran.records.labels("status").counts() == {"ok": 30}
    assert ran.events[-1].type is EventType.STAGE_END
    assert ran.events[-1].data["reason"] == "interrupted"


def test_it_cannot_be_sharded() -> None:
    with pytest.raises(ConfigError, match="cannot be sharded"):
        run(replace(job({"concurrency": 1}), shard=Shard(0, 2)))


def test_a_slow_replica_is_slow() -> None:
    load = {"concurrency": 2, "num_requests": 40, "output_length": 50}
    target = {"replicas": 2, "router": {"policy": "round_robin"}, "failures": {"slow_replicas": {"1": 3.0}}}
    records, _ = run(job(load, target))
    took = np.sort(records.ints("end") - records.ints("sent"))
    assert took[25] / took[5] == pytest.approx(3, rel=0.1)


def test_a_session_that_keeps_its_replica_finds_its_history() -> None:
    workload = {"type": "conversation", "turns": 4, "input_length": 200, "output_length": 50}
    load = {"concurrency": 8, "num_requests": 80, "workload": workload}

    def cached(policy: str) -> float:
        records, _ = run(job(load, {"replicas": 4, "router": {"policy": policy}}))
        return float(records.ints("cached_tokens").sum() / records.ints("input_tokens").sum())

    assert cached("session_affinity") > 1.5 * cached("random")


TROUBLE: list[dict[str, Any]] = [
    {},
    {"http_500_rate": 0.2, "stall_rate": 0.2, "cut_rate": 0.3, "stall_time": 1},
    {"max_queue": 1},
]
POLICIES = ["random", "round_robin", "least_requests", "least_kv", "prefix_aware", "session_affinity", "weighted"]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(POLICIES),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 10**6),
    st.sampled_from(
        [{}, {"http_500_rate": 0.2, "stall_rate": 0.2, "cut_rate": 0.3, "stall_time": 1}, {"max_queue": 1}]
    ),
    st.floats(0.5, 30),
)
def test_every_request_and_every_block_is_accounted_for(
    policy: str, replicas: int, apart: bool, seed: int, failures: dict[str, Any], drain: float
) -> None:
    lengths = {"distribution": "uniform", "min": 1, "max": 120}
    workload = {"type": "conversation", "turns": {"distribution": "uniform", "min": 1, "max": 3}, "think_time": 0.2}
    load = {"request_rate": 40, "arrival": "poisson", "duration": 2, "seed": seed, "timeouts": {"first_token": 2}}
    load["workload"] = {**workload, "input_length": lengths, "output_length": lengths}
    target: dict[str, Any] = {"replicas": replicas + apart, "max_num_seqs": 6, "num_gpu_blocks": 60, "seed": seed}
    target |= {"router": {"policy": policy}, "failures": failures, "max_num_batched_tokens": 64, "max_model_len": 900}
    if apart:
        target["disaggregation"] = {"prefill_replicas": 1}
    work = job(load, target, drain_s=drain)
    records, events = run(work)
    ids = records.ints("request_id").tolist()
    assert len(set(ids)) == len(ids) == sum(e.data["sent"] for e in events if e.type is EventType.INTERVAL)
    ok = records.labels("status").is_("ok")
    chunks = records.ragged("chunk_times")
    np.testing.assert_array_equal(chunks.lengths[ok], records.ints("output_tokens")[ok])
    assert (records.ints("end") >= records.ints("sent")).all()
    for row in range(len(records)):
        assert (np.diff(chunks.row(row)) >= 0).all()
    deployment = work.options["deployment"]
    while deployment.loop.run(10_000):
        pass
    for replica in deployment.cluster.replicas:
        engine = replica.engine
        assert (engine.running, engine.waiting, engine.free_blocks) == (0, 0, 60)
    assert not deployment.cluster._live


def test_it_needs_a_deployment() -> None:
    with pytest.raises(ConfigError, match="needs a simulated deployment"):
        run(replace(job({"concurrency": 1}), options={}))


def test_parameters_without_effect_are_named() -> None:
    found = VirtualLoadGenerator().check(LoadConfig(parameters={"temperature": 0.1, "ignore_eos": True}, workers=2))
    assert [f.code for f in found] == ["workers_without_effect", "parameters_without_effect"]
    assert found[1].message == "in virtual time these parameters change nothing: temperature"
