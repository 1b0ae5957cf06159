"""Analysis of a run folder of a million requests of 128 chunks: ``python -m benchmarks.analyze_million [REQUESTS]``.

The folder is synthesised through the store in bounded memory; analysis and reports run in fresh processes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import RECORD_COLUMNS, Kind, Labels, Ragged, Records, offsets_of
from llm_d_benchmark.domain.schedule import Load, Stage
from llm_d_benchmark.store.writer import RunWriter

CHUNKS = 128
BATCH = 20_000
RATE = 250.0
START = 1_800_000_000_000_000_000
LIMIT_S, LIMIT_MB = 30.0, 2048.0
STEP = """
import resource, sys, time
from pathlib import Path
from llm_d_benchmark.runner.finish import {name}
began = time.perf_counter()
{name}(Path(sys.argv[1]))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def batch(first: int, rng: np.random.Generator) -> Records:
    """Requests ``first`` to ``first + BATCH``: TTFT about 50 ms, gaps of 5 to 15 ms."""
    ids = np.arange(first, first + BATCH, dtype=np.int64)
    times = np.cumsum(rng.integers(5_000, 15_000, (BATCH, CHUNKS), dtype=np.int32), axis=1, dtype=np.int32)
    times += rng.integers(30_000, 60_000, (BATCH, 1), dtype=np.int32)
    sent = START + (ids / RATE * 1e9).astype(np.int64)
    label = {"model": "m", "input_source": "usage", "output_source": "usage", "finish_reason": "length", "status": "ok"}
    given = {
        "request_id": ids, "session": ids, "stage": 0 * ids, "scheduled": sent, "ready": sent, "sent": sent + 50_000,
        "first_token": sent + 50_000 + times[:, 0] * 1000, "last_token": sent + 50_000 + times[:, -1] * 1000,
        "end": sent + 60_000 + times[:, -1] * 1000, "input_tokens": 0 * ids + 512, "input_asked": 0 * ids + 512,
        "output_tokens": 0 * ids + CHUNKS, "output_asked": 0 * ids + CHUNKS, "attempts": 0 * ids + 1,
        "chunk_times": Ragged(offsets_of(np.full(BATCH, CHUNKS)), times.ravel()),
        "streaming": np.ones(BATCH, np.bool_),
    }  # fmt: skip
    empty = Records.from_rows([{}] * BATCH)
    columns = {
        c.name: Labels(np.zeros(BATCH, np.int32), (label[c.name],))
        if c.kind is Kind.LABEL and c.name in label
        else given.get(c.name, empty.columns[c.name])
        for c in RECORD_COLUMNS
    }
    return Records(columns)


async def synthesise(output: Path, requests: int) -> Path:
    seconds = requests / RATE
    config = load_config([], env={}, overrides={"spec": {"target": {"type": "local"}}})
    writer = RunWriter.create(output, name="million", config_yaml=config.to_yaml(), manifest={"started": START})
    stage = Stage(0, "s", Load(rate=RATE), seconds)
    end = START + int((seconds + 5) * 1e9)
    writer.event(Event(EventType.STAGE_START, START, {"stage": 0, "start": START, **stage.to_dict()}))
    rng = np.random.default_rng(0)
    for first in range(0, requests, BATCH):
        await writer.append(batch(first, rng))
    window = {"window_start": START, "window_end": START + int(seconds * 1e9)}
    ended = {"stage": 0, "start": START, "load_end": end, "end": end, **window, "reason": "duration"}
    writer.event(Event(EventType.STAGE_END, end, ended))
    writer.event(Event(EventType.PHASE, end, {"phase": "benchmark", "state": "end"}))
    await writer.close("ok")
    return writer.path


def main(requests: int = 1_000_000) -> bool:
    """Measure both steps and print them; whether they keep the limits."""
    held = True
    with tempfile.TemporaryDirectory() as output:
        path = asyncio.run(synthesise(Path(output), requests))
        size = sum(p.stat().st_size for p in path.rglob("*.parquet")) / 2**20
        print(f"{requests} requests x {CHUNKS} chunks, {size:.0f} MiB of Parquet")
        for name in ("analyze_folder", "report_folder"):
            done = subprocess.run(
                [sys.executable, "-c", STEP.format(name=name), str(path)], check=True, capture_output=True, text=True
            )
            seconds, memory = map(float, done.stdout.split())
            held = held and seconds < LIMIT_S and memory < LIMIT_MB
            print(f"{name:16} {seconds:6.1f} s (limit {LIMIT_S:g}), {memory:6.0f} MB (limit {LIMIT_MB:g})", flush=True)
        counted = json.loads((path / "result.json").read_text())["requests"]["succeeded"]
        assert counted == requests, counted
    return held


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
