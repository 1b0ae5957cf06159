"""The compiled receiver without a generator around it, and connections for it to read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llm_d_benchmark.loadgen.native.compiled.connection import CompiledReceiver
from llm_d_benchmark.loadgen.native.compiled.library import ReceiverError


@contextmanager
def compiled_receiver() -> Iterator[CompiledReceiver]:
    """A receiver that runs; the test skips where there is none."""
    loop = asyncio.new_event_loop()
    try:
        running = CompiledReceiver(loop)
    except ReceiverError as error:
        pytest.skip(f"no compiled receiver: {error}")
    yield running
    running.close()
    loop.close()


def connected(*, nodelay: bool = True) -> tuple[socket.socket, socket.socket]:
    """A connection for the receiver to take, and the server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        ours.setblocking(False)
        theirs, _ = listener.accept()
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    return ours, theirs
