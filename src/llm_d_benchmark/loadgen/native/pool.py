"""Connections to one endpoint: idle ones to reuse, and new ones with how long they took to set up."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from ...domain.endpoint import Endpoint, Tls
from ...domain.errors import ConfigError
from ...domain.records import ErrorClass
from .compiled.connection import CompiledReceiver
from .connection import Connection, LoopConnection, monotonic_ns


@dataclass(frozen=True, slots=True)
class ConnectError:
    """Why no connection was made, and when the attempt began (monotonic ns)."""

    error_class: ErrorClass
    message: str
    began: int


def tls_context(tls: Tls) -> ssl.SSLContext:
    """How the endpoint's certificate is verified.

    Raises:
        ConfigError: the CA file cannot be read.
    """
    try:
        return tls.context()
    except OSError as error:
        reason = error.strerror or "it holds no certificate"
        raise ConfigError(f"the CA file {tls.ca_file} cannot be used: {reason}") from error


class Pool:
    """Keeps idle connections and opens new ones; never more than what is asked of it at once. ``receiver`` reads them,
    where there is a compiled one and they are not encrypted; else the loop does."""

    def __init__(
        self,
        endpoint: Endpoint,
        connect_timeout: float,
        loop: asyncio.AbstractEventLoop,
        receiver: CompiledReceiver | None = None,
    ) -> None:
        self.loop = loop
        self._receiver = receiver
        self._endpoint = endpoint
        self._timeout = connect_timeout
        self._tls = tls_context(endpoint.tls) if endpoint.secure else None
        self.round_trip = math.inf
        """The shortest time that it took to connect, ns: no less than one round trip, however late the loop is."""
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self) -> Connection | None:
        """The idle connection used last, which the server is least likely to have closed."""
        return self._idle.pop() if self._idle else None

    def give(self, connection: Connection) -> None:
        """An exchange is over and its connection can be used again."""
        connection.reused = True
        self._idle.append(connection)

    def connect(self, connected: Callable[[Connection, int], None], failed: Callable[[ConnectError], None]) -> None:
        """Open a new connection and call back with it and the ns it took."""
        task = self.loop.create_task(self._connect(connected, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def warm(self, count: int) -> None:
        """Have ``count`` idle connections; failures are left to the first request to meet."""
        missing = count - len(self._idle)
        await asyncio.gather(*(self._connect(lambda c, _: self.give(c), lambda _: None) for _ in range(missing)))

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    async def _connect(
        self, connected: Callable[[Connection, int], None], failed: Callable[[ConnectError], None]
    ) -> None:
        began = monotonic_ns()
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._open()
        except TimeoutError:
            failed(ConnectError(ErrorClass.TIMEOUT_CONNECT, f"no connection within {self._timeout:g} s", began))
        except ssl.SSLError as error:
            failed(ConnectError(ErrorClass.TLS, f"TLS: {error.reason or type(error).__name__}", began))
        except socket.gaierror:
            failed(ConnectError(ErrorClass.CONNECT, "the host name does not resolve", began))
        except OSError as error:
            failed(ConnectError(ErrorClass.CONNECT, f"connect: {error.strerror or type(error).__name__}", began))
        else:
            took = monotonic_ns() - began
            self.round_trip = min(self.round_trip, took)
            connected(connection, took)

    async def _open(self) -> Connection:
        if self._receiver is not None:
            return self._receiver.open(await self._socket(), self._lost)
        _, connection = await self.loop.create_connection(
            lambda: LoopConnection(self._lost),
            self._endpoint.host,
            self._endpoint.port,
            ssl=self._tls,
            server_hostname=self._endpoint.host if self._tls else None,
        )
        return connection

    async def _socket(self) -> socket.socket:
        """A connected socket, by the first of the host's addresses that takes one.

        Raises:
            OSError: none does.
        """
        found = await self.loop.getaddrinfo(self._endpoint.host, self._endpoint.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self.loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure
