"""CPU per streamed chunk against a bare C client, and the client's error against the server's own log.

    python -m benchmarks.engine [PAIRS [auto|python]]

The last is the native generator's receiver; ``auto`` is the one in C where it was built.

Server on core 0, client on core 1, paced: TTFT 50 ms, a chunk every 10 ms, 64 chunks. Each pair runs the C client and
the whole engine one after the other on the same server, in alternating order; the ratio is taken within a pair.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rig import (
    CLIENT_CORE,
    Errors,
    Server,
    bare_client,
    busy_seconds,
    client_errors,
    errors_of,
    mock_server,
    pin,
    read_log,
)
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.store.parquet import read_records

LEVELS = (512, 1024)
ROUNDS = 20  # requests of each stream
PAIRS = 5
LIMIT_RATIO, LIMIT_TTFT_MS, LIMIT_ITL_MS = 1.5, 2.0, 1.0


def engine(server: Server, streams: int, requests: int, out: Path, receiver: str = "auto") -> Mapping[str, Any]:
    """One run of the whole engine in a process of its own on the client's core; what it says of itself, and ``others``:
    the share of the core that was used by somebody else meanwhile (its own start and end included)."""
    command = [sys.executable, "-m", "benchmarks.client", server.url, str(streams), str(requests), str(out)]
    command.append(receiver)
    busy, began = busy_seconds(CLIENT_CORE), time.monotonic()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin(CLIENT_CORE)
    )  # fmt: skip
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    used = busy_seconds(CLIENT_CORE) - busy - said["cpu_s"]
    return {**said, "others": used / (time.monotonic() - began)}


def records_of(folder: Path) -> Records:
    return Records.concat([r for part in sorted((folder / "records").glob("*.parquet")) for r in read_records(part)])


def bare(server: Server, streams: int, requests: int) -> tuple[float, Errors]:
    """CPU us per chunk of the C client, and its errors: what this machine, as it is just now, lets a client reach."""
    with tempfile.TemporaryDirectory() as folder:
        server.reset()
        log = Path(folder) / "client.log"
        said = bare_client(server, streams, requests, log)
        return said["cpu_us_chunk"], errors_of(read_log(log), server.dump())


def whole(server: Server, streams: int, requests: int, receiver: str) -> tuple[Mapping[str, Any], Errors]:
    """The engine's own account of a run, and its errors."""
    with tempfile.TemporaryDirectory() as folder:
        server.reset()
        said = engine(server, streams, requests, Path(folder), receiver)
        return said, client_errors(records_of(Path(said["folder"])), server.dump())


def level(server: Server, streams: int, pairs: int, receiver: str) -> bool:
    """Measure one level and print it; whether all limits hold in the medians."""
    found, requests = [], streams * ROUNDS
    for k in range(pairs):
        if k % 2:
            (said, ours), (cpu, theirs) = whole(server, streams, requests, receiver), bare(server, streams, requests)
        else:
            (cpu, theirs), (said, ours) = bare(server, streams, requests), whole(server, streams, requests, receiver)
        ratio = said["cpu_us_chunk"] / cpu
        errors = ours.ttft_p99, ours.itl_p99, theirs.ttft_p99, theirs.itl_p99
        found.append((cpu, said["cpu_us_chunk"], ratio, *errors))
        print(
            f"  {streams:5} streams, {k + 1}: {_line(found[-1])}; {said['chunks'] / said['seconds']:.0f} chunks/s, "
            f"unmatched {ours.unmatched}; others on the core {said['others']:.0%}",
            flush=True,
        )
    middle = [statistics.median(values) for values in zip(*found, strict=True)]
    print(f"{streams:7} streams, median: {_line(middle)}", flush=True)
    return middle[2] <= LIMIT_RATIO and middle[3] < LIMIT_TTFT_MS and middle[4] < LIMIT_ITL_MS


def _line(found: Sequence[float]) -> str:
    return (
        "C {:5.2f}, engine {:5.2f} us/chunk, ratio {:4.2f} (limit {}); p99 error ttft {:5.2f} (limit {}) itl {:5.2f} "
        "(limit {}) ms, of C itself {:5.2f} and {:5.2f}"
    ).format(*found[:3], LIMIT_RATIO, found[3], LIMIT_TTFT_MS, found[4], LIMIT_ITL_MS, *found[5:])


def accurate(server: Server, streams: int, receiver: str) -> bool:
    """Whether three runs at this level keep the error limits in the median."""
    found = [whole(server, streams, streams * ROUNDS, receiver)[1] for _ in range(3)]
    ttft, itl = (statistics.median(getattr(e, name) for e in found) for name in ("ttft_p99", "itl_p99"))
    print(f"  {streams:5} streams on one client core: p99 error ttft {ttft:5.2f} itl {itl:5.2f} ms", flush=True)
    return ttft < LIMIT_TTFT_MS and itl < LIMIT_ITL_MS


def main(pairs: int = PAIRS, receiver: str = "auto") -> bool:
    with mock_server() as server:
        held = [level(server, streams, pairs, receiver) for streams in LEVELS]
        largest = 0
        for streams in (768, 896, 1024, 1152, 1280, 1536, 2048):
            if not accurate(server, streams, receiver):
                break
            largest = streams
        print(f"largest level within the error limits on one client core: {largest} streams", flush=True)
    return all(held)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:2]), *sys.argv[2:3]) else 1)
