"""The client's own load over the measured windows, from its CLIENT events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..domain.events import Event, EventType
from ..domain.result import Absent, Measured, Scalar, WorkerLoad
from .percentiles import FloatArray
from .windows import StageWindow

_LEVELS = (0.5, 0.99, 1.0)


def worker_loads(events: Sequence[Event], windows: Sequence[StageWindow]) -> list[WorkerLoad]:
    """One row per worker that reported inside a window, by name."""
    by_worker: dict[str, list[Event]] = {}
    for event in events:
        if event.type is EventType.CLIENT and any(_overlaps(event, w) for w in windows):
            by_worker.setdefault(str(event.data.get("worker", "0")), []).append(event)
    return [_load(name, by_worker[name]) for name in sorted(by_worker, key=lambda n: (len(n), n))]


def _overlaps(event: Event, window: StageWindow) -> bool:
    start, end = int(event.data.get("start", event.time)), int(event.data.get("end", event.time))
    return start < window.end and end > window.start


def _load(name: str, events: Sequence[Event]) -> WorkerLoad:
    seconds = np.asarray([(e.data.get("end", 0) - e.data.get("start", 0)) / 1e9 for e in events])
    cpu = np.asarray([e.data.get("cpu", np.nan) for e in events], float)
    known = np.isfinite(cpu) & (seconds > 0)
    used: Scalar = Absent("this worker reported no CPU time")
    if known.any():
        used = Measured(float(np.average(cpu[known], weights=seconds[known])), "fraction")
    return WorkerLoad(name, used, *loop_lag(events))


def loop_lag(events: Sequence[Event]) -> tuple[Scalar, Scalar, Scalar]:
    """p50, p99 and max of the loop's lateness in seconds over several reports.

    Each report is taken as a distribution that is linear between 0, its p50, p99 and max, weighted by its ticks.
    """
    lags = [e.data["loop_lag_ms"] for e in events if isinstance(e.data.get("loop_lag_ms"), dict)]
    ticks = [float(e.data.get("ticks") or 1) for e in events if isinstance(e.data.get("loop_lag_ms"), dict)]
    if not lags:
        none = Absent("the client reported no loop lag")
        return none, none, none
    points = np.asarray([[lag["p50"], lag["p99"], lag["max"]] for lag in lags], float) / 1e3
    weights = np.asarray(ticks) / sum(ticks)
    at = np.unique(np.concatenate([[0.0], points.ravel()]))
    share = sum(w * _below(row, at) for w, row in zip(weights, points, strict=True))
    p50, p99 = (float(np.interp(level, share, at)) for level in _LEVELS[:2])
    return Measured(p50, "s"), Measured(p99, "s"), Measured(float(points[:, 2].max()), "s")


def _below(row: FloatArray, at: FloatArray) -> FloatArray:
    """Share of one report's ticks at or under each of ``at``."""
    found: FloatArray = np.interp(at, [0.0, *row], [0.0, *_LEVELS], right=1.0)
    return np.where(at >= row[2], 1.0, found)
