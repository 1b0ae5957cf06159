"""How many chunks a second the simulator's server streams from one core, and how late they are.

    python -m benchmarks.simulator_server [RUNS]

Server on core 0, the C client on core 1. The profile is llama-3.1-8b/h100; a replica with a batch of 64 streams adds
about 6,400 chunks/s, one with 44 about 4,500. The tokens of a step are due at the same moment, so the last of a large
batch are later. Lateness is the server's own metric: from a token's time by the model to the moment the kernel had it.
CPU is that of the whole server process, beside that of the exact mock server in C under the same client.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.rig import SERVER_CORE, Server, bare_client, busy_seconds, mock_server, pin

ROUNDS = 6
"""Requests of each stream."""
LEVELS = ((1, 64), (2, 64), (3, 64), (5, 44), (4, 64), (5, 64))
"""Replicas, and the batch of each."""
LIMIT_CHUNKS, LIMIT_LATE_MS = 20_000, 2.0
LATENESS = "llm_d_benchmark_simulator_emission_lateness_seconds"


@dataclass(frozen=True)
class Measured:
    """One run: chunks a second, microseconds of server CPU per chunk, and p99 lateness in ms."""

    chunks: float
    cpu_us: float
    share: float
    p99_ms: float
    others: float


@contextmanager
def simulator(replicas: int, batch: int) -> Iterator[tuple[Server, psutil.Process]]:
    """The server on its core."""
    command = [sys.executable, "-m", "llm_d_benchmark", "simulator", "serve", "--port", "18321"]
    sets = {"replicas": replicas, "max_num_seqs": batch, "router.policy": "least_requests", "model": "mock"}
    command += [x for k, v in sets.items() for x in ("--set", f"spec.target.simulator.{k}={v}")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin(SERVER_CORE))
    try:
        assert process.stdout is not None
        for _ in range(2 + replicas):
            process.stdout.readline()
        yield Server(18321, Path("/dev/null")), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def lateness(port: int, replicas: int) -> dict[float, float]:
    """Chunks by the upper bound of their lateness (seconds), all replicas together, cumulative."""
    counts: dict[float, float] = {}
    for k in range(1, replicas + 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{port + k}/metrics") as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    if sample.name == f"{LATENESS}_bucket":
                        bound = float(sample.labels["le"])
                        counts[bound] = counts.get(bound, 0.0) + sample.value
    return counts


def p99(before: dict[float, float], after: dict[float, float]) -> float:
    """Interpolated within its bucket, seconds."""
    gained = {bound: after[bound] - before[bound] for bound in sorted(after)}
    wanted = 0.99 * gained[float("inf")]
    low, below = 0.0, 0.0
    for bound, count in gained.items():
        if count >= wanted:
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return float("inf")


def measure(replicas: int, batch: int) -> Measured:
    streams = batch * replicas
    with simulator(replicas, batch) as (server, process):
        bare_client(server, streams, streams)  # connections, code and caches are warm
        before, cpu = lateness(server.port, replicas), process.cpu_times()
        busy, began = busy_seconds(SERVER_CORE), time.monotonic()
        said = bare_client(server, streams, streams * ROUNDS)
        seconds, used = time.monotonic() - began, process.cpu_times()
        busy = busy_seconds(SERVER_CORE) - busy
        after = lateness(server.port, replicas)
    spent = used.user + used.system - cpu.user - cpu.system
    return Measured(
        said["cps"], spent / said["chunks"] * 1e6, spent / seconds, p99(before, after) * 1e3, (busy - spent) / seconds
    )


def mock_cpu() -> float:
    """Microseconds per chunk of the mock server in C."""
    with mock_server(keep_log=False) as server:
        (process,) = [c for c in psutil.Process().children() if "mockllm" in c.name()]
        before = process.cpu_times()
        said = bare_client(server, 256, 256 * ROUNDS)
        after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / said["chunks"] * 1e6


def main(runs: int = 3) -> bool:
    bare = mock_cpu()
    print(f"mock server in C: {bare:.1f} us/chunk of server CPU", flush=True)
    held = False
    for replicas, batch in LEVELS:
        found = []
        for _ in range(runs):
            found.append(one := measure(replicas, batch))
            print(
                f"  {replicas} replicas x {batch}: {one.chunks:7.0f} chunks/s, {one.cpu_us:5.1f} us/chunk "
                f"({one.cpu_us / bare:3.1f} x C), {one.share:4.0%} of the core, p99 lateness {one.p99_ms:5.2f} ms; "
                f"others on the core {one.others:.0%}",
                flush=True,
            )
        chunks, late = (statistics.median(getattr(m, name) for m in found) for name in ("chunks", "p99_ms"))
        held |= chunks >= LIMIT_CHUNKS and late < LIMIT_LATE_MS
        print(f"  {replicas} x {batch}, median: {chunks:7.0f} chunks/s, p99 lateness {late:5.2f} ms", flush=True)
    print(
        f"limit: {LIMIT_CHUNKS} chunks/s with p99 lateness under {LIMIT_LATE_MS} ms: {'held' if held else 'NOT held'}"
    )
    return held


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
