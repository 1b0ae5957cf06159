"""Totals are differenced, levels averaged; restarts and gaps are seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.analyze.resources import NOT_COLLECTED, resources
from llm_d_benchmark.analyze.timeseries import Line, Lines
from llm_d_benchmark.domain.result import Measured, Scalar
from llm_d_benchmark.domain.samples import Samples, Series, SeriesKind

S = 1_000_000_000
START = 1_700_000_000 * S


def line(values: list[float], metric: str = "m", every_s: float = 1.0, **labels: str) -> Line:
    times = START + (np.arange(len(values)) * every_s * S).astype(np.int64)
    return Line(Series("s", metric, tuple(sorted(labels.items()))), times, np.asarray(values, np.float64))


def at(seconds: float) -> int:
    return START + int(seconds * S)


@given(st.lists(st.floats(0, 100), min_size=4, max_size=40), st.integers(0, 30), st.integers(1, 30))
def test_growth_adds_up_over_adjoining_windows(steps: list[float], first: int, length: int) -> None:
    counter = line(np.cumsum(steps).tolist())
    end = len(steps) - 1
    middle, last = min(first, end), min(first + length, end)
    whole = counter.growth(at(0), at(end))
    assert whole == pytest.approx(sum(steps[1:]), abs=1e-6)
    parts = [counter.growth(at(a), at(b)) for a, b in ((0, middle), (middle, last), (last, end)) if b > a]
    assert sum(p for p in parts if p is not None) == pytest.approx(whole, abs=1e-6)


def test_a_restart_is_no_negative_growth_and_is_counted() -> None:
    counter = line([100.0, 110.0, 120.0, 5.0, 15.0])
    assert counter.growth(at(0), at(4)) == pytest.approx(10 + 10 + 5 + 10)
    assert counter.resets(at(0), at(4)) == 1
    assert counter.resets(at(0), at(2)) == 0


def test_edges_between_samples_are_interpolated() -> None:
    assert line([0.0, 10.0, 20.0]).growth(at(0.5), at(1.5)) == pytest.approx(10)


def test_what_does_not_cover_the_window_says_nothing() -> None:
    counter = line([0.0, 10.0, 20.0])
    assert counter.growth(at(0), at(5)) is None
    assert counter.growth(at(10), at(20)) is None
    assert counter.mean(at(10), at(20)) is None
    assert line([1.0]).growth(at(0), at(1)) is None


def test_gaps_are_seen() -> None:
    holed = line([float(k) for k in range(20)])
    kept = np.r_[0:5, 12:20]
    holed = Line(holed.series, holed.times[kept], holed.values[kept])
    assert holed.gaps(at(0), at(19)) == [(at(4), at(12))]
    assert holed.gaps(at(13), at(19)) == []


def value(scalar: Scalar) -> float:
    assert isinstance(scalar, Measured)
    return scalar.value


def test_replicas_add_up_and_what_nobody_saw_is_absent() -> None:
    rows = []
    for k in range(11):
        for replica in ("a", "b"):
            labels = (("model_name", "m"),)
            source = f"http://{replica}/metrics"
            rows += [
                (at(k), Series(source, "vllm:num_requests_running", labels), 4.0),
                (at(k), Series(source, "vllm:kv_cache_usage_perc", labels), 0.5 if replica == "a" else 0.7),
                (at(k), Series(source, "vllm:prompt_tokens_total", labels, SeriesKind.COUNTER), 1000.0 * k),
                (at(k), Series(source, "vllm:prefix_cache_queries_total", labels, SeriesKind.COUNTER), 100.0 * k),
                (at(k), Series(source, "vllm:prefix_cache_hits_total", labels, SeriesKind.COUNTER), 25.0 * k),
                (at(k), Series(source, "vllm:request_queue_time_seconds_sum", labels, SeriesKind.COUNTER), 0.5 * k),
                (at(k), Series(source, "vllm:request_queue_time_seconds_count", labels, SeriesKind.COUNTER), 5.0 * k),
            ]
    found = resources(Lines.of(Samples.from_rows(rows)), at(0), at(10)).values
    assert value(found["server_running"]) == 8
    assert value(found["kv_cache_utilization"]) == pytest.approx(0.6)
    assert value(found["kv_cache_utilization_max"]) == 0.7
    assert value(found["server_input_tokens_per_second"]) == pytest.approx(2000)
    assert value(found["server_prefix_hit_rate"]) == pytest.approx(0.25)
    assert value(found["server_queue_time"]) == pytest.approx(0.1)
    assert found["gpu_utilization"] == NOT_COLLECTED
    assert found["cpu_utilization"] == NOT_COLLECTED


def test_the_host_is_a_share_of_its_cores() -> None:
    rows = []
    for k in range(5):
        for core, busy in (("0", 1.0), ("1", 0.5)):
            labels = (("core", core),)
            rows.append((at(k), Series("host", "cpu_busy_seconds_total", labels, SeriesKind.COUNTER), busy * k))
            rows.append((at(k), Series("host", "cpu_seconds_total", labels, SeriesKind.COUNTER), 1.0 * k))
        rows.append(
            (at(k), Series("server process", "cpu_seconds_total", (("pid", "1"),), SeriesKind.COUNTER), 0.25 * k)
        )
        for way, rate in (("sent", 10.0), ("received", 30.0)):
            for device, factor in (("lo", 1e8), ("e", 1.0)):
                labels = (("device", device),)
                series = Series("host", f"network_{way}_bytes_total", labels, SeriesKind.COUNTER)
                rows.append((at(k), series, rate * factor * k))
    found = resources(Lines.of(Samples.from_rows(rows)), at(0), at(4)).values
    assert value(found["cpu_utilization"]) == pytest.approx(0.75)
    assert value(found["server_cpu_cores"]) == pytest.approx(0.25)
    assert value(found["network_io_rate"]) == pytest.approx(40)
