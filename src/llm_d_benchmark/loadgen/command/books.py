"""What is known of every request: handed out, sent, reported. Turns the generator's rows into records."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from ...domain.events import Event, EventType
from ...domain.records import Records, Status
from ...domain.schedule import Session, Stage, Turn
from .messages import LagInfo, Progress, Row, SentNote, StageEnd

_SLACK_NS = 1_000_000_000
"""Two readings of the wall clock may differ by milliseconds on a busy machine; a wrong unit is off by far more."""


@dataclass(slots=True)
class _Request:
    session: Session
    turn: int
    sent: int | None = None


@dataclass(slots=True)
class _Counts:
    """What happened since the last interval."""

    sent: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    output_tokens: int = 0
    ttft_ns: list[int] = field(default_factory=list)
    delay_ns: list[int] = field(default_factory=list)
    lag_us: float = 0.0


class Books:
    """The requests of one stage. Every one that was sent ends up in exactly one record.

    Methods that take something from the generator raise ValueError, with the reason, where it cannot be true.
    """

    def __init__(self, stage: Stage, shard: int) -> None:
        self._stage = stage
        self._shard = shard
        self._open: dict[int, _Request] = {}
        self._start = 0
        self._since = 0
        self._counts = _Counts()
        self.in_flight = 0
        self.active = 0.0  # monotonic seconds at which something was last sent or reported
        self.longest_think_s = 0.0
        self.last_end: int | None = None

    def begin(self, start: int) -> None:
        self._start = self._since = start
        self.active = time.monotonic()

    def handed_out(self, session: Session) -> None:
        for turn in range(len(session.turns)):
            self._open[session.first_request_id + turn] = _Request(session, turn)
            self.longest_think_s = max(self.longest_think_s, session.turns[turn].think_s)

    def sent(self, note: SentNote, now: int) -> None:
        """Requests that have left; ``now`` is the epoch time at which it said so."""
        if len(note.requests) != len(note.times):
            raise ValueError(f"sent: {len(note.requests)} requests, but {len(note.times)} times")
        for number, at in zip(note.requests, note.times, strict=True):
            request = self._known(number)
            if request.sent is not None:
                raise ValueError(f"sent: request {number} was sent before")
            with _about(number):
                self._check_time("sent", at, now)
            self._leaves(request, at)

    def ended(self, end: StageEnd, now: int) -> None:
        for name in ("load_end", "end"):
            self._check_time(name, getattr(end, name), now)

    def progress(self, progress: Progress) -> None:
        self._counts.chunks += progress.chunks
        if progress.lag is not None:
            self._counts.lag_us = max(self._counts.lag_us, progress.lag.max_us)

    def records(self, rows: Sequence[Row], now: int) -> Records:
        """The rows as records; ``now`` is the epoch time at which they came."""
        return Records.from_rows([self._reported(row, now) for row in rows])

    def abandoned(self, now: int, why: str) -> Records:
        """What was sent and never reported, as cancelled requests."""
        lost = [(number, r.sent) for number, r in self._open.items() if r.sent is not None]
        rows = [Row(number, "cancelled", sent, max(sent, now), error=why) for number, sent in lost]
        return Records.from_rows([self._closed(row, self._open.pop(row.request_id)) for row in rows])

    def interval(self, now: int) -> Event:
        """What happened since the last one."""
        counts, self._counts = self._counts, _Counts()
        data: dict[str, Any] = {
            "stage": self._stage.index,
            "start": self._since,
            "end": now,
            "sent": counts.sent,
            "succeeded": counts.ended[Status.OK],
            "failed": counts.ended[Status.FAILED],
            "cancelled": counts.ended[Status.CANCELLED],
            "in_flight": self.in_flight,
            "chunks": counts.chunks,
            "output_tokens": counts.output_tokens,
            "errors": dict(counts.errors),
            "loop_lag_ms_max": round(counts.lag_us / 1e3, 3),
            "schedule_delay_ms_max": round(max(counts.delay_ns, default=0) / 1e6, 3),
        }
        if counts.ttft_ns:
            data["ttft_ms_p50"] = round(float(np.median(counts.ttft_ns)) / 1e6, 3)
        self._since = now
        return Event(EventType.INTERVAL, now, data)

    def due_before(self, at: int) -> bool:
        """Whether a session that was handed out should have begun before this time."""
        first = (r for r in self._open.values() if r.sent is None and r.turn == 0)
        return any((self._scheduled(r.session, 0) or self._start) < at for r in first)

    def _known(self, number: int) -> _Request:
        request = self._open.get(number)
        if request is None:
            raise ValueError(f"request {number} is not one it was given in this stage, or was reported before")
        return request

    def _leaves(self, request: _Request, at: int) -> None:
        request.sent = at
        self.active = time.monotonic()
        self._counts.sent += 1
        self.in_flight += 1

    def _check_time(self, name: str, at: int, now: int) -> None:
        """Raises ValueError for a time that cannot be of this stage."""
        if not self._start:
            raise ValueError(f"'{name}' before the stage was started")
        if not min(self._start, now) - _SLACK_NS <= at <= now + _SLACK_NS:
            raise ValueError(f"'{name}' lies outside the stage; times are nanoseconds since 1970")

    def _reported(self, row: Row, now: int) -> dict[str, Any]:
        """The record of a row, and the end of the session where it is not ok: its later turns will not come."""
        request = self._known(row.request_id)
        with _about(row.request_id):
            self._check_time("sent", row.sent, now)
            _check(row, now + _SLACK_NS, self._stage.streaming)
        if request.sent is None:
            self._leaves(request, row.sent)
        del self._open[row.request_id]
        if row.status != "ok":
            session = request.session
            for number in range(row.request_id + 1, session.first_request_id + len(session.turns)):
                later = self._open.get(number)
                if later is not None and later.sent is None:
                    del self._open[number]
        return self._closed(row, request)

    def _closed(self, row: Row, request: _Request) -> dict[str, Any]:
        self.in_flight -= 1
        self.active = time.monotonic()
        session, turn = request.session, request.session.turns[request.turn]
        scheduled = self._scheduled(session, request.turn)
        ready = self._ready(row, scheduled)
        self._count(row, ready)
        return {
            **{name: getattr(row, name) for name in _ROW},
            "ready": ready,
            "stage": self._stage.index,
            "shard": self._shard,
            "model": session.model,
            "session": session.session_id,
            "turn": request.turn,
            "scheduled": scheduled,
            "streaming": self._stage.streaming,
            **_asked(turn),
        }

    def _scheduled(self, session: Session, turn: int) -> int | None:
        if session.offset_s is None or turn:
            return None
        return self._start + round(session.offset_s * 1e9)

    def _ready(self, row: Row, scheduled: int | None) -> int | None:
        """When it was free to go. Where only its schedule and its connection can have held it back the tool knows by
        itself, so that no generator can call its own lateness the server's."""
        if scheduled is None or self._stage.load.concurrency is not None:
            return row.ready
        ready = scheduled + (row.connect or 0)
        return min(ready, row.sent) if row.connect else ready

    def _count(self, row: Row, ready: int | None) -> None:
        counts = self._counts
        counts.ended[row.status] += 1
        self.last_end = row.end if self.last_end is None else max(self.last_end, row.end)
        if row.error_class is not None:
            counts.errors[row.error_class] += 1
        if ready is not None:
            counts.delay_ns.append(row.sent - ready)
        if row.status == "ok":
            counts.output_tokens += row.output_tokens or 0
            if row.first_token is not None:
                counts.ttft_ns.append(row.first_token - row.sent)


