"""One stage in virtual time: releases sessions when they are due, and accounts for every request it released.

The rules are those of the native engine's ``StageLoad``; a request leaves at the moment it is ready.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...config.load import LoadConfig
from ...domain.errors import BenchmarkError
from ...domain.records import ErrorClass, Status
from ...domain.schedule import Session, Stage
from ...simulator.api import FloatArray
from ...simulator.cluster import Cluster, Exchange, Reply
from ...simulator.virtual import Timer
from .prompts import Dialogue
from .recorder import Recorder, Row

_NOTHING: FloatArray = np.empty(0)


class Active:
    """A session under way, with the request that is out."""

    __slots__ = (
        "ask", "attempts", "dialogue", "exchange", "limit", "pending", "ready", "scheduled", "sent", "session", "timer",
        "turn",
    )  # fmt: skip

    def __init__(self, session: Session, dialogue: Dialogue) -> None:
        self.session = session
        self.dialogue = dialogue
        self.turn = 0
        self.ask = dialogue.ask(0)
        self.attempts = 0
        self.scheduled: float | None = None
        self.ready = self.sent = 0.0
        self.exchange: Exchange | None = None
        self.pending = False  # a request is out, or waits for its next attempt
        self.limit: list[Active | None] = []  # holds it for as long as the limit of its first token matters
        self.timer: Timer | None = None  # of the total limit, a retry, or the time to think


class Counts:
    """What happened since the last tick."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended: Counter[Status] = Counter()
        self.errors: Counter[str] = Counter()
        self.output_tokens = 0
        self.ttft: list[float] = []


