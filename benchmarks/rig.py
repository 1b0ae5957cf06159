"""The instruments: an exact mock server and a bare client, both in C, and the comparison of a client's times with the
server's own log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llm_d_benchmark.domain.records import Records

HERE = Path(__file__).parent
BUILD = HERE / "build"
SERVER_CORE, CLIENT_CORE = 0, 1
TTFT_S, ITL_S, TOKENS = 0.050, 0.010, 64
PROMPT = "the of and to in is that for " * 16
Times = npt.NDArray[np.int64]
Streams = dict[int, tuple[int, Times]]


def build(name: str) -> Path:
    """Compile rig/NAME.c. Raises SystemExit where there is no compiler."""
    BUILD.mkdir(exist_ok=True)
    source, binary = HERE / "rig" / f"{name}.c", BUILD / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        if shutil.which("gcc") is None:
            raise SystemExit("this benchmark needs gcc")
        subprocess.run(["gcc", "-O2", "-o", str(binary), str(source)], check=True)
    return binary


def pin(core: int) -> None:
    """Keep this process and its children on one core, where the machine has more than one."""
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})


@dataclass(frozen=True)
class Server:
    """A running mock server; ``log`` is where ``dump`` leaves the send times of every stream."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            body: bytes = answer.read()
        return body

    def reset(self) -> None:
        self.get("/__reset")

    def dump(self) -> Streams:
        """When each request was received, and when each chunk was sent."""
        self.get("/__dump")
        return read_log(self.log)


def read_log(log: Path) -> Streams:
    """A log of either instrument: of each stream by its id the time of its request and of its chunks (monotonic ns)."""
    raw = np.fromfile(log, np.uint64).astype(np.int64)
    streams: Streams = {}
    at = 0
    while at < len(raw):
        count = int(raw[at + 2])
        streams[int(raw[at])] = int(raw[at + 1]), raw[at + 3 : at + 3 + count]
        at += 3 + count
    return streams


@contextmanager
def mock_server(ttft_s: float = TTFT_S, itl_s: float = ITL_S, *, keep_log: bool = True) -> Iterator[Server]:
    """The mock server on the server's core."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(port, BUILD / f"server-{port}.log")
    command = [str(build("mockllm")), "--port", str(port), "--model", "mock"]
    command += ["--ttft-us", str(round(ttft_s * 1e6)), "--itl-us", str(round(itl_s * 1e6))]
    command += ["--log", str(server.log)] if keep_log else []
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=lambda: pin(SERVER_CORE))
    try:
        _wait_for(port)
        yield server
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.log.unlink(missing_ok=True)


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("the mock server did not start")


def busy_seconds(core: int) -> float:
    """CPU seconds that anybody has used on a core since boot."""
    line = next(s for s in Path("/proc/stat").read_text().splitlines() if s.startswith(f"cpu{core} "))
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def bare_client(server: Server, streams: int, requests: int, log: Path | None = None) -> Mapping[str, float]:
    """Run the C client over the same load; what it says of itself (cpu_us_chunk, ...). ``log``: where its times go."""
    command = [str(build("cload")), str(server.port), str(streams), str(requests), str(TOKENS), "700"]
    done = subprocess.run(
        [*command, str(log or "")], check=True, capture_output=True, text=True, preexec_fn=lambda: pin(CLIENT_CORE)
    )  # fmt: skip
    said: dict[str, float] = json.loads(done.stdout)
    return said


@dataclass(frozen=True)
class Errors:
    """Client interval less server interval, absolute, milliseconds."""

    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    unmatched: int


def client_errors(records: Records, log: Streams) -> Errors:
    """Those of the engine, by its records and the server's log."""
    sent, first, chunks = records.ints("sent"), records.ints("first_token"), records.ragged("chunk_times")
    seen: Streams = {}
    for row, request in enumerate(records.ints("request_id").tolist()):
        gaps = chunks.row(row).astype(np.int64)
        seen[request] = int(sent[row]), first[row] + (gaps - gaps[:1]) * 1000
    return errors_of(seen, log)


def errors_of(client: Streams, server: Streams) -> Errors:
    """Join both sides by request id."""
    ttft, itl, unmatched = [], [], 0
    for request, (sent, seen) in client.items():
        received, truth = server.get(request, (0, np.empty(0, np.int64)))
        if len(truth) != len(seen) or not len(seen):
            unmatched += 1
            continue
        ttft.append((seen[0] - sent) - (truth[0] - received))
        itl.append(np.diff(seen) - np.diff(truth))
    found = np.abs(np.asarray(ttft)) / 1e6, np.abs(np.concatenate(itl)) / 1e6
    return Errors(*(float(np.quantile(v, q)) for v in found for q in (0.5, 0.99)), unmatched=unmatched)
