"""Plain requests to a server under test, outside the measured path, with every failure as a sentence and advice.

The standard library's client in a thread: a larger one takes longer to import than these few requests take to answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ..config.secrets import said_by
from ..domain.endpoint import Endpoint, Tls, headers_over
from ..domain.errors import TargetError

CONNECT_S = 4.0
"""Time for a connection: an address that nothing answers at is reported within seconds."""
ANSWER_S = 15.0
GENERATE_S = 120.0
MAX_MESSAGE = 300


class ProbeError(TargetError):
    """A request that got no usable answer.

    Attributes:
        reason: refused | unreachable | dns | tls | timeout | protocol | redirect | auth | not_found | http
    """

    def __init__(self, reason: str, message: str, *, advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status. ``body`` is the parsed JSON, None where it is none; headers are in Title-Case."""

    status: int
    headers: Mapping[str, str]
    text: str
    body: Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def message(self, endpoint: Endpoint) -> str:
        """What the server, this endpoint, says is wrong; without secrets, and shortened."""
        body = self.body
        error = body.get("error", body.get("detail", body.get("message"))) if isinstance(body, dict) else None
        if isinstance(error, dict):
            error = error.get("message", error)
        return said_by(endpoint, str(error if error is not None else self.text).strip())[:MAX_MESSAGE]


class Http:
    """Requests to one endpoint, one at a time or several at once; use as an async context.

    Args:
        keep_alive: reuse one connection (then one request at a time). Off, because a server may close an idle
            connection just as it is used again.
    """

    def __init__(self, endpoint: Endpoint, *, keep_alive: bool = False) -> None:
        self.endpoint = endpoint
        self._keep_alive = keep_alive
        self._kept: HTTPConnection | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Http:
        self._tls = tls_context(self.endpoint.tls) if self.endpoint.secure else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept is not None:
            self._kept.close()

    async def get(self, path: str, *, timeout_s: float = ANSWER_S) -> Reply:
        """The answer to a GET of ``path`` under the endpoint's URL.

        Raises:
            ProbeError: no answer came.
        """
        return await self._request("GET", path, None, timeout_s)

    async def post(self, path: str, payload: Any, *, timeout_s: float = GENERATE_S) -> Reply:
        """The answer to a POST of JSON; of a stream, all of it.

        Raises:
            ProbeError: no answer came, or it broke off while it was read.
        """
        return await self._request("POST", path, json.dumps(payload).encode(), timeout_s)

    async def _request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Reply:
        connection = self._kept or self._connection()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await asyncio.to_thread(self._exchange, connection, method, path, body)
        except (HTTPException, OSError, ValueError) as error:
            raise classify(error, self.endpoint, timeout_s) from None
        finally:
            if self._keep_alive:
                self._kept = connection
            else:
                _abort(connection)
        if 300 <= reply.status < 400:
            raise redirected(self.endpoint, path, reply.headers.get("Location", ""))
        return reply

    def _connection(self) -> HTTPConnection:
        host, port = self.endpoint.host, self.endpoint.port
        if self._tls is not None:
            return HTTPSConnection(host, port, timeout=CONNECT_S, context=self._tls)
        return HTTPConnection(host, port, timeout=CONNECT_S)

    def _exchange(self, connection: HTTPConnection, method: str, path: str, body: bytes | None) -> Reply:
        """In a thread: connect where needed, send, and read the whole answer."""
        if connection.sock is None:
            _connect(connection)
        prefix = urlsplit(self.endpoint.url).path.rstrip("/")
        headers = {"Accept": "*/*", "Connection": "keep-alive" if self._keep_alive else "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, prefix + path, body, headers_over(self.endpoint.all_headers(), headers))
        response = connection.getresponse()
        text = _inflated(response.read(), response.headers.get("Content-Encoding", "")).decode("utf-8", "replace")
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        return Reply(response.status, {k.title(): v for k, v in response.headers.items()}, text, parsed)


def _inflated(body: bytes, encoding: str) -> bytes:
    """Some servers, and proxies before them, compress whatever they are asked for."""
    bits = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}.get(encoding.lower())
    try:
        return zlib.decompress(body, bits) if bits and body else body
    except zlib.error as error:
        raise ValueError(f"its content is not {encoding}: {error}") from None


