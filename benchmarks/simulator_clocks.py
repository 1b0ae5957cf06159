"""The same schedule against the simulator's two clocks: the native engine over HTTP, and virtual time.

    python -m benchmarks.simulator_clocks [RUNS]

The virtual run is exact, so it is made once; of the real ones the median of each figure counts. What HTTP and two
processes cost is measured with one request at a time, where nothing else differs, and stated apart: the TTFT of the
real clock is compared with and without it.

Which requests share a step depends on fractions of a millisecond: arrivals shifted by 0.3 ms at random move the mean
TTFT of these loads by up to 2 % and its p99 by up to 8 % in virtual time alone. Two clocks cannot come nearer.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.loadgen.api import LoadGenerator, LoadJob
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.loadgen.virtual.generator import VirtualLoadGenerator
from llm_d_benchmark.simulator.deployment import VirtualDeployment
from llm_d_benchmark.target.api import TargetContext
from llm_d_benchmark.target.simulator import SimulatorTarget
from llm_d_benchmark.workload.api import WorkloadContext
from llm_d_benchmark.workload.registry import create_workload
from llm_d_benchmark.workload.schedule import build_schedule, workload_options
from llm_d_benchmark.workload.sizers import WordSizer, array_of
from llm_d_benchmark.workload.stages import stage_source
from llm_d_benchmark.workload.words import words

LIMITS = {"ttft mean": 0.03, "ttft p99": 0.10, "tpot mean": 0.03, "tpot p99": 0.10}
SIZES = {
    "input_length": {"distribution": "lognormal", "mean": 512, "std_dev": 256, "max": 2000},
    "output_length": {"distribution": "lognormal", "mean": 128, "std_dev": 64, "max": 500},
    "parameters": {"ignore_eos": True},
    "workers": 1,
}
LEVELS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "1 replica, 10/s": ({}, {"request_rate": 10, "arrival": "poisson", "num_requests": 400}),
    "2 replicas, 20/s": ({"replicas": 2}, {"request_rate": 20, "arrival": "poisson", "num_requests": 600}),
    "2 replicas, 30/s, 32 seqs": (
        {"replicas": 2, "max_num_seqs": 32, "router": {"policy": "least_requests"}},
        {"request_rate": 30, "arrival": "poisson", "num_requests": 900},
    ),
}
IDLE: Mapping[str, Any] = {"concurrency": 1, "num_requests": 40, **SIZES, "output_length": 16}


@dataclass(frozen=True)
class Figures:
    """Seconds by name of ``LIMITS``."""

    values: Mapping[str, float]

    @staticmethod
    def of(records: Records) -> Figures:
        sent, first, last = (records.ints(name) for name in ("sent", "first_token", "last_token"))
        tokens = records.ints("output_tokens")
        many = tokens > 1
        ttft = (first - sent) / 1e9
        tpot = ((last - first) / 1e9)[many] / (tokens[many] - 1)
        return Figures({
            "ttft mean": float(ttft.mean()), "ttft p99": float(np.percentile(ttft, 99)),
            "tpot mean": float(tpot.mean()), "tpot p99": float(np.percentile(tpot, 99)),
        })  # fmt: skip


def job(endpoint: Endpoint, load: Mapping[str, Any], folder: Path, options: Mapping[str, Any], offset: int) -> LoadJob:
    config = LoadConfig.model_validate(dict(load))
    chosen = workload_options(config)
    sizer = WordSizer(array_of(words()), "words", 5, 0.0)
    workload = create_workload(chosen, WorkloadContext(sizer=sizer, endpoint="chat", options=chosen))
    return LoadJob(
        endpoint=endpoint,
        config=config,
        stages=stage_source(config, duration_s=600.0, warmup_s=0.0, cooldown_s=0.0, first_index=0, endpoint="chat"),
        schedule=build_schedule(config, workload, seed=config.seed, default_model=endpoint.model or ""),
        log_dir=folder,
        stop=asyncio.Event(),
        clock_offset=offset,
        options={"drain_s": 60.0, **options},
    )


async def records_of(generator: LoadGenerator, work: LoadJob) -> Records:
    return Records.concat([item async for item in generator.run(work) if isinstance(item, Records)])


async def virtual(target: Mapping[str, Any], load: Mapping[str, Any]) -> Records:
    deployment = VirtualDeployment(SimulatorTargetConfig.model_validate(dict(target)), time.time_ns())
    endpoint = Endpoint("virtual://simulator", deployment.profile.model)
    return await records_of(
        VirtualLoadGenerator(), job(endpoint, load, Path("unused"), {"deployment": deployment}, 0)
    )  # fmt: skip


async def real(target: Mapping[str, Any], load: Mapping[str, Any]) -> Records:
    config = SimulatorTargetConfig.model_validate(dict(target))
    with tempfile.TemporaryDirectory() as folder:
        async with SimulatorTarget(config).open(TargetContext(Path(folder))) as endpoint:
            offset = time.time_ns() - time.monotonic_ns()
            return await records_of(load_generator("native"), job(endpoint, load, Path(folder), {}, offset))


async def overhead() -> float:
    """Seconds that HTTP adds to the TTFT of a request which is alone, median."""
    pairs = []
    for records in (await real({}, IDLE), await virtual({}, IDLE)):
        order = np.argsort(records.ints("request_id"))
        pairs.append(((records.ints("first_token") - records.ints("sent")) / 1e9)[order])
    return float(np.median(pairs[0] - pairs[1]))


async def level(name: str, runs: int, spent: float) -> bool:
    """Measure one level and print it; whether every limit holds, TTFT without HTTP's part."""
    target, load = LEVELS[name]
    load = {**SIZES, **load}
    exact = Figures.of(await virtual(target, load)).values
    found = [Figures.of(await real(target, load)).values for _ in range(runs)]
    held = True
    for figure, limit in LIMITS.items():
        middle = statistics.median(f[figure] for f in found)
        own = middle - spent if figure.startswith("ttft") else middle
        off, raw = own / exact[figure] - 1, middle / exact[figure] - 1
        held &= abs(off) <= limit
        print(
            f"  {name:26} {figure:9}: virtual {exact[figure] * 1e3:8.3f}, real {middle * 1e3:8.3f} ms ({raw:+6.1%})"
            + (f", without HTTP {off:+6.1%}" if own != middle else " " * 22)
            + f" (limit {limit:.0%})",
            flush=True,
        )
    return held


def main(runs: int = 5) -> bool:
    spent = statistics.median(asyncio.run(overhead()) for _ in range(3))
    print(f"HTTP and two processes add {spent * 1e3:.3f} ms to the TTFT of a request that is alone", flush=True)
    held = [asyncio.run(level(name, runs, spent)) for name in LEVELS]
    print("limits " + ("held" if all(held) else "NOT held"))
    return all(held)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
