"""A connection whose responses the compiled receiver reads: Python is called when one may be over."""

from __future__ import annotations

import asyncio
import ctypes
import socket
from array import array
from collections.abc import Callable

import httptools

from ..connection import Connection, Receiver, monotonic_ns
from ..decode import Decoded, judge
from .library import NICE, Found, Look, ReceiverError, load

TICK_NS = 10_000_000
_OPEN, _CLOSED = 0, 1
_IDS = 256
_ROOM = 2**16


class CompiledReceiver:
    """One thread that reads all of its connections; see receiver.c.

    Raises:
        ReceiverError: there is none here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.library = load()
        self.loop = loop
        self.look, self.found = Look(), Found()
        self.room = _ROOM
        self.scratch = ctypes.create_string_buffer(self.room)
        self._ids = (ctypes.c_uint64 * _IDS)()
        self._connections: dict[int, CompiledConnection] = {}
        self._count = 0
        self.handle = self.library.lc_start(TICK_NS, NICE)
        if self.handle is None:
            raise ReceiverError("its thread could not be started", "is there a limit on threads or open files?")
        self._told = self.library.lc_told(self.handle)
        loop.add_reader(self._told, self._look)

    def open(self, sock: socket.socket, idle_lost: Callable[[Connection], None]) -> CompiledConnection:
        """Take over a connected socket that does not block.

        Raises:
            OSError: the system has no room for it; it is closed.
        """
        self._count += 1
        handle = self.library.lc_open(self.handle, sock.fileno(), self._count)
        if handle is None:
            sock.close()
            raise OSError("no room for another connection")
        connection = CompiledConnection(self, self._count, handle, sock, idle_lost)
        self._connections[self._count] = connection
        return connection

    def forget(self, number: int) -> None:
        del self._connections[number]

    def lags(self) -> list[int]:
        """How late the thread heard of what was due, every 10 ms since the last call, ns."""
        values = (ctypes.c_int64 * 4096)()
        return values[: self.library.lc_lags(self.handle, values, len(values))]

    def make_room(self, size: int) -> None:
        if size > self.room:
            self.room = 2 * size
            self.scratch = ctypes.create_string_buffer(self.room)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            connection.close()
        self.loop.remove_reader(self._told)
        self.library.lc_stop(self.handle)

    def _look(self) -> None:
        count = _IDS
        while count == _IDS:
            count = self.library.lc_over(self.handle, self._ids, _IDS)
            for number in self._ids[:count]:
                if (connection := self._connections.get(number)) is not None:
                    connection.look()


class CompiledBody:
    """A response as the thread keeps it: whole, head and HTTP framing included."""

    __slots__ = ("_connection", "_library", "_receiver", "_response")

    def __init__(self, receiver: CompiledReceiver, connection: int) -> None:
        self._receiver = receiver
        self._library = receiver.library
        self._connection: int | None = connection  # while it may grow
        self._response = self._library.lc_begin(connection)
        if self._response is None:
            raise MemoryError

    def __del__(self) -> None:
        self._library.lc_release(self._response)

    def end(self) -> None:
        """It is attached to its connection no more."""
        self._connection = None

    def __len__(self) -> int:
        count: int = self._library.lc_reads(self._connection, self._response)
        return count

    def pieces(self) -> tuple[list[bytes], list[int]]:
        raw, reads = self._copy()
        pieces, at = _Pieces(), 0
        for end, stamp in zip(reads[::2], reads[1::2], strict=True):
            pieces.feed(raw[at:end], stamp)
            at = end
        return pieces.data, pieces.stamps

    def _copy(self) -> tuple[memoryview, list[int]]:
        """Its bytes, and of each read where it ended and when it came, in turn."""
        room = places = 0
        size, count = ctypes.c_size_t(), ctypes.c_size_t()
        while True:
            data, reads = ctypes.create_string_buffer(room), (ctypes.c_int64 * (2 * places))()
            size.value, count.value = room, places
            self._library.lc_copy(self._connection, self._response, data, reads, size, count)
            if size.value <= room and count.value <= places:
                return memoryview(data), reads[: 2 * count.value]
            room, places = size.value, count.value  # it may have grown since

    def decode(self) -> Decoded | None:
        found = self._receiver.found
        if self._connection is not None or not self._library.lc_decode(self._response, found):
            return None
        out = Decoded()
        if found.chunks:
            out.chunks = array("q", ctypes.string_at(found.arrivals, 8 * found.chunks))
        out.input_tokens, out.output_tokens, out.cached_tokens = (
            None if n < 0 else n for n in (found.input, found.output, found.cached)
        )
        out.finish_reason = found.finish_reason.decode() or None
        judge(out, bool(found.done), b"")
        return out


class _Pieces:
    """Takes HTTP off a response, read by read."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.stamps: list[int] = []
        self._stamp = 0
        self._over = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: memoryview, stamp: int) -> None:
        self._stamp = stamp
        try:
            if not self._over:
                self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._over = True

    def on_body(self, body: bytes) -> None:
        if not self._over:
            self.data.append(body)
            self.stamps.append(self._stamp)

    def on_message_complete(self) -> None:
        self._over = self._parser.get_status_code() >= 200