class _ConnectTimeoutError(OSError):
    """Nothing answered the attempt to connect."""


def _connect(connection: HTTPConnection) -> None:
    try:
        connection.connect()
    except TimeoutError:
        raise _ConnectTimeoutError from None
    connection.sock.settimeout(None)  # the caller's own limit holds for the answer


def _abort(connection: HTTPConnection) -> None:
    """Close, also under a thread that still reads from it."""
    if connection.sock is not None:
        with suppress(OSError):  # it was closed already
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def tls_context(tls: Tls) -> ssl.SSLContext:
    """How to verify the server.

    Raises:
        ProbeError: the file of trusted certificates cannot be used.
    """
    try:
        return tls.context()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ProbeError(
            "tls",
            f"the certificates to trust cannot be read from {tls.ca_file}: {reason}",
            advice="ca_file names a PEM file with one or more CERTIFICATE blocks",
        ) from None


def redirected(endpoint: Endpoint, path: str, location: str) -> ProbeError:
    where = said_by(endpoint, location.partition("?")[0])
    return ProbeError(
        "redirect",
        f"{endpoint.url}{path} redirects to {where}; redirects are not followed under load",
        advice="give the URL that answers itself",
    )


def classify(error: Exception, endpoint: Endpoint, timeout_s: float) -> ProbeError:
    """The failure of a request as a sentence with advice."""
    url, where = endpoint.url, f"{endpoint.host}:{endpoint.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProbeError(
            "tls",
            f"the certificate of {where} is not trusted: {error.verify_message}",
            advice="name its authority with spec.target.existing.ca_file, or set verify_tls: false for a test system",
        )
    if isinstance(error, ssl.SSLError):
        return ProbeError(
            "tls",
            f"no TLS connection to {where}: {error.reason or error}",
            advice="does this port speak https, or only http?",
        )
    if isinstance(error, socket.gaierror):
        return ProbeError("dns", f"the host name {endpoint.host} is not known", advice="check the URL's spelling")
    if isinstance(error, _ConnectTimeoutError):
        return ProbeError(
            "unreachable",
            f"{where} did not answer within {CONNECT_S:g} s",
            advice="check address, network and firewall; inside a cluster use the service's name",
        )
    if isinstance(error, TimeoutError):
        return ProbeError(
            "timeout",
            f"{url} took the connection but did not answer within {timeout_s:g} s",
            advice="is the server still loading, or overloaded?",
        )
    if isinstance(error, OSError) and not isinstance(error, ConnectionResetError | HTTPException):
        return _not_connected(error, url, where)
    return ProbeError(
        "protocol",
        f"{url} gave no valid HTTP answer: {said_by(endpoint, str(error)) or type(error).__name__}",
        advice="does this port speak https, or something other than HTTP?",
    )


def _not_connected(error: OSError, url: str, where: str) -> ProbeError:
    if isinstance(error, ConnectionRefusedError):
        return ProbeError(
            "refused",
            f"nothing listens at {where}: the connection was refused",
            advice=f"start the server, or check host and port of {url}",
        )
    return ProbeError(
        "unreachable", f"no connection to {where}: {error.strerror or error}", advice="check address and network"
    )


def refused_by_server(reply: Reply, endpoint: Endpoint, what: str) -> ProbeError:
    """The error for an answer that is not a success."""
    said = f"{endpoint.url}{what} answered {reply.status}: {reply.message(endpoint) or 'nothing more'}"
    if reply.status in (401, 403):
        sent = "the API key was not accepted" if endpoint.api_key else "no API key was sent"
        return ProbeError(
            "auth",
            f"{said} ({sent})",
            advice="set OPENAI_API_KEY, or spec.target.existing.api_key: {env: NAME} or {file: PATH}",
        )
    if reply.status == 404:
        return ProbeError(
            "not_found", said, advice="the URL is the part before /v1 of an OpenAI-compatible API; check its path"
        )
    return ProbeError("http", said, advice="look at the server's log")
