"""One keep-alive HTTP/1.1 connection. ``data_received`` is the hot path: a clock, the parser, two appends."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import httptools

from .body import SESSION_TOKEN
from .decode import Decoded

monotonic_ns = time.monotonic_ns


class Body(Protocol):
    """What has arrived of one response."""

    def __len__(self) -> int:
        """Reads it took so far."""

    def pieces(self) -> tuple[list[bytes], list[int]]:
        """The body as it came, cut anywhere, and when each piece did (monotonic ns)."""

    def decode(self) -> Decoded | None:
        """A whole streamed body decoded, but for its text; None where it takes ``decode.py``."""


class Pieces:
    """A body as it is kept where Python reads it. Of no response: an empty one."""

    __slots__ = ("data", "stamps")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.stamps: list[int] = []

    def __len__(self) -> int:
        return len(self.stamps)

    def pieces(self) -> tuple[list[bytes], list[int]]:
        return self.data, self.stamps

    def decode(self) -> Decoded | None:
        return None


class Receiver(Protocol):
    """Who a connection tells of the one exchange it carries."""

    def complete(self, connection: Connection) -> None:
        """The response ended as HTTP says it should."""

    def broken(self, connection: Connection, reason: str, clean: bool) -> None:
        """The connection ended or the response is no HTTP. ``clean``: closed in order, not reset."""


class Connection(ABC):
    """A connection that carries one exchange at a time: what all of them know of a response.

    Attributes:
        body: what arrives of the response; a new one with every ``send``.
        now: when the last byte came, or the end of the connection was seen (monotonic ns).
    """

    __slots__ = (
        "_body_until_eof", "_idle_lost", "_parser", "body", "encoding", "has_length", "keep_alive", "now", "receiver",
        "retry_after", "reused", "session_token", "started", "status",
    )  # fmt: skip

    body: Body

    def __init__(self, idle_lost: Callable[[Connection], None]) -> None:
        self.receiver: Receiver | None = None
        self.reused = False
        self.now = 0
        self._idle_lost = idle_lost
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.encoding = ""
        self.retry_after: str | None = None
        self.session_token: bytes | None = None
        self.started = False
        self.has_length = False
        self._body_until_eof = False
        self.keep_alive = False

    @abstractmethod
    def send(self, receiver: Receiver, request: bytes) -> int:
        """Start an exchange; the time its first byte was handed to the kernel, ns."""

    def look(self) -> None:  # noqa: B027 - where it happens by itself there is nothing to do
        """Take in what has arrived, where that does not happen by itself; may end the exchange."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection and say nothing to the receiver."""

    def _complete(self) -> None:
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.complete(self)

    def _not_http(self, error: Exception) -> None:
        receiver, self.receiver = self.receiver, None
        self.close()
        if receiver is not None:
            receiver.broken(self, f"not HTTP/1.1: {type(error).__name__}", False)

    def _ended(self, clean: bool) -> None:
        """The connection is no more."""
        receiver, self.receiver = self.receiver, None
        self.close()
        if receiver is None:
            self._idle_lost(self)
        elif self.status and clean and self._body_until_eof:  # such a body ends with its connection
            receiver.complete(self)
        else:
            receiver.broken(self, "connection closed" if clean else "connection reset", clean)

    # httptools callbacks

    def on_message_begin(self) -> None:
        self.started = True
        self.has_length = False
        self.encoding = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"content-encoding":
            self.encoding = value.decode("latin-1").strip().lower()
        elif key in (b"content-length", b"transfer-encoding"):
            self.has_length = True
        elif key == b"retry-after":
            self.retry_after = value.decode("latin-1")
        elif key == SESSION_TOKEN:
            self.session_token = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._body_until_eof = not self.has_length


class LoopConnection(Connection, asyncio.Protocol):
    """A connection that the event loop reads."""

    __slots__ = ("_pieces", "_stamps", "transport")

    def __init__(self, idle_lost: Callable[[Connection], None]) -> None:
        super().__init__(idle_lost)
        self.transport: asyncio.Transport | None = None

    def send(self, receiver: Receiver, request: bytes) -> int:
        assert self.transport is not None
        self._reset()
        self.receiver = receiver
        self.body = body = Pieces()
        self._pieces, self._stamps = body.data, body.stamps
        sent = monotonic_ns()
        self.transport.write(request)
        return sent

    def close(self) -> None:
        self.receiver = None
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.now = monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._not_http(error)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.now = monotonic_ns()
        self._ended(exc is None)
        del self._parser  # a cycle, which nobody collects during the load

    # httptools callbacks

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._stamps.append(self.now)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:
            return  # an informational response comes before the real one
        self.keep_alive = self._parser.should_keep_alive()
        self._complete()
