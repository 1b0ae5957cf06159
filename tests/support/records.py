"""Synthetic records with matching events, for tests: requests as a well-behaved server would have answered them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_d_benchmark.analyze.api import RunInput
from llm_d_benchmark.config.model import BenchmarkConfig
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.schedule import Load, Stage

START = 1_767_225_600_000_000_000
S = 1_000_000_000


def make_records(
    n: int,
    *,
    stage: int = 0,
    rate: float = 10.0,
    ttft: float = 0.05,
    itl: float = 0.01,
    tokens: int = 16,
    seed: int = 0,
    failed: int = 0,
    jitter: float = 0.2,
    start: int = START,
    streaming: bool = True,
    model: str = "m",
    **columns: Any,
) -> Records:
    """``n`` requests at a constant ``rate`` (requests/s) from ``start``;
    the last ``failed`` of them failed with http_5xx.

    ``ttft`` and ``itl`` are means in seconds, spread by the fraction ``jitter``; ``columns`` overrides record columns.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        sent = start + round(i / rate * S)
        gaps = np.maximum(rng.normal(itl, itl * jitter, tokens), 1e-6)
        gaps[0] = max(rng.normal(ttft, ttft * jitter), 1e-6)
        times = np.rint(np.cumsum(gaps) * 1e6).astype(np.int32)
        first, last = sent + int(times[0]) * 1000, sent + int(times[-1]) * 1000
        row: dict[str, Any] = {
            "request_id": stage * 1_000_000 + i, "stage": stage, "shard": 0, "worker": 0, "model": model, "session": i,
            "turn": 0, "scheduled": sent, "ready": sent, "sent": sent, "input_asked": 32, "output_asked": tokens,
            "streaming": streaming, "attempts": 1, "http_status": 200, "status": "ok", "end": last,
        }  # fmt: skip
        if i >= n - failed:
            row |= {"status": "failed", "error_class": "http_5xx", "http_status": 500, "end": first}
        else:
            row |= {"input_tokens": 32, "input_source": "usage", "output_tokens": tokens, "output_source": "usage"}
            row |= {"finish_reason": "length"}
            if streaming:
                row |= {"first_token": first, "last_token": last, "chunk_times": times}
        rows.append(row | columns)
    return Records.from_rows(rows)


def stage_events(
    seconds: float,
    *,
    index: int = 0,
    rate: float | None = 10.0,
    concurrency: int | None = None,
    start: int = START,
    lag_ms: float = 0.1,
    cpu: float = 0.3,
    ended: bool = True,
    endpoint: str = "chat",
) -> list[Event]:
    """STAGE_START, one CLIENT event and STAGE_END of a stage whose window is [start, start + seconds)."""
    stage = Stage(index, f"s{index}", Load(rate, concurrency), seconds, endpoint=endpoint)
    end = start + round(seconds * S)
    lag = {"p50": lag_ms / 2, "p99": lag_ms, "max": lag_ms * 2}
    client = {"worker": 0, "start": start, "end": end, "cpu": cpu, "loop_lag_ms": lag, "ticks": 1000}
    events = [
        Event(EventType.STAGE_START, start, {"stage": index, "generator": "native", "start": start, **stage.to_dict()}),
        Event(EventType.CLIENT, end, client),
    ]
    bounds = {"start": start, "load_end": end, "end": end, "window_start": start, "window_end": end}
    return events + (
        [Event(EventType.STAGE_END, end, {"stage": index, **bounds, "reason": "duration"})] if ended else []
    )


def make_manifest(**changes: Any) -> dict[str, Any]:
    target = {"type": "existing", "url": "http://127.0.0.1:8000", "model": "m", "server": "test", "fingerprint": "f"}
    return {"started": START, "tool_version": "0", "target": target, "idle_round_trip_s": 0.0003, **changes}


def run_input(
    parts: Sequence[Records], events: Sequence[Event], *, spec: dict[str, Any] | None = None, **changes: Any
) -> RunInput:
    """A run of these parts; ``spec`` is the ``spec`` of its configuration."""
    config = BenchmarkConfig.model_validate({"spec": spec or {}})
    given: dict[str, Any] = {"manifest": make_manifest(), **changes}
    return RunInput(run_id="run", config=config, events=events, parts=lambda: parts, **given)
