"""The tool's own time: ``--help``, and what a one-second run takes beyond its second. Medians of five."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tests.support.openai_server import OpenAIServer

RUNS = 5
COMMAND = [sys.executable, "-m", "llm_d_benchmark"]
LOAD = "spec.benchmark.load_generators.0.config"


def median_seconds(work: Callable[[], None]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def help_seconds() -> float:
    return median_seconds(lambda: subprocess.run([*COMMAND, "--help"], check=True, capture_output=True) and None)


def own_seconds_of_a_one_second_run() -> float:
    """Wall time of a run with a one-second window, less that second. The server answers in 10 ms."""
    with OpenAIServer(ttft=0.005, itl=0.001, tokens=4) as server, tempfile.TemporaryDirectory() as out:
        keys = ("duration=1s", "concurrency=4", "input_length=16", "output_length=4")
        command = [*COMMAND, "run", "--url", server.url, "-o", out]
        for key in keys:
            command += ["--set", f"{LOAD}.{key}"]
        return median_seconds(lambda: subprocess.run(command, check=True, capture_output=True) and None) - 1.0


def main() -> None:
    python = median_seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True) and None)
    print(f"python -c pass                 {python:6.3f} s")
    print(f"llm-d-benchmark --help         {help_seconds():6.3f} s   (limit 0.3)")
    print(f"own time of a one-second run   {own_seconds_of_a_one_second_run():6.3f} s   (limit 1.5)")


if __name__ == "__main__":
    main()
