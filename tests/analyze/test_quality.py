"""What the series do not show is said, and what is right is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.analyze.quality import quality
from llm_d_benchmark.analyze.timeseries import Line, Lines
from llm_d_benchmark.domain.result import Absent, FindingRecord, Measured
from llm_d_benchmark.domain.samples import Series, SeriesKind

S = 1_000_000_000
START = 1_700_000_000 * S
URL = "http://a/metrics"
VLLM = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
    "vllm:request_queue_time_seconds_sum",
)


def line(metric: str, seconds: Any = range(-1, 62), values: Any = None, source: str = URL) -> Line:
    """A series with a sample at each of these seconds after the window's start; totals grow by 1 each."""
    at = np.asarray(list(seconds), np.float64)
    kind = SeriesKind.COUNTER if metric.endswith(("_total", "_sum")) else SeriesKind.GAUGE
    data = np.arange(len(at), dtype=np.float64) if values is None else np.asarray(values, np.float64)
    return Line(Series(source, metric, (), kind), START + (at * S).astype(np.int64), data)


def server(**changed: Any) -> list[Line]:
    return [line(metric, **changed) for metric in VLLM]


def stage(end_s: float = 60.0, **known: float) -> Any:
    """A stage of the window from 0 to ``end_s`` with what ``quality`` reads of it."""

    def read(name: str) -> object:
        return Measured(known[name], "") if name in known else Absent("")

    metrics = SimpleNamespace(
        output_tokens_per_second=read("client"),
        output_length=SimpleNamespace(achieved=read("length")),
        concurrency=read("flight"),
        error_rate=read("errors"),
    )
    return SimpleNamespace(
        name="s",
        window=SimpleNamespace(start=START, end=START + int(end_s * S), seconds=end_s),
        resources={"server_output_tokens_per_second": read("server")},
        metrics=metrics,
    )


def found(lines: list[Line], *stages: Any) -> dict[str, FindingRecord]:
    return {f.code: f for f in quality(Lines(lines), stages or [stage()])}


def test_whole_series_are_no_finding() -> None:
    assert found(server()) == {}
    assert found([]) == {}
    assert found([*server(), line("cpu_seconds_total", source="host")]) == {}


@pytest.mark.parametrize(
    ("seconds", "code", "says"),
    [
        (range(-1, 50), "samples_end_early", "11 s before"),
        (range(10, 62), "samples_begin_late", "10 s after"),
        ([*range(-1, 20), *range(30, 62)], "samples_gaps", "11 s of the windows (18%) in 1 gaps"),
    ],
)
def test_what_was_not_seen_is_said(seconds: Any, code: str, says: str) -> None:
    said = found(server(seconds=seconds))
    assert list(said) == [code]
    assert says in said[code].message
    assert URL in said[code].message
    assert said[code].severity == "warning"


def test_what_lies_outside_the_windows_is_nothing() -> None:
    assert found(server(seconds=[*range(-60, -30), *range(-1, 62), *range(90, 100)])) == {}
    assert found(server(seconds=[*range(-1, 62), *range(80, 162)]), stage(60), _later(100, 160)) == {}


def _later(start_s: float, end_s: float) -> Any:
    one = stage(end_s)
    one.window.start = START + int(start_s * S)
    return one


def test_jitter_is_no_gap() -> None:
    busy = [k + (0.9 if k % 7 == 0 else 0.0) for k in range(-1, 62)]
    assert found(server(seconds=busy)) == {}


def test_a_restart_is_said_with_how_many_totals_fell() -> None:
    values = [*range(30), *range(33)]
    said = found(server(values=values))
    assert "3 of 3 totals" in said["counter_reset"].message
    assert found(server(values=values), _later(40, 60)) == {}  # it was before this window


def test_a_metric_that_the_analysis_needs_and_nobody_sends_is_said_with_advice() -> None:
    said = found([li for li in server() if "kv_cache" not in li.series.metric])
    assert list(said) == ["metric_missing"]
    assert "KV cache" in said["metric_missing"].message
    assert said["metric_missing"].advice
    older = [*(li for li in server() if "kv_cache" not in li.series.metric), line("vllm:gpu_cache_usage_perc")]
    assert found(older) == {}


def test_a_run_that_saw_only_its_own_machine_is_told_what_it_lacks() -> None:
    said = found([line("cpu_seconds_total", source="host")])
    assert list(said) == ["no_server_metrics"]
    assert "spec.collectors.scrape" in str(said["no_server_metrics"].advice)


@pytest.mark.parametrize(
    ("source", "offset", "uncertainty", "severity"),
    [
        (URL, 3.0, 1.0, "warning"),
        (URL, -3.0, 1.0, "warning"),
        (f"prometheus {URL}", 3.0, 0.01, "info"),
        (URL, 1.4, 1.0, None),  # a Date header does not tell half a second
        (f"prometheus {URL}", 0.4, 0.01, None),
    ],
)
def test_a_clock_that_is_certainly_off_is_said(
    source: str, offset: float, uncertainty: float, severity: str | None
) -> None:
    clock = [
        line("clock_offset_seconds", [0, 1], [0.0, offset], source),
        line("clock_offset_uncertainty_seconds", [0, 1], [9.0, uncertainty], source),
    ]
    said = found([*server(), *clock])
    assert (said["clock_offset"].severity if said else None) == severity


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ({"server": 100, "client": 100}, None),
        ({"server": 105, "client": 100}, None),
        ({"server": 150, "client": 100}, "server_shared"),
        ({"server": 50, "client": 100}, "server_partly_seen"),
        ({"server": 150, "client": 100, "errors": 0.1}, None),
        ({"server": 150, "client": 100, "flight": 20}, None),  # 20 answers of 100 tokens are in flight at each edge
    ],
)
def test_tokens_that_others_received_are_seen(known: dict[str, float], code: str | None) -> None:
    one = stage(**{"length": 100.0, "flight": 1.0, "errors": 0.0, **known})
    assert set(found(server(), one)) == ({code} if code else set())


def test_the_table_of_needed_metrics_has_only_names_that_are_read() -> None:
    from llm_d_benchmark.analyze import quality as module
    from llm_d_benchmark.analyze import resources

    read = {n for value in vars(resources).values() if isinstance(value, tuple) for n in value if isinstance(n, str)}
    read |= {f"{n}_sum" for n in resources.PHASES.values()}
    assert {n for rows in module._NEEDED.values() for names, *_ in rows for n in names} <= read
