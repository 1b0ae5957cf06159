"""A small OpenAI-compatible server for the conformance suites: as exact as it can be, and it remembers what it did.

with ExactServer(ttft=0.05, itl=0.01) as server:
    server.behaviour = lambda n: "http_500" if n % 5 == 0 else "ok"
    ... server.endpoint, server.served, server.most_at_once
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..domain.endpoint import Endpoint, Secret

MODEL = "exact"
BEHAVIOURS = ("ok", "http_500", "http_429", "http_400", "cut", "empty", "error_event", "stall", "not_json")
_STATUS = {"http_500": 500, "http_429": 429, "http_400": 400}


@dataclass
class Served:
    """One request. Times are monotonic ns: when it was received, and when each content chunk was written."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    behaviour: str
    received: int
    chunks: list[int] = field(default_factory=list)


class ExactServer:
    """``ttft`` and ``itl`` in seconds; an answer has ``max_tokens`` tokens, each a chunk of its own."""

    def __init__(self, *, ttft: float = 0.01, itl: float = 0.002, api_key: str | None = None) -> None:
        self.ttft, self.itl, self._api_key = ttft, itl, api_key
        self.behaviour: Callable[[int], str] = lambda _: "ok"
        self.served: list[Served] = []
        self.most_at_once = 0
        self._at_once = 0
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._main, daemon=True)

    @property
    def endpoint(self) -> Endpoint:
        key = None if self._api_key is None else Secret(self._api_key)
        return Endpoint(f"http://127.0.0.1:{self._socket.getsockname()[1]}", MODEL, api_key=key)

    def __enter__(self) -> ExactServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._socket, limit=2**24)
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split()[1]
        if not path.endswith("completions"):
            return _json(writer, 200, {"data": [{"id": MODEL}]})
        if self._api_key and headers.get("authorization") != f"Bearer {self._api_key}":
            return _json(writer, 401, {"error": {"message": "wrong key"}})
        served = Served(path, headers, json.loads(body), self.behaviour(len(self.served)), time.monotonic_ns())
        assert served.behaviour in BEHAVIOURS, served.behaviour
        self.served.append(served)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(served, writer)
        finally:
            self._at_once -= 1

    async def _answer(self, served: Served, writer: asyncio.StreamWriter) -> bool:
        if (status := _STATUS.get(served.behaviour)) is not None:
            return _json(writer, status, {"error": {"message": "as asked"}})
        if served.behaviour == "stall":
            await self._stop.wait()
            return False
        count = int(served.body.get("max_tokens") or 4)
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        if not served.body.get("stream"):
            await _until(served.received, self.ttft + self.itl * (count - 1))
            choice = _choice(served, "word " * count, "length", whole=True)
            return _json(writer, 200, {**_kind(served), "choices": [choice], "usage": usage})
        kind = _kind(served, ".chunk")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if served.behaviour == "not_json":
            _chunk(writer, b"data: {{{\n\n")
        for k in range(0 if served.behaviour == "empty" else count):
            await _until(served.received, self.ttft + self.itl * k)
            if 2 * k >= count and served.behaviour == "cut":
                return _reset(writer)
            if 2 * k >= count and served.behaviour == "error_event":
                _event(writer, {"error": {"message": "as asked", "code": 500}})
                break
            served.chunks.append(time.monotonic_ns())
            _event(writer, {**kind, "choices": [_choice(served, "word ", None)]})
        else:
            _event(writer, {**kind, "choices": [_choice(served, "", "length")]})
            _event(writer, {**kind, "choices": [], "usage": usage})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _until(received: int, after: float) -> None:
    await asyncio.sleep(max(0.0, received / 1e9 + after - time.monotonic()))


def _kind(served: Served, of: str = "") -> dict[str, str]:
    """What an answer calls itself; some clients take it for none without."""
    return {"object": f"chat.completion{of}" if "chat" in served.path else "text_completion"}


def _choice(served: Served, text: str, finish: str | None, *, whole: bool = False) -> dict[str, Any]:
    if "chat" not in served.path:
        return {"index": 0, "text": text, "finish_reason": finish}
    return {"index": 0, "message" if whole else "delta": {"content": text}, "finish_reason": finish}


def _event(writer: asyncio.StreamWriter, value: Mapping[str, Any]) -> None:
    _chunk(writer, b"data: " + json.dumps(value).encode() + b"\n\n")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _json(writer: asyncio.StreamWriter, status: int, value: object) -> bool:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
    writer.write(body)
    return True


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Close as a dying server does."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
