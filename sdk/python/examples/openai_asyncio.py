"""A load generator for llm-d-benchmark on nothing but asyncio: OpenAI chat and completions over HTTP/1.1.

    native: {command: [python3, sdk/python/examples/openai_asyncio.py]}

Every chunk's time is taken when its bytes arrive, in ``data_received``, before anything is decoded.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # not needed once llm-d-loadgen is installed

from llm_d_loadgen import ALL_CAPABILITIES, Call, CallFailed, Hello, serve
from llm_d_loadgen.clock import now


class OpenAI:
    name = "openai-asyncio"
    version = "1.0"
    capabilities = ALL_CAPABILITIES

    async def open(self, hello: Hello) -> None:
        self._hello = hello
        self._url = urlsplit(hello.url)
        self._tls = ssl.create_default_context(cafile=hello.ca_file) if self._url.scheme == "https" else None
        if self._tls and not hello.verify_tls:
            self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._idle: list[Connection] = []

    async def prepare(self, connections: int) -> None:
        missing = connections - len(self._idle)
        opened = await asyncio.gather(*(self._connect() for _ in range(missing)), return_exceptions=True)
        self._idle += [c for c in opened if isinstance(c, Connection)]

    async def send(self, call: Call) -> None:
        body = json.dumps(call.body()).encode()
        connection = self._take()
        while True:
            reused = connection is not None
            if connection is None:
                began = now()
                connection = await self._connect()
                call.connected(now() - began)
            try:
                await connection.exchange(call, self._request(call, body))
                break
            except Unanswered:
                if not reused:
                    raise CallFailed("truncated", "connection closed before any response") from None
                connection = None  # the server had closed an idle connection: once more on a new one
            except BaseException:
                connection.close()
                raise
        if connection.keep_alive:
            self._idle.append(connection)
        else:
            connection.close()
        if call.http_status != 200:
            raise CallFailed(error_class(call.http_status or 0), f"HTTP {call.http_status}")
        connection.answer.judge(call)

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self) -> Connection:
        host, port = self._url.hostname or "", self._url.port or (443 if self._tls else 80)
        try:
            async with asyncio.timeout(self._hello.connect_s):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(Connection, host, port, ssl=self._tls)
                return connection
        except TimeoutError:
            raise CallFailed("timeout_connect", f"no connection within {self._hello.connect_s:g} s") from None
        except ssl.SSLError as error:
            raise CallFailed("tls", f"TLS: {error.reason}") from None
        except OSError as error:
            raise CallFailed("connect", f"no connection: {type(error).__name__}") from None

    def _request(self, call: Call, body: bytes) -> bytes:
        headers = {
            "Host": self._url.netloc, "Content-Type": "application/json", "Accept": "*/*",
            "Content-Length": str(len(body)), **self._hello.headers,
        }  # fmt: skip
        lines = [f"POST {self._url.path.rstrip('/')}{call.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class Unanswered(Exception):  # noqa: N818
    """The connection ended before the first byte of a response."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def close(self) -> None:
        self._done = None
        self.transport.abort()

    async def exchange(self, call: Call, request: bytes) -> None:
        """Send a request and read its response into ``call``."""
        self.answer = Answer(call)
        self.keep_alive = True
        self._data, self._head, self._chunked = b"", True, False
        self._left: int | None = None
        self._done = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            raise Unanswered
        call.mark_sent()
        self.transport.write(request)
        await self._done

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            self.close()  # nobody asked for this
            return
        at = now()
        self._data += data
        try:
            while self._data and self._step(at):
                pass
        except (ValueError, IndexError):
            self._fail(CallFailed("protocol", "not HTTP/1.1"))
        except CallFailed as failure:
            self._fail(failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is None:
            return
        if self._head:
            self._fail(CallFailed("connect", "connection reset before any response") if exc else Unanswered())
        elif self._left is None and not self._chunked and exc is None:
            self._finish()  # a body without a length ends with its connection
        else:
            self._fail(CallFailed("truncated", "connection lost before the end of the response"))

    def _step(self, at: int) -> bool:
        """Take one piece off what has come; whether it was a whole one, so that another may follow."""
        if self._head:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                if not b"HTTP/1.".startswith(self._data[:7]):
                    raise ValueError
                return False
            self._data = rest
            self._read_head(head)
        elif self._chunked:
            size, found, rest = self._data.partition(b"\r\n")
            if not found or len(rest) < (length := int(size.split(b";")[0], 16)) + 2:
                return False
            self._data = rest[length + 2 :]
            if not length:
                self._finish()
                return False
            self.answer.feed(rest[:length], at)
        else:
            part = self._data if self._left is None else self._data[: self._left]
            self._data = self._data[len(part) :]
            self.answer.feed(part, at)
            if self._left is not None:
                self._left -= len(part)
                if not self._left:
                    self._finish()
        return True

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split()[1])
        if not first.startswith("HTTP/1."):
            raise ValueError
        if status < 200:
            return  # informational: the real one follows
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        self.answer.call.http_status = status
        self._head = False
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left = int(headers["content-length"]) if "content-length" in headers else None
        self.keep_alive = "close" not in headers.get("connection", "").lower()
        if not self._chunked and self._left is None:
            self.keep_alive = False
        elif self._left == 0:
            self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_result(None)

    def _fail(self, error: Exception) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_exception(error)


class Answer:
    """The body of a response: events of a stream as they come, or one JSON object."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._rest = b""
        self._whole = self._content = False

    def feed(self, data: bytes, at: int) -> None:
        self._rest += data
        if not self.call.stage.streaming or self.call.http_status != 200:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), at)

    def judge(self, call: Call) -> None:
        """Raises CallFailed for an answer that is not whole."""
        if not call.stage.streaming:
            self._event(self._rest, now())
            if not self._content:
                raise CallFailed("no_content", "the response has no content")
        elif not (self._whole or call.finish_reason or call.output_tokens is not None):
            raise CallFailed("truncated", "the stream ended without a finish reason or [DONE]")

    def _event(self, data: bytes, at: int) -> None:
        call = self.call
        if data == b"[DONE]":
            self._whole = True
            return
        try:
            event = json.loads(data)
            choices = event.get("choices") or ()
        except (ValueError, AttributeError):
            raise CallFailed("protocol", "the response is not the JSON of the OpenAI API") from None
        if event.get("error") or event.get("object") == "error":
            raise CallFailed("server_error_event", "error event")
        usage = event.get("usage") or {}
        call.input_tokens = usage.get("prompt_tokens", call.input_tokens)
        call.output_tokens = usage.get("completion_tokens", call.output_tokens)
        call.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", call.cached_tokens)
        for choice in choices:
            delta = choice.get("delta") or choice.get("message") or {}
            text = delta.get("content") or choice.get("text") or ""
            if text or delta.get("reasoning_content") or delta.get("reasoning") or delta.get("tool_calls"):
                self._content = True
                if call.stage.streaming:
                    call.chunk(text, at)
                else:
                    call.text = text
            call.finish_reason = choice.get("finish_reason") or call.finish_reason


def error_class(status: int) -> str:
    if 300 <= status < 400:
        return "redirect"
    if status == 429:
        return "http_429"
    return "http_4xx" if 400 <= status < 500 else "http_5xx" if status >= 500 else "protocol"


if __name__ == "__main__":
    serve(OpenAI())
