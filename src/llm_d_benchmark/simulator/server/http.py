"""HTTP/1.1 on a raw asyncio protocol: requests in, bytes out, one exchange at a time on each connection."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import httptools
import msgspec

MAX_BODY = 64 * 2**20
MAX_WAITING = 16
"""Pipelined requests kept per connection; a client that sends more is cut off."""
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
           413: "Payload Too Large", 429: "Too Many Requests", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: llm-d-benchmark-simulator\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n"
)
"""Without the empty line at its end."""
STREAM_END = b"0\r\n\r\n"


@dataclass(slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    arrived: int = 0
    """Monotonic ns at which its last byte was there and the exchange before it had ended."""
    too_large: bool = False
    """Its body was over ``MAX_BODY`` and is not kept."""


class Answering(Protocol):
    """Whoever answers the exchange under way, told when its client is gone."""

    def client_gone(self) -> None: ...


class Handler(Protocol):
    """Takes requests; answers with ``Connection.reply`` at once, or later through a stream."""

    def handle(self, connection: Connection, request: Request) -> None: ...


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_body", "_busy", "_clear", "_close", "_handler", "_head_only", "_headers", "_parser", "_size", "_socket",
        "_url", "_waiting", "answering", "transport",
    )  # fmt: skip

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._close = False
        self._head_only = False
        self._clear = True
        self.answering: Answering | None = None
        """Set by the handler while an answer is under way."""

    # answers

    def write(self, data: bytes) -> None:
        """Send at once, past the loop's own buffer; what the kernel does not take now goes by that."""
        if self._clear or not self.transport.get_write_buffer_size():
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the transport finds out by itself
            self._clear = sent == len(data)
            if self._clear:
                return
            data = data[sent:]
        self.transport.write(data)

    def reply(self, status: int, body: bytes, *, kind: str = "application/json", headers: str = "") -> None:
        """A whole answer, which ends the exchange; to HEAD without its body."""
        head = self._head(status, len(body), kind, headers)
        self.write(head if self._head_only else head + body)
        self.done()

    def begin(self, body: bytes, *, headers: str = "") -> None:
        """The first half of an answer that never ends."""
        self.write(self._head(200, len(body), "application/json", headers) + body[: len(body) // 2])

    def _head(self, status: int, size: int, kind: str, headers: str) -> bytes:
        """The head of an answer with a body of so many bytes."""
        close = "connection: close\r\n" if self._close else ""
        return (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nserver: llm-d-benchmark-simulator\r\ncontent-type: {kind}\r\n"
            f"content-length: {size}\r\n{headers}{close}\r\n"
        ).encode("latin-1")

    def reply_json(self, status: int, value: object, *, headers: str = "") -> None:
        self.reply(status, msgspec.json.encode(value), headers=headers)

    def done(self) -> None:
        """The exchange has ended; the next request of this connection is handled."""
        self.answering = None
        if self._close:
            self.transport.close()
            return
        self._busy = False
        if self._waiting:
            self._waiting[0][0].arrived = time.monotonic_ns()
            asyncio.get_running_loop().call_soon(self._next)

    def cut(self) -> None:
        """Break the connection off, as a server that dies does."""
        self.answering = None
        self.transport.abort()

    def _next(self) -> None:
        """Handle the oldest request that waits, unless one is under way."""
        if self._waiting and not self._busy and not self.transport.is_closing():
            request, keep_alive = self._waiting.popleft()
            self._busy, self._close, self._head_only = True, not keep_alive, request.method == "HEAD"
            if request.too_large:
                self.reply_json(413, _error(413, f"the body is larger than {MAX_BODY} bytes"))
            else:
                self._handler.handle(self, request)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        # A descriptor of its own, which cannot become another connection's while this one is being closed.
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse("this server speaks HTTP/1.1 only, and the request asks for another protocol (Upgrade)")
        except httptools.HttpParserError:
            self._refuse("not HTTP/1.1")
        self._next()

    def _refuse(self, message: str) -> None:
        """What comes on this connection cannot be understood any more."""
        self._waiting.clear()
        if self._busy:
            self.transport.abort()
        else:
            self._busy, self._close, self._head_only = True, True, False
            self.reply_json(400, _error(400, message))

    def connection_lost(self, exc: Exception | None) -> None:
        answering, self.answering = self.answering, None
        self._waiting.clear()
        self._socket.close()
        if answering is not None:
            answering.client_gone()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers[name] = value
        if name == b"expect" and value.lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        self._body.append(body)
        if self._size > MAX_BODY:
            self._body.clear()

    def on_message_complete(self) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.transport.abort()
            return
        path = self._url.partition(b"?")[0].decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        large = self._size > MAX_BODY
        request = Request(method, path, self._headers, b"".join(self._body), time.monotonic_ns(), large)
        self._waiting.append((request, self._parser.should_keep_alive()))


def _error(status: int, message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}
