"""Workers' ticks as the run's INTERVAL and CLIENT events."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ...domain.events import Event, EventType
from .wire import Tick


def client_event(worker: int, tick: Tick, offset: int) -> Event:
    """The client's own load in one worker over one interval."""
    lags = np.asarray(tick.lag_ns or [0], np.float64) / 1e6
    return Event(
        EventType.CLIENT,
        tick.end + offset,
        {
            "worker": str(worker),
            "receiver": tick.receiver,
            "start": tick.start + offset,
            "end": tick.end + offset,
            "cpu": round(tick.cpu, 4),
            "loop_lag_ms": {
                "p50": round(float(np.percentile(lags, 50)), 4),
                "p99": round(float(np.percentile(lags, 99)), 4),
                "max": round(float(lags.max()), 4),
            },
            "ticks": len(tick.lag_ns),
        },
    )


class Intervals:
    """Joins the n-th tick of every worker into one event."""

    def __init__(self, workers: int, stage: int, offset: int) -> None:
        self._waiting: list[list[Tick]] = [[] for _ in range(workers)]
        self._stage = stage
        self._offset = offset

    def add(self, worker: int, tick: Tick) -> Event | None:
        """The interval's event, once every worker has told of it."""
        self._waiting[worker].append(tick)
        if all(self._waiting):
            return self._event([ticks.pop(0) for ticks in self._waiting])
        return None

    def rest(self) -> list[Event]:
        """What is left at the end of a stage, where workers ended at different times."""
        events = []
        while any(self._waiting):
            events.append(self._event([ticks.pop(0) for ticks in self._waiting if ticks]))
        return events

    def _event(self, ticks: list[Tick]) -> Event:
        errors: Counter[str] = Counter()
        for tick in ticks:
            errors.update(tick.errors)
        ttft = [ns for tick in ticks for ns in tick.ttft_ns]
        data = {
            "stage": self._stage,
            "start": min(t.start for t in ticks) + self._offset,
            "end": max(t.end for t in ticks) + self._offset,
            **{
                key: sum(getattr(t, key) for t in ticks)
                for key in ("sent", "succeeded", "failed", "cancelled", "in_flight", "chunks", "output_tokens")
            },
            "errors": dict(errors),
            "loop_lag_ms_max": round(max((max(t.lag_ns, default=0) for t in ticks), default=0) / 1e6, 3),
            "schedule_delay_ms_max": round(max(t.delay_ns_max for t in ticks) / 1e6, 3),
        }
        if ttft:
            data["ttft_ms_p50"] = round(float(np.median(ttft)) / 1e6, 3)
        return Event(EventType.INTERVAL, int(data["end"]), data)
