"""Calibrate the simulator on the real local model: four levels of load are fitted, two others predicted.

The model computes on one core. Where other programs want that core, too, their work looks like the model's slowness. So
the server's own CPU clock is read all the time, and the records' times are also told on that clock: as somebody always
waits for an answer, the server would compute without a pause on an idle machine, and both clocks would be the same.

A machine that is quicker at one level than at the next shows in no clock of the server's, so each level is run several
times, in turns with the others. ``--hold-out 3 6 --repeats 0 --folder F`` judges runs that are there once more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import yaml

from llm_d_benchmark.analyze.api import RunInput
from llm_d_benchmark.config.layers import load_resolved
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import MISSING, Ragged, Records
from llm_d_benchmark.simulator.calibrate import Calibration, calibrate
from llm_d_benchmark.store.folder import RunFolder, run_input

LEVELS, HELD_OUT = (1, 2, 3, 4, 6, 8), (2, 6)
COMMAND = [sys.executable, "-m", "llm_d_benchmark"]
SERVER = "llm_d_benchmark.target.local_server"
Times = npt.NDArray[np.int64]
LIMITS = {"throughput": 0.10, "ttft": 0.15, "tpot": 0.15}


@dataclass
class ServerClock:
    """Samples of the monotonic clock and of the CPU clock of the server below a process, ns."""

    wall: list[int] = field(default_factory=list)
    cpu: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Part of a core that the server got in the second half of what was watched, when it had always work."""
        half = len(self.wall) // 2
        return (self.cpu[-1] - self.cpu[half]) / (self.wall[-1] - self.wall[half])

    def at(self, times: Times, offset: int) -> Times:
        """Epoch times (the monotonic clock plus ``offset``) as they would be had the server had its core to itself."""
        known = times != MISSING
        told = np.interp(times - offset, self.wall, self.cpu) + (self.wall[0] - self.cpu[0] + offset)
        return np.where(known, np.rint(told).astype(np.int64), times)


@contextmanager
def clock_of_server_below(pid: int) -> Iterator[ServerClock]:
    """Read the CPU clock of the server that a run starts, every 2 ms, for as long as it is there."""
    found, stop = ServerClock(), threading.Event()

    def watch() -> None:
        server = None
        while server is None and not stop.wait(0.1):
            server = next((p.pid for p in psutil.process_iter(["cmdline"]) if _is_server(p, pid)), None)
        while server is not None and not stop.wait(0.002):
            try:
                cpu = time.clock_gettime_ns((~server << 3) | 2)  # the clock of all its threads, as clock_getcpuclockid
            except OSError:
                return
            found.wall.append(time.monotonic_ns())
            found.cpu.append(cpu)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _is_server(process: psutil.Process, pid: int) -> bool:
    return SERVER in (process.info["cmdline"] or ()) and any(parent.pid == pid for parent in process.parents())


def on_server_clock(run: RunInput, clock: ServerClock) -> RunInput:
    """The run with every time told on the server's clock."""
    offset = int(run.manifest["clock_offset"])
    parts = [_records_at(part, clock, offset) for part in run.parts()]
    events = [_event_at(event, clock, offset) for event in run.events]
    return replace(run, parts=lambda: parts, events=events)


def _records_at(records: Records, clock: ServerClock, offset: int) -> Records:
    sent, chunks = records.ints("sent"), records.ragged("chunk_times")
    told = {
        name: clock.at(records.ints(name), offset) for name in ("ready", "sent", "first_token", "last_token", "end")
    }
    arrivals = np.repeat(sent, chunks.lengths) + chunks.values.astype(np.int64) * 1000
    after = clock.at(arrivals, offset) - np.repeat(told["sent"], chunks.lengths)
    values = np.rint(after / 1000).astype(np.int32)
    return Records({**records.columns, **told, "chunk_times": Ragged(chunks.offsets, values)})


def _event_at(event: Event, clock: ServerClock, offset: int) -> Event:
    names = ("start", "end", "load_end", "window_start", "window_end")
    data = {k: int(clock.at(np.array([v]), offset)[0]) if k in names else v for k, v in event.data.items()}
    return replace(event, data=data) if event.type in (EventType.STAGE_START, EventType.STAGE_END) else event


