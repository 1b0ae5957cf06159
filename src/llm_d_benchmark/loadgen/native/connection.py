"""One keep-alive HTTP/1.1 connection. ``data_received`` is the hot path: a clock, the parser, two appends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import httptools

monotonic_ns = time.monotonic_ns


class Receiver(Protocol):
    """Who a connection tells of the one exchange it carries."""

    pieces: list[bytes]
    stamps: list[int]

    def complete(self, connection: Connection) -> None:
        """The response ended as HTTP says it should."""

    def broken(self, connection: Connection, reason: str, clean: bool) -> None:
        """The connection ended or the response is no HTTP. ``clean``: closed in order, not reset."""


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time."""

    __slots__ = (
        "_body_until_eof", "_idle_lost", "_now", "_parser", "_pieces", "_stamps", "encoding", "has_length",
        "keep_alive", "receiver", "retry_after", "reused", "started", "status", "transport",
    )  # fmt: skip

    def __init__(self, idle_lost: Callable[[Connection], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.receiver: Receiver | None = None
        self.reused = False
        self._idle_lost = idle_lost
        self._now = 0
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.encoding = ""
        self.retry_after: str | None = None
        self.started = False
        self.has_length = False
        self._body_until_eof = False
        self.keep_alive = False

    def send(self, receiver: Receiver, request: bytes) -> int:
        """Start an exchange; the time its first byte was handed to the kernel, ns."""
        assert self.transport is not None
        self._reset()
        self.receiver = receiver
        self._pieces, self._stamps = receiver.pieces, receiver.stamps
        sent = monotonic_ns()
        self.transport.write(request)
        return sent

    def close(self) -> None:
        """Drop the connection and say nothing to the receiver."""
        self.receiver = None
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._now = monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            receiver, self.receiver = self.receiver, None
            self.close()
            if receiver is not None:
                receiver.broken(self, f"not HTTP/1.1: {type(error).__name__}", False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            self._idle_lost(self)
        elif self.status and exc is None and self._body_until_eof:  # such a body ends with its connection
            receiver.complete(self)
        else:
            receiver.broken(self, "connection reset" if exc else "connection closed", exc is None)

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

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._body_until_eof = not self.has_length

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._stamps.append(self._now)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:
            return  # an informational response comes before the real one
        receiver, self.receiver = self.receiver, None
        self.keep_alive = self._parser.should_keep_alive()
        if receiver is not None:
            receiver.complete(self)
