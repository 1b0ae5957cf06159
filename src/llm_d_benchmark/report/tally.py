"""The running counts of a run, from its events: what a progress display shows."""

from __future__ import annotations

import time
from collections import deque

from ..domain.events import Event, EventType
from .format import duration, stage_title

RATE_OVER = 5
"""Intervals that a shown rate averages over."""
LAG_WARNING_MS = 20.0
"""Loop lag or schedule delay of the client above which a display warns."""


class Tally:
    """Counts of the whole run, rates of its last seconds, and where in the plan it is."""

    def __init__(self) -> None:
        self.phase = ""
        self.stage = -1
        self.stages: int | None = None
        self.stage_name = ""
        self.sent = self.succeeded = self.failed = self.cancelled = self.in_flight = 0
        self.errors: dict[str, int] = {}
        self.counting = True
        """False while a load generator tells nothing of its requests before its stage has ended."""
        self.ttft_ms: float | None = None
        self.lag_ms = 0.0
        self._virtual = False
        self._some_done = False
        self._latest = 0
        self._seconds: float | None = None
        self._load_started: float | None = None
        self._stage_started: float | None = None
        self._stage_seconds: float | None = None
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=RATE_OVER)

    def plan(self, stages: int | None, seconds: float | None) -> None:
        self.stages, self._seconds = stages, seconds

    def _now(self) -> float:
        """Seconds; of a run in virtual time as its last event says."""
        return self._latest / 1e9 if self._virtual else time.monotonic()

    def __call__(self, event: Event) -> None:
        data = event.data
        self._latest = event.time
        match event.type:
            case EventType.PHASE if data.get("state") == "start":
                self.phase = str(data.get("phase"))
            case EventType.STAGE_START:
                self._begin_stage(event)
            case EventType.STAGE_END:
                self.in_flight, self.lag_ms = 0, 0.0
                self._recent.clear()
                self._stage_started = None
            case EventType.INTERVAL:
                self._interval(event)

    def _begin_stage(self, event: Event) -> None:
        data = event.data
        self.stage += 1
        self.stage_name = stage_title(str(data.get("name", "")), str(data.get("label", "")))
        lengths = [data.get("warmup") or 0.0, data.get("duration"), data.get("cooldown") or 0.0]
        self._stage_seconds = None if lengths[1] is None else sum(float(x) for x in lengths if x is not None)
        self._virtual = data.get("generator") == "virtual"
        self._stage_started = self._now()
        self._load_started = self._load_started or self._stage_started
        self._recent.clear()
        self._some_done = False
        self.ttft_ms = None

    def _interval(self, event: Event) -> None:
        data = event.data
        self.counting = "sent" in data
        for name in ("sent", "succeeded", "failed", "cancelled"):
            setattr(self, name, getattr(self, name) + int(data.get(name, 0)))
        self.in_flight = int(data.get("in_flight", 0))
        for name, n in data.get("errors", {}).items():
            self.errors[name] = self.errors.get(name, 0) + n
        self.ttft_ms = data.get("ttft_ms_p50", self.ttft_ms)
        self.lag_ms = max(float(data.get("loop_lag_ms_max") or 0), float(data.get("schedule_delay_ms_max") or 0))
        self._some_done = self._some_done or bool(data.get("succeeded"))
        seconds = (data.get("end", 0) - data.get("start", 0)) / 1e9
        self._recent.append((seconds, int(data.get("succeeded", 0)), int(data.get("output_tokens", 0) or 0)))

    @property
    def request_rate(self) -> float | None:
        """Completions per second over the last intervals; None until a request of the stage has succeeded."""
        return self._rate(1)

    @property
    def token_rate(self) -> float | None:
        """Output tokens per second over the last intervals; None until a request of the stage has succeeded."""
        return self._rate(2)

    def _rate(self, column: int) -> float | None:
        seconds = sum(row[0] for row in self._recent)
        return sum(row[column] for row in self._recent) / seconds if self._some_done and seconds > 0 else None

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return 0.0 if self._load_started is None else self._now() - self._load_started

    @property
    def fraction(self) -> float | None:
        """How much of the load is done: of the whole plan where it is known, else of this stage; None where neither."""
        if self._seconds and self._load_started is not None:
            return min(1.0, self.elapsed / self._seconds)
        if self._stage_seconds and self._stage_started is not None:
            return min(1.0, (self._now() - self._stage_started) / self._stage_seconds)
        return None

    @property
    def remaining(self) -> float | None:
        """Seconds left of what ``fraction`` is about."""
        if self._seconds and self._load_started is not None:
            return max(0.0, self._seconds - self.elapsed)
        if self._stage_seconds and self._stage_started is not None:
            return max(0.0, self._stage_seconds - (self._now() - self._stage_started))
        return None

    def stage_text(self) -> str:
        """``2/5``, or ``2`` where the number of stages is not known."""
        number = max(self.stage, 0) + 1
        return f"{number}/{self.stages}" if self.stages else str(number)

    def progress_text(self) -> str:
        """``35 s elapsed, 25 s left``."""
        left = self.remaining
        scope = "" if self._seconds else " of this stage"
        return f"{duration(round(self.elapsed))} elapsed" + (
            "" if left is None else f", {duration(round(left))} left{scope}"
        )
