"""The whole engine in a process of its own, measured: ``python -m benchmarks.client URL STREAMS REQUESTS OUT HOW``.

Scheduling, sending, receiving, decoding, recording and the Parquet and event files of a run folder: everything a run
does while load is on. Prints one JSON line: CPU seconds of all client processes, chunks, and memory by the second.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rig import PROMPT, TOKENS
from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.events import EventType
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.schedule import Load, Session, Stage, StageOutcome, Turn
from llm_d_benchmark.loadgen.api import LoadJob
from llm_d_benchmark.loadgen.native.generator import NativeLoadGenerator
from llm_d_benchmark.store.writer import RunWriter


class OneStage:
    """A stage source of one stage."""

    adaptive = False

    def __init__(self, stage: Stage) -> None:
        self._stages = [stage]
        self._left = [stage]

    def next(self, last: StageOutcome | None) -> Stage | None:
        return self._left.pop() if self._left else None

    def planned(self) -> Sequence[Stage]:
        return self._stages


class SamePrompt:
    """Endless sessions with the C client's prompt; ``user`` makes the server log them under our request id."""

    def sessions(self, stage: Stage) -> Iterator[Session]:
        for i in itertools.count():
            params = {"user": str(i), "temperature": 0}
            yield Session(i, i, (Turn(PROMPT, None, TOKENS, params=params),), "mock")


@dataclass
class Meter:
    """CPU time and memory of this process and its workers."""

    workers: list[psutil.Process] = field(default_factory=list)
    began: float = 0.0
    used: float = 0.0
    memory_mb: list[float] = field(default_factory=list)

    def cpu(self) -> float:
        times = [p.cpu_times() for p in (psutil.Process(), *self.workers)]
        return sum(t.user + t.system for t in times)

    def sample(self) -> None:
        rss = sum(p.memory_info().rss for p in (psutil.Process(), *self.workers))
        self.memory_mb.append(rss / 2**20)


async def run(url: str, streams: int, requests: int, out: Path, receiver: str) -> dict[str, Any]:
    stage = Stage(0, f"c={streams}", Load(concurrency=streams, ramp_s=0.7), num_requests=requests)
    job = LoadJob(
        endpoint=Endpoint(url, "mock"),
        config=LoadConfig(native={"receiver": receiver}),
        stages=OneStage(stage),
        schedule=SamePrompt(),
        log_dir=out / "logs",
        stop=asyncio.Event(),
        clock_offset=time.time_ns() - time.monotonic_ns(),
    )
    writer = RunWriter.create(out, name="bench", config_yaml="{}", manifest={})
    meter = Meter()
    chunks = rows = 0
    lag_ms, began = 0.0, time.monotonic()
    async for item in NativeLoadGenerator().run(job):
        if isinstance(item, Records):
            rows += len(item)
            chunks += len(item.ragged("chunk_times").values)
            await writer.append(item)
            continue
        writer.event(item)
        if item.type is EventType.STAGE_START:
            meter.workers = psutil.Process().children()
            meter.began, began = meter.cpu(), time.monotonic()
        elif item.type is EventType.INTERVAL:
            meter.sample()
        elif item.type is EventType.CLIENT:
            lag_ms = max(lag_ms, item.data["loop_lag_ms"]["p99"])
        elif item.type is EventType.STAGE_END:
            await writer.flush()
            meter.used = meter.cpu() - meter.began
    seconds = time.monotonic() - began
    await writer.close("ok")
    return {
        "folder": str(writer.path), "cpu_s": meter.used, "chunks": chunks, "requests": rows, "seconds": seconds,
        "cpu_us_chunk": meter.used / chunks * 1e6, "workers": len(meter.workers), "lag_p99_ms_max": lag_ms,
        "memory_mb": meter.memory_mb, "offset": job.clock_offset,
    }  # fmt: skip


def main() -> None:
    url, streams, requests, out, receiver = sys.argv[1:6]
    print(json.dumps(asyncio.run(run(url, int(streams), int(requests), Path(out), receiver))))


if __name__ == "__main__":
    main()
