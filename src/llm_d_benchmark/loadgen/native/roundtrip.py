"""The idle round trip to the target: the floor under every measured time, stated with the result."""

from __future__ import annotations

import asyncio
import statistics

from ...domain.endpoint import Endpoint, headers_over
from .connection import Connection, monotonic_ns
from .pool import ConnectError, Pool

PROBES = 9
TIMEOUT_S = 2.0


class _Ping:
    """Takes one response and says when it was whole."""

    def __init__(self) -> None:
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def complete(self, connection: Connection) -> None:
        if not self.done.done():
            self.done.set_result(monotonic_ns())

    def broken(self, connection: Connection, reason: str, clean: bool) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(reason))


async def idle_round_trip(endpoint: Endpoint) -> float | None:
    """Median seconds of a small GET on a warm connection without load; None where the server does not answer it."""
    pool = Pool(endpoint, TIMEOUT_S, asyncio.get_running_loop())
    made: asyncio.Future[Connection | ConnectError] = asyncio.get_running_loop().create_future()
    pool.connect(lambda connection, _: made.set_result(connection), made.set_result)
    connection = await made
    if isinstance(connection, ConnectError):
        return None
    times = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(PROBES):
                ping = _Ping()
                sent = connection.send(ping, _request(endpoint))
                times.append((await ping.done - sent) / 1e9)
                if not connection.keep_alive:
                    break
    except (TimeoutError, ConnectionError):
        pass
    finally:
        connection.close()
    return statistics.median(times) if times else None


def _request(endpoint: Endpoint) -> bytes:
    """GET /health: the cheapest thing such servers answer; a 404 is as good a round trip."""
    defaults = {"Host": f"{endpoint.host}:{endpoint.port}", "Accept": "*/*"}
    headers = headers_over(endpoint.all_headers(), defaults)
    lines = ["GET /health HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
