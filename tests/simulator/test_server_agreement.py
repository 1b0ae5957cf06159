"""The server's /metrics and the native engine agree on what happened."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.schedule import Load, Session, Stage, Turn
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.target.api import TargetContext
from llm_d_benchmark.target.simulator import SimulatorTarget
from llm_d_benchmark.testing.load_generator import LoadGeneratorConformance
from tests.loadgen.fakes import Ran, Stages, collect, make_job
from tests.simulator.serving import Samples, scrape, total

SPENT_S = 0.004
"""What HTTP and two processes on one busy machine may add to a mean, each way."""
HISTOGRAMS = {"ttft": "time_to_first_token_seconds", "itl": "inter_token_latency_seconds",
              "e2e": "e2e_request_latency_seconds"}  # fmt: skip


class Mixed:
    """Prompts and answers of many lengths at a constant rate."""

    def __init__(self, model: str, rate: float, count: int) -> None:
        self._model, self._rate, self._count = model, rate, count

    def sessions(self, stage: Stage) -> Iterator[Session]:
        for i in range(self._count):
            prompt = tuple(range(1000 + i, 1000 + i + 20 + 37 * i % 900))
            turn = Turn(prompt, len(prompt), 1 + 11 * i % 60)
            yield Session(i, i, (turn,), self._model, i / self._rate)


@asynccontextmanager
async def started(folder: Path, **config: object) -> AsyncIterator[tuple[Endpoint, list[Endpoint]]]:
    """The router's endpoint and the replicas', in a process of their own."""
    async with SimulatorTarget(SimulatorTargetConfig.model_validate(config)).open(TargetContext(folder)) as endpoint:
        urls: Any = endpoint.info["replica_urls"]
        yield endpoint, [Endpoint(url, endpoint.model) for url in urls]


async def measured(endpoint: Endpoint, rate: float, count: int, folder: Path) -> Ran:
    stage = Stage(0, "mixed", Load(rate=rate), num_requests=count, endpoint="completions")
    sessions: Any = Mixed(endpoint.model or "", rate, count)
    return await collect(load_generator("native").run(make_job(endpoint, Stages(stage), sessions, folder)))


def gained(before: list[Samples], after: list[Samples], name: str, **labels: str) -> float:
    return sum(total(a, name, **labels) - total(b, name, **labels) for a, b in zip(after, before, strict=True))


async def test_counters_are_equal_and_means_close(tmp_path: Path) -> None:
    async with started(tmp_path, replicas=2) as (router, replicas):
        before = [await scrape(r) for r in replicas]
        ran = await measured(router, 40.0, 120, tmp_path)
        after = [await scrape(r) for r in replicas]
        routed = await scrape(router)
    records = ran.records
    assert records.labels("status").counts() == {"ok": 120}

    def counted(name: str, **labels: str) -> float:
        return gained(before, after, f"vllm:{name}", **labels)

    assert counted("request_success_total", finished_reason="length") == 120
    assert counted("prompt_tokens_total") == records.ints("input_tokens").sum()
    assert counted("generation_tokens_total") == records.ints("output_tokens").sum()
    assert counted("prefix_cache_queries_total") == records.ints("input_tokens").sum()
    assert counted("prefix_cache_hits_total") == records.ints("cached_tokens").sum()
    assert counted("request_generation_tokens_sum") == records.ints("output_tokens").sum()
    assert counted("iteration_tokens_total_sum") == pytest.approx(
        records.ints("input_tokens").sum() + records.ints("output_tokens").sum()
    )
    assert counted("num_requests_running") == 0
    assert total(routed, "llm_d_epp_request_output_tokens_sum") >= records.ints("output_tokens").sum()
    chunks = records.ragged("chunk_times")
    client = {
        "ttft": (records.ints("first_token") - records.ints("sent")) / 1e9,
        "e2e": (records.ints("last_token") - records.ints("sent")) / 1e9,
        "itl": np.concatenate([np.diff(chunks.row(i)) for i in range(len(records))]) / 1e6,
    }
    for metric, name in HISTOGRAMS.items():
        assert counted(f"{name}_count") == len(client[metric]), metric
        mean = counted(f"{name}_sum") / counted(f"{name}_count")
        assert mean == pytest.approx(client[metric].mean(), abs=SPENT_S), metric
    late = gained(before, after, "llm_d_benchmark_simulator_emission_lateness_seconds_count")
    assert late == records.ints("output_tokens").sum()


async def test_the_server_says_when_it_is_late(tmp_path: Path) -> None:
    async with started(tmp_path, speed=5000) as (router, (replica,)):
        await measured(router, 40.0, 20, tmp_path)
        samples = await scrape(replica)
    late = total(samples, "llm_d_benchmark_simulator_emissions_late_total")
    inside = total(samples, "llm_d_benchmark_simulator_emission_lateness_seconds_bucket", le="0.002")
    count = total(samples, "llm_d_benchmark_simulator_emission_lateness_seconds_count")
    assert late == count - inside > 0


SUITE = [
    name
    for name, test in vars(LoadGeneratorConformance).items()
    if name.startswith("test_") and "endpoint" in inspect.signature(test).parameters
]
"""The tests of the suite that take a server; for the others it has one of its own."""


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with asyncio.Runner() as runner:
        context = started(tmp_path_factory.mktemp("simulator"))
        endpoint, _ = runner.run(context.__aenter__())
        yield endpoint
        runner.run(context.__aexit__(None, None, None))


@pytest.mark.parametrize("name", SUITE)
def test_the_native_engine_conforms_against_it(name: str, simulator: Endpoint, tmp_path: Path) -> None:
    getattr(LoadGeneratorConformance(), name)(load_generator("native"), simulator, tmp_path)
