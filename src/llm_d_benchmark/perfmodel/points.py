"""Measured levels of load, as the model is fitted to them: from a table, or from the results of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..domain.errors import ConfigError
from ..domain.result import Distribution, Measured, RunResult, Scalar, StageResult

FloatArray = npt.NDArray[np.float64]
COLUMNS = ("concurrency", "rate", "input", "output", "ttft", "itl", "throughput")
NO_GAIN = 1.02
"""Of two levels with at least ``MORE`` times the requests in flight, the higher one that gives less than this times the
throughput is saturated: its requests wait for a place, and its latencies are not those of a batch that large."""
MORE = 1.15
MOST_ERRORS = 0.1


@dataclass(frozen=True, slots=True)
class Point:
    """One measured level of load on one replica; latencies are means.

    Attributes:
        concurrency: requests in flight.
        input_tokens, output_tokens: means of a request.
        ttft, itl: s; None where not measured. ``itl`` is the time per output token after the first.
        throughput: output tokens/s; None where not measured.
        source: run id, or the row of a table.
    """

    concurrency: float
    input_tokens: float
    output_tokens: float
    ttft: float | None
    itl: float | None
    throughput: float | None
    source: str

    @property
    def context(self) -> float:
        """Mean tokens of context that a decoding sequence holds."""
        return self.input_tokens + self.output_tokens / 2

    @property
    def group(self) -> tuple[float, float, float]:
        """The configuration: equal for repeated measurements of it."""
        return _round(self.concurrency), _round(self.input_tokens), _round(self.output_tokens)


def _round(value: float) -> float:
    """Two digits: what was asked for alike, and came out a little different."""
    return float(f"{value:.2g}")


def from_table(table: Mapping[str, Sequence[float | None]]) -> list[Point]:
    """One point for each row.

    Args:
        table: columns of equal length: ``concurrency`` or ``rate`` (requests/s), ``input`` and ``output`` (tokens),
            ``ttft`` and ``itl`` (s), and, where known, ``throughput`` (output tokens/s). None or NaN: not measured.

    Raises:
        ConfigError: a column is missing or unknown, their lengths differ, or a value is not positive.
    """
    if unknown := sorted(set(table) - set(COLUMNS)):
        raise ConfigError(f"unknown column {', '.join(unknown)} (allowed: {', '.join(COLUMNS)})")
    needed = [c for c in ("input", "output", "ttft", "itl") if c not in table]
    if not ("concurrency" in table or "rate" in table):
        needed.insert(0, "concurrency or rate")
    if needed:
        raise ConfigError(f"the table has no column {', '.join(needed)}")
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"the columns differ in length: {', '.join(f'{n} {k}' for n, k in lengths.items())}")
    return [_row(table, i) for i in range(next(iter(lengths.values())))]


def _row(table: Mapping[str, Sequence[float | None]], i: int) -> Point:
    def cell(name: str) -> float | None:
        value = table[name][i] if name in table else None
        if value is None or math.isnan(value):
            return None
        if value <= 0 or math.isinf(value):
            raise ConfigError(f"row {i}: {name} is {value}; it must be a positive number, or missing")
        return float(value)

    input_tokens, output_tokens = cell("input"), cell("output")
    ttft, itl, rate = cell("ttft"), cell("itl"), cell("rate")
    if input_tokens is None or output_tokens is None:
        raise ConfigError(f"row {i}: input and output tokens must be given")
    concurrency = cell("concurrency")
    if concurrency is None and rate is not None and ttft is not None and itl is not None:
        concurrency = rate * (ttft + (output_tokens - 1) * itl)  # Little's law
    if concurrency is None:
        raise ConfigError(f"row {i}: give concurrency, or rate together with ttft and itl")
    throughput = cell("throughput") or (rate * output_tokens if rate is not None else None)
    return Point(concurrency, input_tokens, output_tokens, ttft, itl, throughput, f"row {i}")


def from_results(results: Sequence[RunResult]) -> tuple[list[Point], list[str]]:
    """One point for each stage that says something of the server.

    Returns:
        the points, of one replica, and sentences on what was left out.
    """
    points, notes = [], []
    for result in results:
        if not result.validity.valid:
            notes.append(f"run {result.run_id} is left out: it is invalid, the client was the bottleneck")
            continue
        replicas = result.target.info.get("replicas")
        many = replicas if isinstance(replicas, int) and replicas > 1 else 1
        for stage in result.stages:
            found = _of_stage(stage, result.run_id, many)
            if isinstance(found, str):
                notes.append(f"run {result.run_id}, {stage.label or stage.name} is left out: {found}")
            else:
                points.append(found)
    return points, notes


def _of_stage(stage: StageResult, run_id: str, replicas: int) -> Point | str:
    m = stage.metrics
    if m.requests.sent and m.requests.failed > MOST_ERRORS * m.requests.sent:
        return f"{m.requests.failed} of {m.requests.sent} requests failed"
    ttft, itl = _mean(m.ttft), _mean(m.tpot)
    if ttft is None or itl is None:
        return "it has no TTFT or TPOT; measure with streaming and answers of more than one token"
    input_tokens = _value(m.input_length.achieved) or _value(m.input_length.asked)
    output_tokens = _value(m.output_length.achieved) or _value(m.output_length.asked)
    if input_tokens is None or output_tokens is None:
        return "its token lengths are not known"
    rate, e2e = _value(m.requests_per_second), _mean(m.e2e)
    concurrency = _value(m.concurrency) or (rate * e2e if rate and e2e else None)
    if not concurrency:
        return "how many requests were in flight is not known"
    throughput = _value(m.output_tokens_per_second)
    return Point(
        concurrency / replicas,
        max(1.0, input_tokens),
        max(1.0, output_tokens),
        ttft,
        itl,
        throughput / replicas if throughput else None,
        run_id,
    )


def _mean(value: object) -> float | None:
    return value.mean if isinstance(value, Distribution) and value.mean > 0 else None


def _value(value: Scalar) -> float | None:
    return value.value if isinstance(value, Measured) and value.value > 0 else None


def split_saturated(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Points whose requests all had a place in the batch, and those where they waited for one.

    Of the same lengths and in the order of concurrency, a level that gives no more throughput than a lower one is
    saturated.
    """
    saturated: set[int] = set()
    for i, high in enumerate(points):
        for low in points:
            if (
                low.group[1:] == high.group[1:]
                and low.throughput
                and high.throughput
                and high.concurrency >= MORE * low.concurrency
                and high.throughput < NO_GAIN * low.throughput
            ):
                saturated.add(i)
    free = [p for i, p in enumerate(points) if i not in saturated]
    return free, [points[i] for i in sorted(saturated)]


def decoding(point: Point) -> Point:
    """A saturated level as the batch that it really had: by Little's law over the decoding of its answers."""
    if point.throughput is None or point.itl is None:
        return point
    rate = point.throughput / point.output_tokens
    return replace(point, concurrency=min(point.concurrency, rate * (point.output_tokens - 1) * point.itl), ttft=None)
