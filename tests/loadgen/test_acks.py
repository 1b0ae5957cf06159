"""Fewer acknowledgements where many streams are read, and none held back from a server that waits for them."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_d_benchmark.loadgen.native.compiled.connection import CompiledConnection, CompiledReceiver
from llm_d_benchmark.loadgen.native.connection import Connection
from tests.loadgen.compiled import compiled_receiver, connected

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"c0\r\n" + b"x" * 192 + b"\r\n"
STREAMS, CHUNKS, GAP_S = 64, 100, 0.005
FIRST_S = 0.06
"""Longer than an acknowledgement waits: the kernel has left the dialogue when the first chunk comes."""
LATE_NS = 20_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's acknowledgements")


@pytest.fixture
def receiver() -> Iterator[CompiledReceiver]:
    """One of its own for each test: it remembers how its trial went."""
    with compiled_receiver() as running:
        yield running


class Nobody:
    def complete(self, connection: Connection) -> None: ...

    def broken(self, connection: Connection, reason: str, clean: bool) -> None: ...


class Streams:
    """A server that sends the same number of chunks on each of its connections, one every few milliseconds."""

    def __init__(self, receiver: CompiledReceiver, *, nodelay: bool) -> None:
        self.sent: list[list[int]] = [[] for _ in range(STREAMS)]
        self.ours: list[CompiledConnection] = []
        self._theirs: list[socket.socket] = []
        for _ in range(STREAMS):
            ours, theirs = connected(nodelay=nodelay)
            self.ours.append(receiver.open(ours, lambda _: None))
            self._theirs.append(theirs)

    def run(self) -> list[tuple[list[int], list[int]]]:
        """Of each stream, when its chunks were sent and when the receiver had them, ns."""
        for connection in self.ours:
            connection.send(Nobody(), b"?")
        bodies = [connection.body for connection in self.ours]
        server = threading.Thread(target=self._serve)
        server.start()
        server.join()
        time.sleep(0.3)  # an acknowledgement that is waited for comes within this
        found = []
        for body, sent in zip(bodies, self.sent, strict=True):
            pieces, stamps = body.pieces()
            had = [stamp for piece, stamp in zip(pieces, stamps, strict=True) for _ in range(len(piece) // 192)]
            found.append((sent, had))
        return found

    def _serve(self) -> None:
        for theirs in self._theirs:
            theirs.sendall(HEAD)
        start = time.monotonic() + FIRST_S
        for step in range(CHUNKS):
            for k, theirs in enumerate(self._theirs):
                time.sleep(max(0.0, start + (step + k / STREAMS) * GAP_S - time.monotonic()))
                self.sent[k].append(time.monotonic_ns())
                theirs.sendall(CHUNK)

    def close(self) -> None:
        for connection, theirs in zip(self.ours, self._theirs, strict=True):
            connection.close()
            theirs.close()


def segments() -> int:
    """TCP segments that this machine has sent, loopback included."""
    names, values = (s.split() for s in Path("/proc/net/snmp").read_text().splitlines() if s.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["OutSegs"])


def test_every_second_chunk_is_acknowledged(receiver: CompiledReceiver) -> None:
    streams = Streams(receiver, nodelay=True)
    before = segments()
    found = streams.run()
    sent = segments() - before
    streams.close()
    assert all(len(had) == CHUNKS for _, had in found)
    assert sent / (STREAMS * CHUNKS) < 1.8  # with an acknowledgement of each it is two


def test_a_server_that_waits_for_acknowledgements_is_hardly_held_up(receiver: CompiledReceiver) -> None:
    """Nagle's algorithm: only the few connections that tried it see a chunk late."""
    streams = Streams(receiver, nodelay=False)
    found = streams.run()
    streams.close()
    late = [any(b - a > LATE_NS for a, b in zip(sent, had, strict=True)) for sent, had in found]
    assert sum(late) <= 3
