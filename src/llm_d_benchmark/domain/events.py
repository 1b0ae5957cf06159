"""The one event stream of a run: the runner emits it; console, events.jsonl and every later observer subscribe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """Kinds of event, with the fields of ``data`` each carries."""

    RUN_START = "run_start"
    """run_id, argv, target, generators: [name]"""
    PHASE = "phase"
    """phase: setup | benchmark | analysis | cleanup; state: start | end | failed; seconds (at the end)"""
    GENERATOR_START = "generator_start"
    """generator (type), index (position in load_generators)"""
    STAGE_START = "stage_start"
    """stage (index), generator, and the stage as Stage.to_dict() says; start (epoch ns)"""
    STAGE_END = "stage_end"
    """stage, start, load_end (last request released), end (all answered or cut), window_start, window_end (epoch ns),
    reason: duration | requests | drained | interrupted | exhausted;
    of an external tool also ``told``, what it says of the stage itself (``NativeStage.told``): {reported: {figure:
    {value, unit}}, counts: {outcome: n}, records, version}; records is false where these figures are all there is;
    and ``known``, what makes the tool measure otherwise: {cause: text} (``Adapter.known``)"""
    INTERVAL = "interval"
    """stage, start, end (epoch ns, nominally 1 s), sent, succeeded, failed, cancelled, in_flight, chunks,
    output_tokens, ttft_ms_p50 (absent where nothing finished), errors: {class: n},
    loop_lag_ms_max, schedule_delay_ms_max"""
    CLIENT = "client"
    """worker, receiver (compiled or python: who takes the times), start, end (epoch ns), cpu (fraction of a core),
    loop_lag_ms: {p50, p99, max}, ticks (lag samples)"""
    FINDING = "finding"
    """code, severity: info | warning | error, message, advice"""
    ERROR = "error"
    """message, advice"""
    ALERT = "alert"
    """name, expression, value, state: firing | resolved"""
    LOG = "log"
    """source, line"""
    RUN_END = "run_end"
    """status: ok | invalid | partial | failed, exit_code"""


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, at ``time`` (epoch ns)."""

    type: EventType
    time: int
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"time": self.time, "type": str(self.type), **self.data}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Event:
        data = {k: v for k, v in value.items() if k not in ("time", "type")}
        return Event(EventType(value["type"]), int(value["time"]), data)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the user should know about a run or a configuration, with what to do about it."""

    code: str
    severity: Severity
    message: str
    advice: str | None = None

    def event(self, time: int) -> Event:
        return Event(EventType.FINDING, time, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        return {"code": self.code, "severity": str(self.severity), "message": self.message, "advice": self.advice}
