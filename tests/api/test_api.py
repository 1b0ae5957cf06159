"""The public Python API, also where an event loop is already running as in a notebook."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import polars
import pytest

import llm_d_benchmark as bench
from llm_d_benchmark.domain.errors import StoreError, TargetError
from llm_d_benchmark.domain.events import Event, EventType
from tests.e2e.command import LENIENT
from tests.support.openai_server import OpenAIServer

LOAD = "spec.benchmark.load_generators.0.config"
SMALL = [f"{LOAD}.num_requests=12", f"{LOAD}.input_length=16", f"{LOAD}.output_length=4"]


def target(url: str) -> dict[str, object]:
    return {"spec": {"target": {"type": "existing", "existing": {"url": url}}}}


def test_load_run_and_open(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        config = bench.load_config(sets=SMALL, overrides=target(server.url))
        run = bench.run(config, tmp_path)
    assert run.result.requests.succeeded == 12
    frame = run.records(["request_id", "status", "chunk_times"])
    assert frame.height == 12
    assert frame.columns == ["request_id", "status", "chunk_times"]
    assert run.events().filter(polars.col("type") == "stage_end").height == 1
    ttft = run.metrics().filter((polars.col("metric") == "ttft") & (polars.col("statistic") == "mean"))
    assert ttft["value"][0] == run.result.stages[0].metrics.ttft.mean  # type: ignore[union-attr]
    again = bench.open_run(run.path)
    assert again.result == run.result
    assert again.report.exists()


async def test_run_inside_a_running_event_loop(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        config = bench.load_config(sets=SMALL, overrides=target(server.url))
        assert asyncio.get_running_loop().is_running()
        run = bench.run(config, tmp_path)
    assert run.result.status == "ok"


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    """As Ctrl-C or a notebook's stop button does"""
    pressed: list[int] = []

    def interrupt(event: Event) -> None:
        if event.type is EventType.INTERVAL and not pressed:
            pressed.append(event.time)
            os.kill(os.getpid(), signal.SIGINT)

    with OpenAIServer() as server:
        config = bench.load_config(
            sets=[*LENIENT[1::2], *SMALL[1:], "spec.benchmark.duration=60s"], overrides=target(server.url)
        )
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt, match=r"what was measured until then is in ") as caught:
            bench.run(config, tmp_path, observers=[interrupt])
        assert time.monotonic() - began < 30
    run = bench.open_run(str(caught.value).rpartition(" is in ")[2])
    assert run.result.status == "partial"
    assert run.result.requests.succeeded > 0
    assert run.report.exists()


def test_errors_are_exceptions_with_advice(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        bench.run(bench.load_config(overrides=target("http://127.0.0.1:9")), tmp_path)
    assert caught.value.advice
    with pytest.raises(StoreError):
        bench.open_run(tmp_path / "nothing")


def test_observers_see_the_event_stream(tmp_path: Path) -> None:
    seen = []
    with OpenAIServer() as server:
        config = bench.load_config(sets=SMALL, overrides=target(server.url))
        bench.run(config, tmp_path, observers=[lambda event: seen.append(str(event.type))])
    assert seen[0] == "run_start"
    assert seen[-1] == "run_end"
    assert "interval" in seen
