"""One request on its way: attempts, time limits, and what becomes of it."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from ...domain.records import ErrorClass
from .connection import Body, Connection, Pieces, monotonic_ns
from .decode import Decoded, decode_body, decode_slices, inflate
from .pool import ConnectError, Pool
from .wire import Limits

IDLE_CLOSE_NS = 50_000_000
"""How long after a request was written its connection may end, beside the network's time, and still have been closed as
an idle one: a busy server closes late what it decided before, and a busy client sees it late."""


class Outcome(Enum):
    PENDING = auto()
    COMPLETE = auto()
    FAILED = auto()
    CANCELLED = auto()


class Exchange:
    """One request from being free to go until it is complete, failed or cancelled; then ``done(self)`` is called.

    ``decode`` turns what was kept into tokens and times; the owner calls it when there is time for it.
    """

    __slots__ = (
        "_connection", "_done", "_limits", "_pool", "_retry", "_timer", "_written", "attempts", "body", "connect",
        "encoding", "end", "error", "http_status", "message", "outcome", "ready", "request", "request_id", "scheduled",
        "sent", "session", "session_token", "streaming", "turn",
    )  # fmt: skip

    def __init__(
        self,
        session: object,
        request_id: int,
        turn: int,
        request: bytes,
        *,
        scheduled: int | None,
        ready: int,
        streaming: bool,
        pool: Pool,
        limits: Limits,
        done: Callable[[Exchange], None],
    ) -> None:
        self.session = session
        self.request_id = request_id
        self.turn = turn
        self.request = request
        self.scheduled = scheduled
        self.ready = ready
        self.streaming = streaming
        self.sent: int | None = None
        self.connect: int | None = None
        self.end = 0
        self.body: Body = Pieces()
        self.attempts = 0
        self.http_status: int | None = None
        self.encoding = ""
        self.session_token: bytes | None = None
        self.outcome = Outcome.PENDING
        self.error: ErrorClass | None = None
        self.message: str | None = None
        self._pool = pool
        self._limits = limits
        self._done = done
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._written = 0

    def start(self) -> None:
        """Send the request, on an idle connection where there is one."""
        self.attempts += 1
        connection = self._pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._pool.connect(self._connected, self._not_connected)

    def _connected(self, connection: Connection, took: int) -> None:
        if self.outcome is not Outcome.PENDING:
            self._pool.give(connection)
            return
        self.connect = took if self.connect is None else self.connect
        if self.sent is None:
            self.ready += took  # the server's and the network's time, not the client's own delay
        self._send(connection)

    def _not_connected(self, error: ConnectError) -> None:
        if self.outcome is Outcome.PENDING:
            if self.sent is None:
                self.sent = error.began
            self._fail(error.error_class, error.message)

    def _send(self, connection: Connection) -> None:
        self._connection = connection
        sent = self._written = connection.send(self, self.request)
        self.body = connection.body
        if self.sent is None:
            self.sent = sent
        limits, left = self._limits, self._limits.total - (sent - self.sent) / 1e9
        if self.streaming and limits.first_token < left:
            self._timer = self._pool.loop.call_later(limits.first_token, self._first_token_limit)
        else:
            self._timer = self._pool.loop.call_later(left, self._total_limit)

    # time limits

    def _left(self) -> float:
        """Seconds of the total limit that are left."""
        assert self.sent is not None
        return self._limits.total - (monotonic_ns() - self.sent) / 1e9

    def _first_token_limit(self) -> None:
        if self._over():
            return
        if self._has_content():
            self._timer = self._pool.loop.call_later(max(0.0, self._left()), self._total_limit)
        else:
            self._abort(ErrorClass.TIMEOUT_FIRST_TOKEN, f"no content within {self._limits.first_token:g} s")

    def _total_limit(self) -> None:
        if not self._over():
            self._abort(ErrorClass.TIMEOUT_TOTAL, f"no end within {self._limits.total:g} s")

    def _over(self) -> bool:
        """Whether what has arrived by now was the end of the attempt."""
        connection = self._connection
        if connection is not None:
            connection.look()
        return self._connection is not connection

    def _has_content(self) -> bool:
        if self._connection is not None:
            self.http_status, self.encoding = self._connection.status or None, self._connection.encoding
        return bool(self.decode(keep_text=False).chunks)

    def _abort(self, error: ErrorClass, message: str) -> None:
        self._drop()
        self._fail(error, message)

    def _drop(self) -> None:
        """Give the connection up, but keep what it says of the pieces that came."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.http_status = connection.status or None
            self.encoding = connection.encoding
            connection.close()

    def cancel(self) -> None:
        """End it now; what arrived so far is kept."""
        if self._connection is not None:
            self._connection.look()
        if self.outcome is Outcome.PENDING:
            self._drop()
            if self.sent is None:
                self.sent = monotonic_ns()
            self._finish(Outcome.CANCELLED)

    # Receiver

    def complete(self, connection: Connection) -> None:
        self._connection = None
        self.http_status = connection.status
        self.encoding = connection.encoding
        self.session_token = connection.session_token
        after = connection.retry_after
        if connection.keep_alive:
            self._pool.give(connection)
        else:
            connection.close()
        status = connection.status
        if status == 200:
            self._finish(Outcome.COMPLETE, connection.now)
        elif 300 <= status < 400:
            self._fail(ErrorClass.REDIRECT, f"HTTP {status}: redirects are refused, give the final URL")
        else:
            self._fail(_class_of(status), f"HTTP {status}", after)

    def broken(self, connection: Connection, reason: str, clean: bool) -> None:
        self._connection = None
        self.http_status = connection.status or self.http_status
        self.encoding = connection.encoding
        if not connection.started and self._crossed(connection):
            # The server closed an idle connection while the request was under way: it never saw it. Sending it once
            # more on a new connection is what every HTTP client does, and no retry.
            self._cancel_timer()
            self._pool.connect(self._connected, self._not_connected)
        elif not connection.started:
            self._fail(ErrorClass.CONNECT if not clean else ErrorClass.TRUNCATED, f"{reason} before any response")
        elif reason.startswith("not HTTP"):
            self._fail(ErrorClass.PROTOCOL, reason)
        else:
            self._fail(ErrorClass.TRUNCATED, f"{reason} before the end of the response")

    def _crossed(self, connection: Connection) -> bool:
        """Whether the end of a connection that had been idle may have been on its way before the request came.

        It is then seen within one round trip of the request, or a little later. What ends after that ends with a
        request that the server may have worked on: sent again, its failure and the work would be hidden.
        """
        return connection.reused and connection.now - self._written <= IDLE_CLOSE_NS + self._pool.round_trip

    # ends

    def _fail(self, error: ErrorClass, message: str, retry_after: str | None = None) -> None:
        if self.attempts <= self._limits.retries and error in self._limits.retry_on:
            wait = self._limits.backoff * 2 ** (self.attempts - 1)
            asked = None if retry_after is None else _seconds(retry_after)
            if asked is not None:
                wait = asked
            if wait < self._left():
                self._cancel_timer()
                self.body = Pieces()
                self._retry = self._pool.loop.call_later(wait, self.start)
                return
        self.error, self.message = error, message
        self._finish(Outcome.FAILED)

    def _finish(self, outcome: Outcome, end: int | None = None) -> None:
        self.end = monotonic_ns() if end is None else end
        self.outcome = outcome
        self._cancel_timer()
        if self._retry is not None:
            self._retry.cancel()
        self._done(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def decode(self, keep_text: bool) -> Decoded:
        """What the response said; of a failed or cancelled one, what had arrived."""
        *_, decoded = self.decoding(keep_text)
        return decoded

    def decoding(self, keep_text: bool) -> Iterator[Decoded]:
        """``decode`` in slices: the same object after each, whole at the end. Yields at least once."""
        if self.streaming and self.outcome is Outcome.COMPLETE and not keep_text and not self.encoding:
            decoded = self.body.decode()
            if decoded is not None:
                yield decoded
                return
        pieces, stamps = self.body.pieces()
        if self.encoding in ("gzip", "deflate", "x-gzip"):
            try:
                pieces = inflate(pieces, self.encoding.removeprefix("x-"))
            except zlib.error:
                yield Decoded(error=ErrorClass.PROTOCOL, message=f"the body is not {self.encoding}")
                return
        elif self.encoding not in ("", "identity"):
            yield Decoded(error=ErrorClass.PROTOCOL, message="a content encoding that was not asked for")
            return
        if self.outcome is not Outcome.COMPLETE and self.http_status != 200:
            yield Decoded()
        elif self.streaming:
            yield from decode_slices(pieces, stamps, keep_text=keep_text)
        elif self.outcome is Outcome.COMPLETE:
            yield decode_body(b"".join(pieces), keep_text=keep_text)
        else:
            yield Decoded()


def _seconds(retry_after: str) -> float | None:
    """How long a Retry-After asks to wait, in its form of seconds or of a date; None where it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _class_of(status: int) -> ErrorClass:
    if status == 429:
        return ErrorClass.HTTP_429
    if 400 <= status < 500:
        return ErrorClass.HTTP_4XX
    return ErrorClass.HTTP_5XX if status >= 500 else ErrorClass.PROTOCOL