_ROW = tuple(f.name for f in msgspec.structs.fields(Row))


def _asked(turn: Turn) -> dict[str, int | None]:
    return {"input_asked": turn.input_asked, "output_asked": turn.output_asked}


@contextmanager
def _about(number: int) -> Iterator[None]:
    """Names the request in what is said against it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"request {number}: {error}") from None


def _check(row: Row, latest: int, streaming: bool) -> None:
    """Raises ValueError for a row that contradicts itself or its stage."""
    if row.end > latest:
        raise ValueError("'end' lies in the future; times are nanoseconds since 1970")
    if row.ready is not None and row.ready > row.sent:
        raise ValueError("'ready' is after 'sent'")
    if (row.first_token is None) != (row.last_token is None):
        raise ValueError("'first_token' and 'last_token' come together")
    times = [t for t in (row.sent, row.first_token, row.last_token, row.end) if t is not None]
    if times != sorted(times):
        raise ValueError("sent <= first_token <= last_token <= end does not hold")
    if row.chunk_times:
        _check_chunks(row)
    if row.chunk_tokens and len(row.chunk_tokens) != len(row.chunk_times):
        raise ValueError("'chunk_tokens' and 'chunk_times' differ in length")
    if (row.status == "failed") != (row.error_class is not None):
        raise ValueError("'error_class' belongs to a failed request, and to every one")
    if streaming and row.status == "ok" and row.first_token is None:
        raise ValueError("a streamed answer without content is failed, error_class no_content")
    if not streaming and (row.first_token is not None or row.chunk_times):
        raise ValueError("without streaming there are no token times")


def _check_chunks(row: Row) -> None:
    if row.chunk_times != sorted(row.chunk_times):
        raise ValueError("'chunk_times' are not in order")
    if row.first_token is None or row.last_token is None:
        raise ValueError("'chunk_times' without 'first_token'")
    for name, token, chunk in (("first", row.first_token, row.chunk_times[0]),
                               ("last", row.last_token, row.chunk_times[-1])):  # fmt: skip
        if abs(chunk * 1000 - (token - row.sent)) > 1_000_000:
            raise ValueError(f"'chunk_times' are microseconds after sent; the {name} one is not '{name}_token'")


def client_event(lag: LagInfo | None, start: int, end: int, cpu: float) -> Event:
    """The generator's own load over an interval; ``cpu`` as a share of the cores it can use."""
    data: dict[str, Any] = {"worker": "0", "start": start, "end": end, "cpu": round(cpu, 4)}
    if lag is not None:
        levels = {"p50": lag.p50_us, "p99": lag.p99_us, "max": lag.max_us}
        data["loop_lag_ms"] = {name: round(value / 1e3, 4) for name, value in levels.items()}
        data["ticks"] = lag.ticks
    return Event(EventType.CLIENT, end, data)