def config(slots: int, requests: int, users: int) -> dict[str, object]:
    load = {
        "input_length": {"distribution": "uniform", "min": 32, "max": 128},
        "output_length": {"distribution": "uniform", "min": 8, "max": 32},
        "parameters": {"ignore_eos": True, "temperature": 0},
        "concurrency": users,
        "num_requests": requests,
        "warmup": "3s",
    }
    benchmark = {"load_generators": [{"type": "native", "config": load}]}
    target = {"type": "local", "local": {"slots": slots, "context": 1024 * slots}}
    head = {"apiVersion": "llm-d.io/v1alpha1", "kind": "BenchmarkConfig", "metadata": {"name": f"users-{users}"}}
    return {**head, "spec": {"target": target, "benchmark": benchmark}}


def measure(folder: Path, slots: int, requests: int, users: int) -> None:
    """One level as a run of its own in ``folder``, the server's clock beside it as RUN.npz."""
    file = folder / f"users-{users}.yaml"
    file.write_text(yaml.safe_dump(config(slots, requests, users)))
    before = set(folder.glob("*/manifest.json"))
    command = [*COMMAND, "run", "-c", str(file), "-o", str(folder), "--progress", "none", "--fail-on", "none"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with clock_of_server_below(run.pid) as clock:
        code = run.wait()
    if code:
        raise SystemExit(f"the run at {users} users failed with exit code {code}")
    (made,) = set(folder.glob("*/manifest.json")) - before
    np.savez(folder / f"{made.parent.name}.npz", wall=clock.wall, cpu=clock.cpu)
    print(f"{users} users: the server got {clock.share:.0%} of its core", flush=True)


def judge(folder: Path, held_out: Sequence[int]) -> bool:
    """Calibrate on the runs of ``folder`` by both clocks; whether the predictions by the server's are good enough."""
    wall, cpu = [], []
    for file in sorted(folder.glob("*.npz")):
        opened = RunFolder.open(file.with_suffix(""))
        wall.append(run_input(opened, load_resolved(opened.config_text)))
        with np.load(file) as clock:
            cpu.append(on_server_clock(wall[-1], ServerClock(clock["wall"].tolist(), clock["cpu"].tolist())))
    hold_out = [f"c={users}" for users in held_out]
    by_wall = show("on the wall clock", calibrate(wall, hold_out=hold_out))
    by_cpu = show("on the server's CPU clock", calibrate(cpu, hold_out=hold_out))
    words = {True: "held", False: "MISSED"}
    print(
        f"\nVERDICT: throughput within 10 %, median TTFT and TPOT within 15 % of the levels predicted: "
        f"{words[by_cpu]} on the server's CPU clock, {words[by_wall]} on the wall clock"
    )
    return by_cpu


def show(title: str, found: Calibration) -> bool:
    """Print what was predicted; whether it is within the limits."""
    print(f"\n{title}\n| level | | " + " | ".join(f"{q} | predicted | error" for q in LIMITS) + " |")
    for level in found.levels:
        use = "predicted" if level.held_out else "fitted"
        cells = [
            f"{getattr(level.measured, q):.4g} | {getattr(level.predicted, q):.4g} | {level.error(q):+.1%}"
            for q in LIMITS
        ]
        print(f"| {level.label} | {use} | {' | '.join(cells)} |")
    print(f"{found.cost}\nrequest_overhead={found.request_overhead:.4g} s")
    return all(found.worst(name) <= limit for name, limit in LIMITS.items())


def main(argv: Sequence[str] | None = None) -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the runs here; default: a temporary folder")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--requests", type=int, default=18, help="of a level, and 6 more for each of its users")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each level, in turns; medians count; 0: use what is there"
    )
    parser.add_argument(
        "--hold-out", type=int, nargs=2, choices=LEVELS, default=HELD_OUT, help="levels to predict; 2 6 by default"
    )
    given = parser.parse_args(argv)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="calibrate-local-"))
    folder.mkdir(parents=True, exist_ok=True)
    for users in LEVELS * given.repeats:
        measure(folder, given.slots, given.requests + 6 * users, users)
    return judge(folder, given.hold_out)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
