"""From a configuration to the stages of its load generators."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.config.model import BenchmarkConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.schedule import Shard
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.prepare import nothing_due, prepare, stages_of
from tests.support.openai_server import OpenAIServer


@pytest.mark.parametrize(
    ("kind", "own", "endpoint"),
    [
        ("native", {}, "chat"),
        ("aiperf", {}, "chat"),
        ("inference-perf", {}, "completions"),
        ("vllm-bench", {}, "completions"),
        ("fmperf", {}, "completions"),
        ("vllm-bench", {"endpoint": "chat"}, "chat"),
    ],
)
def test_a_stage_is_planned_for_the_endpoint_that_its_generator_uses(
    kind: str, own: dict[str, str], endpoint: str
) -> None:
    generator = {"type": kind, "config": {"concurrency": 1, **own}}
    config = BenchmarkConfig.model_validate({"spec": {"benchmark": {"load_generators": [generator]}}})
    (stage,) = stages_of(config, config.spec.benchmark.load_generators[0], 0).planned()
    assert stage.endpoint == endpoint


@pytest.mark.parametrize(
    ("second", "starts"),
    [
        ({"duration": "4s"}, [1_000, 8_000, 14_000]),
        ({"stages": [{"concurrency": 1}, {"concurrency": 2, "duration": "9s"}]}, [1_000, 8_000, 26_000]),
        ({"num_requests": 5}, [1_000, 8_000, None]),
        ({"sweep": {"over": "rate"}}, [1_000, 8_000, None]),
    ],
)
def test_all_load_generators_start_at_a_time_that_every_machine_knows(
    second: dict[str, Any], starts: list[int | None], tmp_path: Path
) -> None:
    """Those behind a load of known length do: at the planned end of what is before them, and the drain time."""
    own: list[dict[str, Any]] = [{"duration": "5s"}, second, {"duration": "1s"}]
    generators = [{"type": "native", "config": {"concurrency": 1, **config}} for config in own]
    benchmark = {"load_generators": generators, "duration": "5s", "drain": "2s", "warmup": "0s"}
    config = BenchmarkConfig.model_validate({"spec": {"benchmark": benchmark}})

    async def start_times(server: OpenAIServer) -> list[int | None]:
        jobs = await prepare(
            config, Endpoint(server.url, server.model), options=RunOptions(start_at=1_000_000_000_000),
            tokenizer_path=None, log_dir=tmp_path, stop=asyncio.Event(), clock_offset=0,
        )  # fmt: skip
        return [None if j.job.start_at is None else j.job.start_at // 1_000_000 - 999_000 for j in jobs]

    with OpenAIServer() as server:
        assert asyncio.run(start_times(server)) == starts


@pytest.mark.parametrize(
    ("load", "shards", "idle"),
    [
        ({"request_rate": 5, "num_requests": 2}, 3, [2]),
        ({"request_rate": 0.1, "duration": "15s"}, 3, [2]),  # requests at 0 s and at 10 s
        ({"concurrency": 3, "num_requests": 1}, 2, [1]),
        ({"concurrency": 2, "duration": "1s"}, 2, []),
    ],
)
def test_of_few_requests_some_shards_have_none(
    load: dict[str, Any], shards: int, idle: list[int], tmp_path: Path
) -> None:
    benchmark = {"load_generators": [{"type": "native", "config": load}], "warmup": "0s"}
    config = BenchmarkConfig.model_validate({"spec": {"benchmark": benchmark}})

    async def without(server: OpenAIServer) -> list[int]:
        found = []
        for index in range(shards):
            (one,) = await prepare(
                config, Endpoint(server.url, server.model), options=RunOptions(shard=Shard(index, shards)),
                tokenizer_path=None, log_dir=tmp_path, stop=asyncio.Event(), clock_offset=0,
            )  # fmt: skip
            found += [index] if nothing_due(one.job) else []
        return found

    with OpenAIServer() as server:
        assert asyncio.run(without(server)) == idle
