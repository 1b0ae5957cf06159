"""Schedules for tests: any workload under a sizer whose words are tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_d_benchmark.config.load import ModelShare
from llm_d_benchmark.domain.schedule import Load, Stage
from llm_d_benchmark.testing.workload import WordCountSizer
from llm_d_benchmark.workload.api import Workload, WorkloadContext
from llm_d_benchmark.workload.registry import create_workload
from llm_d_benchmark.workload.schedule import SeededSchedule


def workload(options: Mapping[str, Any], endpoint: str = "chat") -> Workload:
    return create_workload(options, WorkloadContext(WordCountSizer(), endpoint, options))


def schedule(
    options: Mapping[str, Any], *, seed: int = 7, models: tuple[ModelShare, ...] = (), endpoint: str = "chat"
) -> SeededSchedule:
    return SeededSchedule(workload(options, endpoint), seed, models, "default-model")


def closed(index: int = 0, *, num_requests: int | None = None, concurrency: int = 4) -> Stage:
    return Stage(index, f"s{index}", Load(concurrency=concurrency), num_requests=num_requests)


def traced(index: int = 0, *, duration_s: float | None = None, speedup: float = 1.0) -> Stage:
    load = Load(arrival={"type": "trace", "speedup": speedup})
    return Stage(index, f"s{index}", load, duration_s=duration_s)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)
