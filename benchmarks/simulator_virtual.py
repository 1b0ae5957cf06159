"""The virtual clock: an hour of 50 requests/s (512 tokens in, 256 out) on four replicas, in a process of its own.

``python -m benchmarks.simulator_virtual [SECONDS]`` simulates fewer seconds. What is timed is the CPU of the load,
records to Parquet included, in all threads; the analysis of the run is timed apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HOUR = 3600
LIMIT_S, LIMIT_GROWTH_MB = 40.0, 50.0
RUN = """
import asyncio, json, resource, sys, time
from pathlib import Path
from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.events import EventType
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.run import run

load = {"request_rate": 50, "arrival": "poisson", "input_length": 512, "output_length": 256}
spec = {
    "target": {"type": "simulator", "simulator": {"profile": "llama-3.1-8b/h100", "replicas": 4}},
    "benchmark": {"duration": float(sys.argv[2]), "load_generators": [{"type": "virtual", "config": load}]},
}
peaks, marks = [], {}

def watch(event):
    if event.type is EventType.INTERVAL:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    elif event.type is EventType.PHASE and event.data["phase"] == "benchmark":
        marks[event.data["state"]] = time.process_time()

loaded = load_config([], env={}, overrides={"spec": spec})
outcome = asyncio.run(run(loaded, RunOptions(output=Path(sys.argv[1])), observers=[watch]))
load_s = marks["end"] - marks["start"]
print(json.dumps({
    "requests": outcome.result.requests.succeeded, "load_s": load_s, "analysis_s": time.process_time() - marks["end"],
    "first_mb": peaks[len(peaks) // 4], "peak_mb": peaks[-1],
}))
"""


def main(seconds: int = HOUR) -> bool:
    """Measure and print; whether the limits are kept."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", RUN, folder, str(seconds)], check=True, capture_output=True, text=True
        )
        size = sum(p.stat().st_size for p in Path(folder).rglob("*.parquet")) / 2**20
    said = json.loads(done.stdout)
    growth = said["peak_mb"] - said["first_mb"]
    print(
        f"{seconds} s of load, {said['requests']} requests: {said['load_s']:.1f} s of CPU (limit {LIMIT_S:g} for an "
        f"hour), {size:.0f} MiB of Parquet; memory {said['peak_mb']:.0f} MB at most, {growth:+.0f} MB after the first "
        f"quarter (limit {LIMIT_GROWTH_MB:g}); analysis and reports {said['analysis_s']:.1f} s more"
    )
    return bool(said["load_s"] < LIMIT_S * seconds / HOUR and growth < LIMIT_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
