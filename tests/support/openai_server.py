"""A real OpenAI-compatible HTTP/1.1 server in a background thread, as well or badly behaved as a test asks for.

    with OpenAIServer(ttft=0.01, itl=0.002, tokens=16) as server:
        server.behaviour = "http_500"                                      # every inference request
        server.behaviour = lambda n: "cut" if n % 5 == 0 else "ok"         # the n-th (from 0) of the load
        ... server.url, server.model, server.requests, server.tokenizer

A callable behaviour neither counts nor touches token probes (not streamed, max_tokens 1). BEHAVIOURS lists the names.
Serves /v1/models, /v1/chat/completions, /v1/completions (text and token ids), /tokenize and /detokenize, /health,
/version. ``max_tokens`` of a request decides how many tokens it gets, ``tokens`` where it does not say, ``stop_after``
is the most it ever gets. One token is one word.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BEHAVIOURS: tuple[str, ...] = (
    "ok", "http_500", "http_400", "http_429", "refuse", "stall", "stall_half", "cut", "cut_clean", "garbage",
    "garbage_http", "error_event", "error_event_plain", "no_done", "no_usage", "redirect", "gzip", "deflate", "split",
    "coalesced", "crlf", "comments", "multi_line", "role_only", "null_delta", "reasoning", "tool_calls", "multi_token",
    "continue_100", "close_after_each", "drop_idle", "leave_idle", "drop_late", "until_close",
    "empty",
)  # fmt: skip
CHAT_OVERHEAD = 7
"""Tokens the chat template adds to the words of all messages together."""
TEXT_OVERHEAD = 1
"""The beginning-of-sequence token of a text prompt."""

_STATUS = {"http_500": 500, "http_400": 400, "http_429": 429}
_REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
            429: "Too Many Requests", 500: "Internal Server Error"}  # fmt: skip


class WordTokenizer:
    """One token a word. Ids of words never seen are shown as words t<id>, so every id has a text and back."""

    def __init__(self) -> None:
        self._words: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        ids = []
        for word in text.split():
            known = re.fullmatch(r"t([0-9]+)", word)
            number = int(known[1]) if known else 100 + zlib.crc32(word.encode()) % 30000
            if not known:
                self._words[number] = word
            ids.append(number)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self._words.get(i, f"t{i}") for i in ids)


@dataclass
class Captured:
    """One request and what was done about it; times are monotonic ns."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    connection: int
    received: int
    reused: bool = False
    """Whether it is not the first on its connection."""
    behaviour: str = "ok"
    sent: list[int] = field(default_factory=list)
    """When each content chunk was written."""
    output_tokens: int = 0
    prompt_tokens: int = 0
    finished: bool = False

    @property
    def body(self) -> Any:
        """The JSON body, None where there is none."""
        return json.loads(self.raw) if self.raw else None


