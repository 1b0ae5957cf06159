"""The kits' examples against the native generator: CPU per streamed chunk and error against the server's own log.

    python -m benchmarks.kits [ROUNDS]

Server on core 0, the load generator and the tool together on core 1, paced: TTFT 50 ms, a chunk every 10 ms, 64 chunks,
64 streams. A round runs every generator once on the same server; ratios are taken within a round. Needs gcc, go, cargo.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import OneStage, SamePrompt
from benchmarks.rig import BUILD, CLIENT_CORE, HERE, Server, client_errors, mock_server, pin
from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.events import EventType
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.schedule import Load, Stage
from llm_d_benchmark.loadgen.api import LoadJob
from llm_d_benchmark.loadgen.registry import load_generator

STREAMS, REQUESTS, ROUNDS = 64, 640, 3
SDK = HERE.parent / "sdk"


def commands() -> Mapping[str, Sequence[str]]:
    """Each generator's command; native has none."""
    go, target = BUILD / "openai-go", BUILD / "rust"
    subprocess.run(["go", "build", "-o", str(go), "./examples/openai"], cwd=SDK / "go", check=True)
    cargo = ["cargo", "build", "-q", "--release", "--example", "openai", "--target-dir", str(target)]
    subprocess.run(cargo, cwd=SDK / "rust", check=True)
    return {
        "native": [],
        "python": [sys.executable, str(SDK / "python/examples/openai_asyncio.py")],
        "go": [str(go)],
        "rust": [str(target / "release/examples/openai")],
    }


def cpu(processes: Sequence[psutil.Process]) -> float:
    times = [p.cpu_times() for p in processes]
    return sum(t.user + t.system for t in times)


async def measure(command: Sequence[str], server: Server, folder: Path) -> dict[str, Any]:
    """One run in this process: CPU of the generator's processes and of this one, and the errors."""
    native = {"native": {"command": list(command)}} if command else {}
    stage = Stage(0, "kits", Load(concurrency=STREAMS, ramp_s=0.7), num_requests=REQUESTS)
    job = LoadJob(
        endpoint=Endpoint(server.url, "mock"),
        config=LoadConfig.model_validate(native),
        stages=OneStage(stage),
        schedule=SamePrompt(),
        log_dir=folder,
        stop=asyncio.Event(),
        clock_offset=time.time_ns() - time.monotonic_ns(),
    )
    me = [psutil.Process()]
    parts: list[Records] = []
    theirs: list[psutil.Process] = []
    began, used, lag_ms = (0.0, 0.0), (0.0, 0.0), 0.0
    async for item in load_generator("command" if command else "native").run(job):
        if isinstance(item, Records):
            parts.append(item)
        elif item.type is EventType.STAGE_START:
            theirs = me[0].children(recursive=True)
            began = cpu(theirs), cpu(me)
        elif item.type is EventType.CLIENT:
            lag_ms = max(lag_ms, item.data.get("loop_lag_ms", {}).get("p99", 0.0))
        elif item.type is EventType.STAGE_END:
            used = cpu(theirs) - began[0], cpu(me) - began[1]
    records = Records.concat(parts)
    chunks = len(records.ragged("chunk_times").values)
    errors = client_errors(records, server.dump())
    return {
        "generator_us": used[0] / chunks * 1e6, "tool_us": used[1] / chunks * 1e6, "chunks": chunks, "lag_ms": lag_ms,
        "ttft_p50": errors.ttft_p50, "ttft_p99": errors.ttft_p99, "itl_p50": errors.itl_p50, "itl_p99": errors.itl_p99,
        "unmatched": errors.unmatched,
    }  # fmt: skip


def run(name: str, command: Sequence[str], server: Server) -> Mapping[str, Any]:
    """One run in a process of its own on the client's core."""
    server.reset()
    own = [sys.executable, "-m", "benchmarks.kits", "--one", json.dumps([list(command), server.port, str(server.log)])]
    done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin(CLIENT_CORE))
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def main(rounds: int = ROUNDS) -> None:
    every = commands()
    seen: dict[str, list[Mapping[str, Any]]] = {name: [] for name in every}
    with mock_server() as server:
        for k in range(rounds):
            for name in list(every)[:: -1 if k % 2 else 1]:
                seen[name].append(run(name, every[name], server))
    print(f"{STREAMS} streams, medians of {rounds} rounds; us of CPU per chunk, errors in ms")
    print("generator  its own us  tool's us  ratio to native  ttft p50/p99    itl p50/p99     lag p99 ms  unmatched")
    for name, runs in seen.items():
        ratios = [_total(one) / _total(base) for one, base in zip(runs, seen["native"], strict=True)]
        keys = ("generator_us", "tool_us", "ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "lag_ms", "unmatched")
        own, tool, *rest = (statistics.median(one[key] for one in runs) for key in keys)
        print(
            "{:9}  {:11.1f} {:10.1f} {:16.2f}  {:5.2f} / {:5.2f}   {:5.2f} / {:5.2f}   {:10.2f} {:10.0f}".format(
                name, own, tool, statistics.median(ratios), *rest
            )
        )


def _total(one: Mapping[str, Any]) -> float:
    return float(one["generator_us"] + one["tool_us"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        argv, port, log = json.loads(sys.argv[2])
        with tempfile.TemporaryDirectory() as own_folder:
            print(json.dumps(asyncio.run(measure(argv, Server(port, Path(log)), Path(own_folder)))))
    else:
        main(*map(int, sys.argv[1:]))