class VirtualStage:
    """Runs a stage's sessions from ``start`` (the loop's now) until all are accounted for."""

    def __init__(
        self,
        stage: Stage,
        sessions: Iterator[Session],
        cluster: Cluster,
        recorder: Recorder,
        config: LoadConfig,
        drain_s: float,
    ) -> None:
        self.counts = Counts()
        self.active: set[Active] = set()
        self.start = cluster.loop.now
        self.done = False
        self.reason = ""
        self.failure: BenchmarkError | None = None  # of the workload
        self.load_end = 0.0
        self.end = 0.0
        self.last_end: float | None = None
        self._stage = stage
        self._sessions = sessions
        self._next = next(sessions, None)
        self._cluster = cluster
        self._loop = cluster.loop
        self._recorder = recorder
        self._params: Mapping[str, Any] = config.parameters
        self._timeouts, self._retries = config.timeouts, config.retries
        self._drain_s = drain_s
        self._free: deque[float] | None = None if stage.load.concurrency is None else deque()
        self._releasing = True
        self._to_follow = 0  # active sessions with turns still to send
        self._timers: list[Timer] = []
        # All attempts have the same first limit, so they reach it in the order in which they were made.
        self._first_limit = min(self._timeouts.total, self._timeouts.first_token if stage.streaming else float("inf"))
        self._limits: deque[tuple[float, list[Active | None]]] = deque()
        self._limiting: Timer | None = None
        self._pumping: Timer | None = None

    def begin(self) -> None:
        """Start the load."""
        stage, load = self._stage, self._stage.load
        if self._free is not None:
            count = load.concurrency or 0
            ramp = 0.0 if load.open_loop else load.ramp_s
            for k in range(count):
                at = self.start + ramp * k / count
                if ramp and k:
                    self._later(at, self._place)
                else:
                    self._free.append(at)
        if stage.load_s is not None:
            self._later(self.start + stage.load_s, self._end_load, "duration")
        self._pump()

    def stop(self) -> None:
        """Release nothing more and cancel what is in flight."""
        self._end_load("interrupted")
        self._cancel_all()

    # release

    def _later(self, at: float, call: Any, *args: object) -> None:
        self._timers.append(self._loop.at(at, call, *args))

    def _place(self) -> None:
        assert self._free is not None
        self._free.append(self._loop.now)
        self._pump()

    def _pump(self) -> None:
        """Release every session that is due."""
        free, limit = self._free, self._stage.load_s
        while self._releasing and (session := self._next) is not None:
            offset = session.offset_s
            if offset is not None:
                if limit is not None and offset >= limit:
                    return  # the rest lies behind the end of the load, which has a timer of its own
                if self.start + offset > self._loop.now:
                    self._wait(self.start + offset)
                    return
            if free is not None and not free:
                return
            self._next = self._draw()
            self._release(session, free.popleft() if free else self.start)
        self._check_exhausted()

    def _draw(self) -> Session | None:
        """The next session. A workload that fails has no more, and all that was sent is still accounted for."""
        try:
            return next(self._sessions, None)
        except BenchmarkError as error:
            self.failure = error
            return None

    def _wait(self, at: float) -> None:
        if self._pumping is None or self._pumping[3] is None or self._pumping[0] <= self._loop.now:
            self._pumping = self._loop.at(at, self._pump)

    def _check_exhausted(self) -> None:
        """The load of a schedule that has run out ends when the last turn of its sessions was sent."""
        if self._releasing and self._next is None and not self._to_follow:
            self._end_load("interrupted" if self.failure else "exhausted")

    def _release(self, session: Session, free_since: float) -> None:
        active = Active(session, Dialogue(session, self._stage, self._params, self._cluster.reader))
        if session.offset_s is not None:
            active.scheduled = self.start + session.offset_s
        self.active.add(active)
        self._to_follow += len(session.turns) > 1
        self._send(active, max(active.scheduled or 0.0, free_since))

    def _send(self, active: Active, ready: float) -> None:
        active.ready, active.sent, active.attempts, active.pending = ready, self._loop.now, 0, True
        self.counts.sent += 1
        self._attempt(active)
        if active.turn and active.turn + 1 == len(active.session.turns):
            self._to_follow -= 1
            self._check_exhausted()

    def _attempt(self, active: Active) -> None:
        active.attempts += 1
        active.exchange = self._cluster.send(active.ask, partial(self._answered, active))
        deadline = active.sent + self._timeouts.total
        if self._loop.now + self._first_limit > deadline:  # of a retry, whose wait is a part of the whole
            active.timer = self._loop.at(deadline, self._limit, active)
            return
        active.limit = [active]
        self._limits.append((self._loop.now + self._first_limit, active.limit))
        if self._limiting is None:
            self._limiting = self._loop.at(self._loop.now + self._first_limit, self._first_limits)

    # ends of requests

    def _first_limits(self) -> None:
        """The limit of the oldest attempt that was under way has passed."""
        limits, self._limiting = self._limits, None
        while limits and (limits[0][0] <= self._loop.now or limits[0][1][0] is None):
            active = limits.popleft()[1][0]
            if active is not None:
                self._limit(active)
        if limits:
            self._limiting = self._loop.at(limits[0][0], self._first_limits)

    def _limit(self, active: Active) -> None:
        """A time limit has passed."""
        deadline, exchange = active.sent + self._timeouts.total, active.exchange
        if self._loop.now >= deadline:
            self._give_up(active, ErrorClass.TIMEOUT_TOTAL, f"no end within {self._timeouts.total:g} s")
        elif exchange is None or self._cluster.first_token(exchange):
            active.timer = self._loop.at(deadline, self._limit, active)
        else:
            limit = self._timeouts.first_token
            self._give_up(active, ErrorClass.TIMEOUT_FIRST_TOKEN, f"no content within {limit:g} s")

    def _give_up(self, active: Active, error: ErrorClass, message: str) -> None:
        times = _NOTHING if active.exchange is None else self._cluster.cancel(active.exchange)
        self._failed(active, error, message, 200, times)

    def _answered(self, active: Active, reply: Reply) -> None:
        if not active.pending:
            return  # a refusal that came after the request was given up
        if reply.status == 200 and not reply.cut:
            self._ok(active, reply)
        elif reply.cut:
            message = "connection closed before the end of the response"
            self._failed(active, ErrorClass.TRUNCATED, message, 200, reply.times)
        else:
            error = _class_of(reply.status)
            self._failed(active, error, f"HTTP {reply.status}", reply.status, _NOTHING, reply.retry_after)

    def _ok(self, active: Active, reply: Reply) -> None:
        tokens = len(reply.times)
        self.counts.output_tokens += tokens
        if self._stage.streaming:
            self.counts.ttft.append(float(reply.times[0]) - active.sent)
        self._record(active, Status.OK, reply.times, reply=reply)
        if active.turn + 1 == len(active.session.turns) or not self._releasing:
            self._close(active)
            return
        active.dialogue.answered(active.turn, tokens)
        active.turn += 1
        active.ask = active.dialogue.ask(active.turn)
        ready = self._loop.now + active.session.turns[active.turn].think_s
        active.scheduled = None
        if ready > self._loop.now:
            active.timer = self._loop.at(ready, self._send, active, ready)
        else:
            self._send(active, ready)

    def _failed(
        self,
        active: Active,
        error: ErrorClass,
        message: str,
        http_status: int,
        times: FloatArray,
        retry_after: float | None = None,
    ) -> None:
        if active.attempts <= self._retries.max and str(error) in self._retries.on:
            wait = self._retries.backoff * 2 ** (active.attempts - 1) if retry_after is None else retry_after
            if (again := self._loop.now + wait) < active.sent + self._timeouts.total:
                self._clear(active)
                active.pending = True
                active.timer = self._loop.at(again, self._attempt, active)
                return
        self.counts.errors[str(error)] += 1
        self._record(active, Status.FAILED, times, error=error, message=message, http_status=http_status)
        self._close(active)

    def _cancel(self, active: Active) -> None:
        times = _NOTHING if active.exchange is None else self._cluster.cancel(active.exchange)
        self._record(active, Status.CANCELLED, times)

    def _clear(self, active: Active) -> None:
        if active.limit:
            active.limit[0] = None
        if active.timer is not None:
            self._loop.cancel(active.timer)
        active.timer, active.exchange, active.pending = None, None, False

    def _record(
        self,
        active: Active,
        status: Status,
        times: FloatArray,
        *,
        reply: Reply | None = None,
        error: ErrorClass | None = None,
        message: str | None = None,
        http_status: int = 200,
    ) -> None:
        self._clear(active)
        self.counts.ended[status] += 1
        self.last_end = self._loop.now
        session, said, streaming = active.session, active.session.turns[active.turn], self._stage.streaming
        self._recorder.add(
            Row(
                request_id=session.first_request_id + active.turn,
                stage=self._stage.index,
                model=session.model,
                session=session.session_id,
                turn=active.turn,
                scheduled=active.scheduled,
                ready=active.ready,
                sent=active.sent,
                end=self._loop.now,
                chunks=times if streaming else _NOTHING,
                input_tokens=None if reply is None else len(active.ask.prompt),
                input_asked=said.input_asked,
                output_tokens=None if reply is None else len(times),
                output_asked=said.output_asked,
                cached_tokens=None if reply is None else reply.cached_tokens,
                finish_reason=None if reply is None else reply.reason,
                streaming=streaming,
                status=str(status),
                error_class=None if error is None else str(error),
                error=message,
                http_status=http_status,
                attempts=active.attempts,
            )
        )

    def _close(self, active: Active) -> None:
        self.active.discard(active)
        if active.turn + 1 < len(active.session.turns):
            self._to_follow -= 1
        if self._free is not None:
            self._free.append(self._loop.now)
        if self._releasing:
            self._pump()
        self._check_done()

    # end of the stage

    def _end_load(self, reason: str) -> None:
        if not self._releasing:
            return
        self._releasing = False
        self.reason, self.load_end = reason, self._loop.now
        for active in [a for a in self.active if not a.pending]:  # they are thinking
            self._clear(active)
            self.active.discard(active)
        self._later(self._loop.now + self._drain_s, self._cancel_all)
        self._check_done()

    def _cancel_all(self) -> None:
        for active in sorted(self.active, key=lambda a: a.session.session_id):
            self._cancel(active)
        self.active.clear()
        self._check_done()

    def _check_done(self) -> None:
        if self._releasing or self.active or self.done:
            return
        self.done, self.end = True, self._loop.now
        for timer in (*self._timers, self._pumping, self._limiting):
            if timer is not None:
                self._loop.cancel(timer)
        self._loop.pause()


def _class_of(status: int) -> ErrorClass:
    if status == 429:
        return ErrorClass.HTTP_429
    return ErrorClass.HTTP_4XX if status < 500 else ErrorClass.HTTP_5XX
