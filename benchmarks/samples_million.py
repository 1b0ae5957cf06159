"""Analysis of a run of a million requests with a million samples, and comparison of two such runs:
``python -m benchmarks.samples_million [N]``.

The folder is synthesised through the store, samples as a scrape of four replicas and a host once a second would give
them; each step runs in a fresh process. CPU time stands beside the time by the clock, which other work bends.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.analyze_million import LIMIT_MB, LIMIT_S, RATE, START, synthesise
from llm_d_benchmark.domain.samples import Samples, Series, SeriesKind
from llm_d_benchmark.store.samples import write_samples

GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
TOTALS = (
    *("vllm:num_preemptions_total", "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"),
    *("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
    *(f"vllm:request_{p}_time_seconds_{e}" for p in ("queue", "prefill", "decode") for e in ("sum", "count")),
)
BUCKETS = 50
"""Of one histogram that every replica has: series that nothing reads."""
TICKS = 1000
COMPARE_LIMIT_S = 60.0
STEP = """
import resource, sys, time
from pathlib import Path
from llm_d_benchmark.{module} import {name}
began = time.perf_counter()
{call}
print(time.perf_counter() - began, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
ANALYZE = STEP.format(module="runner.finish", name="analyze_folder", call="analyze_folder(Path(sys.argv[1]))")
COMPARE = STEP.format(module="runner.compare", name="compare", call="compare([Path(p) for p in sys.argv[1:]])")


def series() -> tuple[Series, ...]:
    found = []
    for replica in range(4):
        source, labels = f"http://replica-{replica}:8000/metrics", (("engine", "0"), ("model_name", "m"))
        found += [Series(source, metric, labels) for metric in GAUGES]
        found += [Series(source, metric, labels, SeriesKind.COUNTER) for metric in TOTALS]
        name = "vllm:time_to_first_token_seconds_bucket"
        found += [Series(source, name, (("le", str(k)), *labels), SeriesKind.COUNTER) for k in range(BUCKETS)]
    return tuple(found)


def parts(samples: int, seconds: float) -> Iterator[Samples]:
    """Batches of TICKS scrapes each, ``samples`` in all, evenly over ``seconds`` and a little beyond."""
    all_series = series()
    ticks = samples // len(all_series) + 1
    every = (seconds + 2) / (ticks - 1)
    for first in range(0, ticks, TICKS):
        at = np.arange(first, min(first + TICKS, ticks))
        times = START - 1_000_000_000 + (at * every * 1e9).astype(np.int64)
        values = np.repeat(at.astype(np.float64), len(all_series)) * 0.5
        codes = np.tile(np.arange(len(all_series), dtype=np.int32), len(at))
        yield Samples(np.repeat(times, len(all_series)), values, codes, all_series)


def step(name: str, code: str, limit_s: float, *paths: Path) -> bool:
    """Measure and print one step; whether it keeps its limits."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, stdout=subprocess.PIPE, text=True)
    seconds, cpu, memory = map(float, done.stdout.split())
    print(
        f"{name:14} {seconds:6.1f} s (limit {limit_s:g}), {cpu:6.1f} s of CPU, {memory:6.0f} MB (limit {LIMIT_MB:g})",
        flush=True,
    )
    return seconds < limit_s and memory < LIMIT_MB


def main(count: int = 1_000_000) -> bool:
    """Measure and print; whether it keeps the limits."""
    with tempfile.TemporaryDirectory() as output:
        path = asyncio.run(synthesise(Path(output), count))
        total = 0
        (path / "samples").mkdir(exist_ok=True)
        for index, part in enumerate(parts(count, count / RATE)):
            write_samples(part, path / "samples" / f"part-{index + 1:05}.parquet")
            total += len(part)
        print(f"{count} requests, {total} samples of {len(series())} series")
        held = step("analyze_folder", ANALYZE, LIMIT_S, path)
        other = shutil.copytree(path, path.with_name("again"))
        held = step("compare", COMPARE, COMPARE_LIMIT_S, path, other) and held
        result = json.loads((path / "result.json").read_text())
        assert result["requests"]["succeeded"] == count
        rate = result["stages"][0]["resources"]["server_output_tokens_per_second"]["value"]
        print(f"server's tokens/s over the window: {rate:.4g}")
    return held


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
