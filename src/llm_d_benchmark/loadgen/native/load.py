"""One stage in one worker: releases sessions when they are due, and accounts for every request it released."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator

from ...domain.records import ErrorClass, Status
from ...domain.schedule import Message
from ...domain.timer import PreciseTimer
from .body import body, envelope, messages_of, text_of
from .connection import monotonic_ns
from .decode import Decoded
from .exchange import Exchange, Outcome
from .pool import Pool
from .recorder import Recorder
from .wire import Feed, Item, More, StageDone, StageOrder, WorkerSetup

_SLACK_NS = 20_000  # released this much early rather than arming a timer for it
_AHEAD = 2048  # sessions kept in store
_AHEAD_BYTES = 2**23
PAUSE_S = 0.05
"""A place whose connection was refused is free again after this: a server that is gone must not busy the client."""
_NOT_CONNECTED = (ErrorClass.CONNECT, ErrorClass.TLS)
_BURST = 64  # sessions released in one turn of the loop, so that answers are still read when the schedule is late
_DECODE_NS = 300_000  # decoding in one turn of the loop


class Session:
    """A session under way."""

    __slots__ = ("exchange", "history", "item", "text", "token", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.turn = 0
        self.history: list[Message] = []
        self.text = ""
        self.token: bytes | None = None  # by which the router knows the replica of the turn before
        self.exchange: Exchange | None = None


class Counts:
    """What happened since the last tick."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended: Counter[Status] = Counter()
        self.errors: Counter[str] = Counter()
        self.output_tokens = 0
        self.chunks_decoded = 0
        self.ttft_ns: list[int] = []
        self.delay_ns_max = 0