class OpenAIServer:
    """See the module. ``usage``: final (where asked for), every (in each chunk) or none."""

    def __init__(
        self,
        model: str = "test-model",
        *,
        ttft: float = 0.01,
        itl: float = 0.002,
        tokens: int = 16,
        stop_after: int | None = None,
        usage: str = "final",
        tokenize: str | None = "vllm",
        token_ids: bool = True,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        role_chunk: bool = True,
        cached_tokens: int | None = None,
        retry_after: str = "0",
        base_path: str = "",
        behaviour: str | Callable[[int], str] = "ok",
        seed: int = 0,
    ) -> None:
        self.model, self.ttft, self.itl, self.tokens, self.stop_after = model, ttft, itl, tokens, stop_after
        self.usage, self.tokenize, self.token_ids, self.api_key = usage, tokenize, token_ids, api_key
        self.role_chunk, self.cached_tokens, self.retry_after, self.base_path = (
            role_chunk, cached_tokens, retry_after, base_path)  # fmt: skip
        self.behaviour = behaviour
        self.requests: list[Captured] = []
        self.connections = 0
        self.tokenizer = WordTokenizer()
        self._count = 0
        self._ssl = ssl_context
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._socket.getsockname()[1]
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)

    @property
    def url(self) -> str:
        host = "localhost" if self._ssl else "127.0.0.1"
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}{self.base_path}"

    @property
    def inference(self) -> list[Captured]:
        """Requests that asked for tokens, in order of arrival."""
        return [r for r in self.requests if r.path.endswith("completions")]

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._socket, ssl=self._ssl, limit=2**26)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # asyncio does this by itself only for sockets made with an explicit protocol number
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        number, reused = self.connections, False
        try:
            while (request := await _read_request(reader, number)) is not None:
                request.reused, reused = reused, True
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
                if request.behaviour == "leave_idle":  # it ends its side soon after, and answers nothing from then on
                    await asyncio.sleep(0.02)
                    writer.write_eof()
                    await reader.read()
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Captured, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        path = request.path.removeprefix(self.base_path) if request.path.startswith(self.base_path) else "/?"
        if path == "/health":
            return _json(writer, 200, {})
        if path == "/version":
            return _json(writer, 200, {"version": "0.0-test"})
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            said = f"Incorrect API key provided: {request.headers.get('authorization')}"  # as OpenAI does
            return _json(writer, 401, {"error": {"message": said, "type": "auth", "code": 401}})
        if path == "/v1/models":
            models = [{"id": self.model, "object": "model", "owned_by": "vllm", "max_model_len": 32768}]
            return _json(writer, 200, {"object": "list", "data": models})
        if request.method == "POST" and path in ("/tokenize", "/detokenize") and self.tokenize:
            return _json(writer, 200, self._tokens(path, request.body))
        if request.method == "POST" and path in ("/v1/chat/completions", "/v1/completions"):
            return await self._infer(request, path, writer)
        return _json(writer, 404, {"error": {"message": "not found"}})

    def _tokens(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        vllm = self.tokenize == "vllm"
        if path == "/detokenize":
            return {"prompt" if vllm else "content": self.tokenizer.decode(body["tokens"])}
        ids = self.tokenizer.encode(str(body.get("prompt" if vllm else "content", "")))
        special = body.get("add_special_tokens", True) if vllm else body.get("add_special", False)
        ids = [1, *ids] if special else ids
        return {"tokens": ids, "count": len(ids), "max_model_len": 32768} if vllm else {"tokens": ids}

    def _prompt_tokens(self, body: Mapping[str, Any]) -> int | None:
        """Tokens of the prompt; None for token ids where the server refuses them."""
        if "messages" in body:
            words = sum(len(self.tokenizer.encode(str(m.get("content") or ""))) for m in body["messages"])
            return words + CHAT_OVERHEAD
        prompt = body.get("prompt", "")
        if isinstance(prompt, str):
            return len(self.tokenizer.encode(prompt)) + TEXT_OVERHEAD
        return len(prompt) if self.token_ids else None

    def _behaviour_of(self, body: Mapping[str, Any]) -> str:
        if isinstance(self.behaviour, str):
            return self.behaviour
        if not body.get("stream") and body.get("max_tokens") == 1:
            return "ok"
        self._count += 1
        return self.behaviour(self._count - 1)

    async def _infer(self, request: Captured, path: str, writer: asyncio.StreamWriter) -> bool:
        body = request.body
        if not isinstance(body, dict):
            return _json(writer, 400, {"error": {"message": "the body is no object", "type": "BadRequest"}})
        how = request.behaviour = self._behaviour_of(body)
        assert how in BEHAVIOURS, how
        prompt_tokens = self._prompt_tokens(body)
        if prompt_tokens is None:
            return _json(writer, 400, {"error": {"message": "token ids are not supported", "type": "BadRequest"}})
        request.prompt_tokens = prompt_tokens
        wanted = body.get("max_tokens") or body.get("max_completion_tokens") or self.tokens
        count = min(wanted, self.stop_after or wanted)
        if how in _STATUS:
            extra = f"Retry-After: {self.retry_after}\r\n" if how == "http_429" else ""
            return _json(writer, _STATUS[how], {"error": {"message": "asked to fail", "type": "test"}}, extra)
        if how == "redirect":
            return _json(writer, 307, {}, "Location: http://127.0.0.1:1/elsewhere\r\n")
        if how in ("refuse", "garbage_http"):
            if how == "garbage_http":
                writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                await writer.drain()
            else:
                _reset(writer)
            return False
        if how == "drop_idle" and request.reused:
            return False  # an idle connection closed just as the request came
        if how == "drop_late":
            await asyncio.sleep(0.2)
            return False  # it has worked on it, and ends before the first byte of an answer
        if not body.get("stream"):
            return await self._whole(request, path, writer, count)
        return await Stream(self, request, path, writer, count, self._random).run()

    async def _whole(self, request: Captured, path: str, writer: asyncio.StreamWriter, count: int) -> bool:
        await asyncio.sleep(self.ttft + self.itl * (count - 1))
        if request.behaviour in ("stall", "stall_half"):
            await asyncio.sleep(3600)
        if request.behaviour in ("cut", "cut_clean"):
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices": [')
            await writer.drain()
            if request.behaviour == "cut":
                _reset(writer)
            return False
        if request.behaviour == "garbage":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{{{{{")
            return True
        if request.behaviour == "error_event":
            return _json(writer, 200, {"error": {"message": "overloaded", "type": "server_error", "code": 503}})
        text = " ".join(word(k) for k in range(count))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if "chat" in path else {"text": text}
        kind = "chat.completion" if "chat" in path else "text_completion"
        reply = {"id": "x", "object": kind, "model": self.model, "choices": [choice]}
        request.output_tokens, request.finished = count, True
        if self.usage != "none":
            reply["usage"] = self.usage_of(request.prompt_tokens, count)
        return _json(writer, 200, reply)

    def usage_of(self, prompt: int, output: int) -> dict[str, Any]:
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
        if self.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return usage


class Stream:
    """One streamed answer."""

    def __init__(
        self, server: OpenAIServer, request: Captured, path: str, writer: asyncio.StreamWriter, count: int,
        rng: random.Random,
    ) -> None:  # fmt: skip
        self._server, self._request, self._writer, self._count, self._rng = server, request, writer, count, rng
        self._how = request.behaviour
        self._chat = "chat" in path
        kind = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}.get(self._how)
        self._deflate = None if kind is None else zlib.compressobj(wbits=kind)
        self._held = b""

    async def run(self) -> bool:
        server, request, how = self._server, self._request, self._how
        self._head()
        if server.role_chunk and self._chat:
            self._event(self._chunk({"role": "assistant", "content": ""}))
        if how == "role_only":
            self._event(self._chunk({"role": "assistant"}))
        if how == "null_delta":
            self._event(self._chunk({"role": "assistant", "content": None, "reasoning_content": None}))
            self._event({**self._chunk({}), "choices": [{"index": 0, "delta": None}]})
        for k, words in enumerate(self._plan()):
            await self._pause(server.ttft + server.itl * k)
            if how == "stall" or (how == "stall_half" and k * 2 >= self._count):
                await asyncio.sleep(3600)
            if k * 2 >= self._count and how in ("cut", "cut_clean", "garbage", "error_event", "error_event_plain"):
                return await self._break_off()
            if how == "comments":
                self._write(b": keep-alive\n\nevent: message\nid: 7\nretry: 10\n")
            request.output_tokens += words
            request.sent.append(time.monotonic_ns())
            self._event(self._chunk(self._delta(k, words), usage=server.usage == "every"))
        return await self._end()

    def _plan(self) -> list[int]:
        """Words of each chunk."""
        if self._how == "empty":
            return []
        if self._how != "multi_token":
            return [1] * self._count
        return [3] * (self._count // 3) + ([self._count % 3] if self._count % 3 else [])

    def _delta(self, k: int, words: int) -> dict[str, Any]:
        start = self._request.output_tokens - words
        text = "".join(word(start + i) + " " for i in range(words))
        if self._how == "reasoning":
            return {("reasoning_content" if k % 2 else "reasoning"): text}
        if self._how == "tool_calls":
            return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        return {"content": text}

    async def _pause(self, after: float) -> None:
        left = self._request.received / 1e9 + after - time.monotonic()
        await asyncio.sleep(max(0.0, left))
        if self._how != "coalesced" or self._request.output_tokens % 4 == 0:
            self._flush()
            await self._writer.drain()

    async def _break_off(self) -> bool:
        if self._how == "error_event":
            self._event({"error": {"message": "out of memory", "type": "server_error", "code": 500}})
        elif self._how == "error_event_plain":  # llama.cpp's older form
            self._write(b'error: {"message": "oops", "type": "server_error", "code": 500}\n\n')
        elif self._how == "garbage":
            self._write(b"data: {not json\xff\xfe\n\n")
        else:
            self._flush()
            await self._writer.drain()
            if self._how == "cut":
                _reset(self._writer)
            return False
        return await self._finish()

    async def _end(self) -> bool:
        finish = self._chunk({}, finish="length")
        self._event(finish)
        options = self._request.body.get("stream_options") or {}
        asked = self._server.usage == "every" or (self._server.usage == "final" and options.get("include_usage"))
        if asked and self._how != "no_usage":
            self._event({**self._chunk({}, usage=True), "choices": []})
        if self._how != "no_done":
            self._write(b"data: [DONE]" + (b"\r\n\r\n" if self._how == "crlf" else b"\n\n"))
        self._request.finished = True
        return await self._finish()

    async def _finish(self) -> bool:
        if self._deflate is not None:
            self._raw(self._deflate.flush())
        self._flush()
        if self._how != "until_close":
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        if self._how == "close_after_each":
            await asyncio.sleep(0.001)
        return self._how not in ("close_after_each", "until_close")

    def _head(self) -> None:
        lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream"]
        if self._how != "until_close":
            lines.append("Transfer-Encoding: chunked")
        if self._deflate is not None:
            lines.append(f"Content-Encoding: {self._how}")
        informational = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._writer.write((informational if self._how == "continue_100" else b"") + head)

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, usage: bool = False) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"delta": delta} if self._chat else {"text": delta.get("content") or ""}
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        chunk = {"id": "x", "object": kind, "created": 1, "model": self._server.model}
        counted = self._server.usage_of(self._request.prompt_tokens, self._request.output_tokens)
        return {**chunk, "choices": [choice], **({"usage": counted} if usage else {})}

    def _event(self, value: Mapping[str, Any]) -> None:
        end = "\r\n" if self._how == "crlf" else "\n"
        text = json.dumps(value, ensure_ascii=False, indent=1 if self._how == "multi_line" else None)
        self._write("".join(f"data: {line}{end}" for line in text.split("\n")).encode() + end.encode())

    def _write(self, data: bytes) -> None:
        if self._how == "coalesced":
            self._held += data
        elif self._how == "split":
            while data:
                size = self._rng.choice((1, 1, 2, 3, 5, 8, 40, len(data)))
                self._raw(data[:size])
                data = data[size:]
        elif self._deflate is not None:
            self._raw(self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH))
        else:
            self._raw(data)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        self._raw(held)

    def _raw(self, data: bytes) -> None:
        if not data:
            return
        if self._how == "until_close":
            self._writer.write(data)
        elif self._how == "split":  # the kernel gets the pieces one by one, chunk framing included
            for piece in (b"%x\r" % len(data), b"\n" + data, b"\r\n"):
                self._writer.write(piece)
        else:
            self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def word(k: int) -> str:
    """The k-th word of every answer; beyond ASCII, so that a split may fall inside a character."""
    return f"wörd→{k}"


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Captured | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Captured(method, path.partition("?")[0], headers, body, connection, time.monotonic_ns())


def _json(writer: asyncio.StreamWriter, status: int, value: object, extra: str = "") -> bool:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n{extra}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a dying server does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