class CompiledConnection(Connection):
    """See ``Connection``. Python reads nothing; the thread closes the socket."""

    __slots__ = ("_fed", "_growing", "_handle", "_number", "_over", "_receiver", "_rest", "_socket")

    def __init__(
        self,
        receiver: CompiledReceiver,
        number: int,
        handle: int,
        sock: socket.socket,
        idle_lost: Callable[[Connection], None],
    ) -> None:
        super().__init__(idle_lost)
        self._receiver = receiver
        self._number = number
        self._handle: int | None = handle
        self._socket = sock
        self._rest = memoryview(b"")
        self._fed = 0
        self._over = False
        self._growing: CompiledBody | None = None

    def send(self, receiver: Receiver, request: bytes) -> int:
        assert self._handle is not None
        self._reset()
        self.receiver = receiver
        self._fed = 0
        self.body = self._growing = CompiledBody(self._receiver, self._handle)
        sent = monotonic_ns()
        self._write(memoryview(request))
        return sent

    def _write(self, data: memoryview) -> None:
        try:
            written = self._socket.send(data)
        except BlockingIOError:
            written = 0
        except OSError:
            self._receiver.loop.call_soon(self._not_sent, self.receiver)
            return
        if written < len(data):
            self._rest = data[written:]
            self._receiver.loop.add_writer(self._socket.fileno(), self._write_rest)

    def _write_rest(self) -> None:
        rest, self._rest = self._rest, memoryview(b"")
        self._receiver.loop.remove_writer(self._socket.fileno())
        self._write(rest)

    def _not_sent(self, receiver: Receiver | None) -> None:
        if self.receiver is receiver:
            self.look()  # there may be an answer all the same
        if self.receiver is receiver and receiver is not None:
            self.now = monotonic_ns()
            self.close()
            receiver.broken(self, "connection reset", False)

    def look(self) -> None:
        if self._handle is None:
            return
        seen = self._receiver.look
        if self.receiver is None:
            self._receiver.library.lc_look(self._handle, 0, None, 0, seen)
        elif (error := self._feed(seen)) is not None:
            self._not_http(error)
            return
        if self._over:
            self._over = False  # told once; what comes from now on comes to an idle connection
            self.keep_alive = self.keep_alive and seen.state == _OPEN and not self._rest
            self._end_body()
            self._complete()
        elif seen.state != _OPEN:
            self.now = seen.ended
            self._ended(seen.state == _CLOSED)

    def _feed(self, seen: Look) -> Exception | None:
        """Give the parser what it has not had; ``seen`` is filled in. The error where that is no HTTP."""
        receiver = self._receiver
        count = receiver.library.lc_look(self._handle, self._fed, receiver.scratch, receiver.room, seen)
        if self._fed + count < seen.size:
            receiver.make_room(seen.size - self._fed)
            count = receiver.library.lc_look(self._handle, self._fed, receiver.scratch, receiver.room, seen)
        if not count:
            return None
        self.now = seen.at
        self._fed += count
        try:
            self._parser.feed_data(memoryview(receiver.scratch)[:count])
        except httptools.HttpParserError as error:
            self.keep_alive = False
            return None if self._over else error
        return None

    def _end_body(self) -> None:
        if self._growing is not None:
            self._receiver.library.lc_finish(self._handle)
            self._growing.end()
            self._growing = None

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._over:
            raise ValueError("an answer to nothing")  # ends the parsing, and with it this connection
        super().on_message_begin()

    def on_message_complete(self) -> None:
        if not 100 <= self.status < 200:
            self.keep_alive = self._parser.should_keep_alive()
            self._over = True

    def close(self) -> None:
        self.receiver = None
        if self._handle is None:
            return
        if self._rest:
            self._receiver.loop.remove_writer(self._socket.fileno())
        self._end_body()
        self._socket.detach()
        self._receiver.forget(self._number)
        self._receiver.library.lc_close(self._receiver.handle, self._handle)
        self._handle = None
        del self._parser  # a cycle, which nobody collects during the load