class StageLoad:
    """Runs a stage's sessions. ``report`` takes More and, once at the end, StageDone; ``tokens`` counts a text's tokens
    where the server does not."""

    def __init__(
        self,
        order: StageOrder,
        setup: WorkerSetup,
        pool: Pool,
        recorder: Recorder,
        heads: dict[str, bytes],
        report: Callable[[More | StageDone], None],
        tokens: Callable[[str], int] | None = None,
    ) -> None:
        self.order = order
        self.counts = Counts()
        self.active: set[Session] = set()
        self._setup = setup
        self._pool = pool
        self._recorder = recorder
        self._head = heads[order.stage.endpoint]
        self._report = report
        self._tokens = tokens
        self._loop = pool.loop
        self._feed: deque[Item] = deque()
        self._feed_bytes = 0
        self._exhausted = False
        self._asked = False
        # Free places of a closed loop or a capped open one: since when each is free. None: no cap.
        self._free: deque[int] | None = None if order.stage.load.concurrency is None else deque()
        self._start = 0
        self._ordered = False  # Go has come
        self._begun = False  # the start has come: nothing is released before it
        self._releasing = True
        self._follow_up = True
        self._reason = ""
        self._load_end = 0
        self._last_end: int | None = None
        self._timer = PreciseTimer(self._loop, self._due)
        self._handles: list[asyncio.TimerHandle] = []
        self._thinking: dict[Session, asyncio.TimerHandle] = {}
        self._finished: deque[Exchange] = deque()
        self._decoding: Iterator[Decoded] | None = None  # of the first of the finished
        self._decoded = Decoded()
        self._done = False
        self._to_follow = 0  # active sessions with turns still to send

    # orders

    def feed(self, feed: Feed) -> None:
        self._feed.extend(feed.items)
        self._feed_bytes += sum(len(item.request) for item in feed.items)
        self._exhausted = self._exhausted or feed.last
        self._asked = False
        if self._ordered:
            self._ask()
            self._pump()

    def _ask(self) -> None:
        """Ask for the next block while there is less in store than a fast server takes in a good part of a second."""
        few = len(self._feed) < _AHEAD and self._feed_bytes < _AHEAD_BYTES
        if few and not self._exhausted and not self._asked:
            self._asked = True
            self._report(More())

    def go(self, start: int) -> None:
        """Start the load at monotonic ``start``."""
        stage = self.order.stage
        self._start = start
        self._ordered = True
        self._ask()
        if self._free is not None:
            ramp = 0 if stage.load.open_loop else int(stage.load.ramp_s * 1e9)
            users = stage.load.concurrency or 0
            for k in self.order.shard.users(users):  # of all workers and machines: they start in turn
                at = start + ramp * k // users
                if ramp and k:
                    self._later(at, self._place, at)
                else:
                    self._free.append(at)
        if stage.load_s is not None:
            self._later(start + int(stage.load_s * 1e9), self._end_load, "duration")
        self._timer.set(start)

    def stop(self) -> None:
        """Release nothing more and cancel what is in flight."""
        self._end_load("interrupted")
        self._cancel_all()

    # release

    def _later(self, at: int, call: Callable[..., None], *args: object) -> None:
        self._handles.append(self._loop.call_later(max(0.0, (at - monotonic_ns()) / 1e9), call, *args))

    def _place(self, at: int) -> None:
        assert self._free is not None
        self._free.append(at)
        self._pump()

    def _due(self) -> None:
        """The timer's: first at the start, then whenever a session is due."""
        self._begun = True
        self._pump()

    def _pump(self) -> None:
        """Release every session that is due."""
        if not self._begun:
            return
        feed, free = self._feed, self._free
        limit = None if self.order.stage.load_s is None else int(self.order.stage.load_s * 1e9)
        released = 0
        while self._releasing and feed:
            offset = feed[0].offset_ns
            if offset is not None:
                if limit is not None and offset >= limit:
                    return  # the rest lies behind the end of the load, which has a timer of its own
                if self._start + offset > monotonic_ns() + _SLACK_NS:
                    self._timer.set(self._start + offset)
                    return
            if free is not None and not free:
                return
            if released == _BURST:
                self._loop.call_soon(self._pump)
                return
            released += 1
            self._release(feed.popleft(), offset, free.popleft() if free else 0)
        self._check_exhausted()

    def _check_exhausted(self) -> None:
        """The load of a schedule that has run out ends when the last turn of its sessions was sent."""
        if self._releasing and not self._feed and self._exhausted and not self._to_follow:
            self._end_load("exhausted")

    def _release(self, item: Item, offset: int | None, free_since: int) -> None:
        self._feed_bytes -= len(item.request)
        self._ask()
        scheduled = None if offset is None else self._start + offset
        session = Session(item)
        self.active.add(session)
        self._to_follow += len(item.turns) > 1
        self._send(session, item.request, scheduled, max(scheduled or 0, free_since))

    def _send(self, session: Session, request: bytes, scheduled: int | None, ready: int) -> None:
        exchange = Exchange(
            session,
            session.item.request_id + session.turn,
            session.turn,
            request,
            scheduled=scheduled,
            ready=ready,
            streaming=self.order.stage.streaming,
            pool=self._pool,
            limits=self._setup.limits,
            done=self._ended,
        )
        session.exchange = exchange
        self.counts.sent += 1
        exchange.start()
        if session.turn and session.turn + 1 == len(session.item.turns):
            self._to_follow -= 1
            self._check_exhausted()

    # ends

    def _ended(self, exchange: Exchange) -> None:
        """An exchange is over: its place goes to the next session before anything is decoded."""
        session = exchange.session
        assert isinstance(session, Session)
        session.exchange = None
        self._last_end = exchange.end
        if session.turn + 1 < len(session.item.turns) and exchange.outcome is Outcome.COMPLETE and self._follow_up:
            self._next_turn(session, exchange)
            return
        self._finished.append(exchange)
        if len(self._finished) == 1:
            self._loop.call_soon(self._decode_some)
        self._close(session, exchange.end, PAUSE_S if exchange.error in _NOT_CONNECTED else 0.0)

    def _close(self, session: Session, at: int, pause_s: float = 0.0) -> None:
        self.active.discard(session)
        if session.turn + 1 < len(session.item.turns):
            self._to_follow -= 1
        if self._free is not None:
            if pause_s:
                self._loop.call_later(pause_s, self._place, at + int(pause_s * 1e9))
            else:
                self._free.append(at)
        if self._releasing:
            self._pump()
        self._check_done()

    def _next_turn(self, session: Session, exchange: Exchange) -> None:
        decoded = exchange.decode(keep_text=True)
        status = self._record(exchange, decoded)
        if status is not Status.OK:
            self._close(session, exchange.end)
            return
        item, endpoint = session.item, self.order.stage.endpoint
        said = item.turns[session.turn]
        if endpoint == "chat":
            session.history += [*messages_of(said.prompt), {"role": "assistant", "content": decoded.text}]
        else:
            text = text_of(said.prompt)
            session.text += (text if isinstance(text, str) else "") + decoded.text
        session.token = exchange.session_token or session.token
        session.turn += 1
        turn = item.turns[session.turn]
        request = envelope(
            self._head,
            body(
                turn,
                model=item.model,
                endpoint=endpoint,
                streaming=self.order.stage.streaming,
                params=self._setup.params,
                history=session.history,
                history_text=session.text,
            ),
            item.session,
            session.token,
        )
        ready = exchange.end + int(turn.think_s * 1e9)
        if turn.think_s <= 0:
            self._send(session, request, None, ready)
            return
        wait = max(0.0, (ready - monotonic_ns()) / 1e9)
        self._thinking[session] = self._loop.call_later(wait, self._thought, session, request, ready)

    def _thought(self, session: Session, request: bytes, ready: int) -> None:
        del self._thinking[session]
        self._send(session, request, None, ready)

    def _end_load(self, reason: str) -> None:
        if not self._releasing:
            return
        self._releasing = False
        self._reason = reason
        self._load_end = monotonic_ns()
        self._follow_up = False
        for session, handle in self._thinking.items():
            handle.cancel()
            self.active.discard(session)
        self._thinking.clear()
        self._handles.append(self._loop.call_later(self.order.drain_s, self._cancel_all))
        self._check_done()

    def _cancel_all(self) -> None:
        self._follow_up = False
        for session in list(self.active):
            if session.exchange is not None:
                session.exchange.cancel()
            elif (handle := self._thinking.pop(session, None)) is not None:
                handle.cancel()
                self.active.discard(session)
        self._check_done()

    def _check_done(self) -> None:
        if self._releasing or self.active or self._finished or self._done:
            return
        self._done = True
        self._timer.close()
        for handle in self._handles:
            handle.cancel()
        self._report(StageDone(self._load_end, monotonic_ns(), self._last_end, self._reason))

    # decoding, when there is time for it

    def _decode_some(self) -> None:
        # more the more is waiting: on a loop that is busy throughout, what is waiting would otherwise only grow
        until = monotonic_ns() + _DECODE_NS * (1 + len(self._finished) // 32)
        while self._finished:
            exchange = self._finished[0]
            if self._decoding is None:
                self._decoding = exchange.decoding(keep_text=False)
            for self._decoded in self._decoding:  # noqa: B020 - kept over turns of the loop
                if monotonic_ns() > until:
                    self._loop.call_soon(self._decode_some)
                    return
            self._decoding = None
            self._finished.popleft()
            self._record(exchange, self._decoded)
        self._check_done()

    def _record(self, exchange: Exchange, decoded: Decoded) -> Status:
        session = exchange.session
        assert isinstance(session, Session)
        exchange.session = None
        item = session.item
        first = exchange.turn == 0
        turn = None if first and not item.turns else item.turns[exchange.turn]
        asked = (item.input_asked, item.output_asked) if turn is None else (turn.input_asked, turn.output_asked)
        status, error, output = self._recorder.add(
            exchange,
            decoded,
            stage=self.order.stage.index,
            model=item.model,
            session=item.session,
            asked=asked,
            counted=self._counted(exchange, decoded),
        )
        self._count(exchange, decoded, status, error, output)
        return status

    def _counted(self, exchange: Exchange, decoded: Decoded) -> int | None:
        """Output tokens of an answer whose server sent no usage, where there is a tokenizer to count its text with."""
        if self._tokens is None or decoded.output_tokens is not None or exchange.outcome is not Outcome.COMPLETE:
            return None
        said = exchange.decode(keep_text=True)
        if said.error is not None or said.calls_tools:
            return None  # of a tool call the server sends what it understood, not what the model wrote
        return self._tokens(said.reasoning) * bool(said.reasoning) + self._tokens(said.text)

    def _count(
        self, exchange: Exchange, decoded: Decoded, status: Status, error: ErrorClass | None, output: int | None
    ) -> None:
        counts = self.counts
        counts.ended[status] += 1
        counts.chunks_decoded += len(decoded.chunks)
        if error is not None:
            counts.errors[str(error)] += 1
        if status is Status.OK:
            counts.output_tokens += output or 0
            if decoded.chunks and exchange.sent is not None:
                counts.ttft_ns.append(decoded.chunks[0] - exchange.sent)
        if exchange.sent is not None:
            counts.delay_ns_max = max(counts.delay_ns_max, exchange.sent - exchange.ready)
