"""What a server under test can tell of itself, asked before the load and never during it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..domain.endpoint import Endpoint
from ..domain.schedule import Prompt
from .http import ANSWER_S, Http, ProbeError, Reply, refused_by_server
from .identity import Identity, Listed, describe

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
PROMPT = "Count from one to twenty."
ABSENT = (404, 405, 501)
AUTH = (401, 403)


@dataclass(frozen=True, slots=True)
class StreamCheck:
    """What one streamed request showed.

    Attributes:
        status: HTTP status.
        chunks: events that carried content.
        done: whether the stream ended with [DONE].
        usage: the token counts of the stream's usage, None where it had none.
        cached_tokens: whether usage tells how many prompt tokens came from the prefix cache.
        message: what the server says is wrong, where it does.
    """

    status: int
    chunks: int = 0
    done: bool = False
    usage: Mapping[str, Any] | None = None
    cached_tokens: bool = False
    message: str | None = None

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.chunks > 0 and self.message is None


class ServerProbe:
    """Probes of one endpoint; an async context. Fits ``workload.api.TokenProbe``.

    Every method raises ``ProbeError``, a ``TargetError``, where no answer comes or the key is refused.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._http = Http(endpoint)
        self._tokenize_form: str | None = None

    async def __aenter__(self) -> ServerProbe:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def models(self, *, timeout_s: float = ANSWER_S) -> list[Listed] | None:
        """Models the server lists, in its order; None where it has no /v1/models.

        Raises:
            ProbeError: it answers with an error, or with something that is no list of models.
        """
        reply = await self._http.get("/v1/models", timeout_s=timeout_s)
        if reply.status in ABSENT:
            return None
        if not reply.ok:
            raise refused_by_server(reply, self.endpoint, "/v1/models")
        data = reply.body.get("data") if isinstance(reply.body, dict) else None
        if not isinstance(data, list):
            raise ProbeError(
                "protocol",
                f"{self.endpoint.url}/v1/models answered something that is no list of models",
                advice="is this an OpenAI-compatible server? The URL is the part before /v1",
            )
        return [Listed.of(item) for item in data if isinstance(item, dict) and "id" in item]

    async def version(self) -> str | None:
        """What /version says (vLLM, SGLang), None where there is none."""
        reply = await self._http.get("/version")
        found = reply.body.get("version") if reply.ok and isinstance(reply.body, dict) else None
        return str(found) if found else None

    async def identify(self) -> Identity:
        """Which server this is, and the fingerprint of what it serves."""
        return await self.identify_as(self.endpoint.model, await self.models())

    async def identify_as(self, model: str | None, listed: Sequence[Listed] | None) -> Identity:
        """``identify`` for a model and a list that the caller already has."""
        reply = await self._http.get("/version")
        version = reply.body.get("version") if reply.ok and isinstance(reply.body, dict) else None
        return describe(model, listed, str(version) if version else None, reply.headers.get("Server"))

    async def health(self, path: str, *, timeout_s: float) -> int:
        """HTTP status of a GET."""
        return (await self._http.get(path, timeout_s=timeout_s)).status

    async def tokenize(self, text: str) -> list[int] | None:
        """Token ids without special tokens, by vLLM's or llama.cpp's /tokenize; None where there is neither."""
        forms: dict[str, dict[str, Any]] = {
            "vllm": {"model": self.endpoint.model, "prompt": text, "add_special_tokens": False},
            "llama.cpp": {"content": text, "add_special": False},
        }
        for name, payload in forms.items():
            if self._tokenize_form not in (None, name):
                continue
            reply = await self._http.post("/tokenize", payload)
            self._check_auth(reply, "/tokenize")
            tokens = reply.body.get("tokens") if reply.ok and isinstance(reply.body, dict) else None
            if isinstance(tokens, list) and all(isinstance(t, int) for t in tokens) and (tokens or not text):
                self._tokenize_form = name if text else self._tokenize_form
                return tokens
        return None

    async def usage(self, endpoint: str, prompt: Prompt) -> int | None:
        """Prompt tokens by the server's usage for a request of one output token.

        Args:
            endpoint: chat | completions.
            prompt: text, token ids (completions only) or chat messages (chat only).

        Returns:
            None where the server refuses the prompt, lacks the endpoint, or does not tell.
        """
        payload = request_body(endpoint, self.endpoint.model, prompt)
        if payload is None:
            return None
        reply = await self._http.post(PATHS[endpoint], {**payload, "max_tokens": 1})
        self._check_auth(reply, PATHS[endpoint])
        usage = reply.body.get("usage") if reply.ok and isinstance(reply.body, dict) else None
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return tokens if isinstance(tokens, int) else None

    async def streaming_check(self, kind: str, *, max_tokens: int = 8) -> StreamCheck:
        """Stream one short answer and say what came.

        Args:
            kind: chat | completions.
        """
        body = {
            **(request_body(kind, self.endpoint.model, PROMPT) or {}),
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        reply = await self._http.post(PATHS[kind], body)
        if reply.status != 200:
            self._check_auth(reply, PATHS[kind])
            return StreamCheck(reply.status, message=reply.message(self.endpoint))
        return read_stream(reply.text, self.endpoint)

    async def metrics_available(self) -> bool:
        """Whether /metrics answers in Prometheus' text format."""
        reply = await self._http.get("/metrics")
        return reply.ok and "# TYPE " in reply.text

    async def round_trip(self, repeats: int = 5) -> float:
        """Seconds of the fastest of several idle requests for the list of models over a kept connection."""
        best = float("inf")
        async with Http(self.endpoint, keep_alive=True) as http:
            await http.get("/v1/models")
            for _ in range(repeats):
                started = time.perf_counter()
                await http.get("/v1/models")
                best = min(best, time.perf_counter() - started)
        return best

    def _check_auth(self, reply: Reply, path: str) -> None:
        if reply.status in AUTH:
            raise refused_by_server(reply, self.endpoint, path)


def request_body(kind: str, model: str | None, prompt: Prompt) -> dict[str, Any] | None:
    """The request for a prompt, None where the endpoint cannot take a prompt of this kind."""
    body: dict[str, Any] = {} if model is None else {"model": model}
    if isinstance(prompt, str):
        return body | ({"messages": [{"role": "user", "content": prompt}]} if kind == "chat" else {"prompt": prompt})
    ids = all(isinstance(p, int) for p in prompt)
    if ids == (kind == "chat"):
        return None
    return body | (
        {"prompt": list(prompt)} if ids else {"messages": [dict(p) for p in prompt if isinstance(p, Mapping)]}
    )


def read_stream(text: str, endpoint: Endpoint) -> StreamCheck:
    """What the events of a whole stream say, which the endpoint answered."""
    chunks, done, usage, message = 0, False, None, None
    for line in text.splitlines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            done = True
            continue
        event = _json(data)
        if not isinstance(event, dict):
            message = "an event of the stream is not JSON"
        elif event.get("error"):
            message = Reply(200, {}, data, event).message(endpoint)
        else:
            usage = event.get("usage") or usage
            chunks += any(_carries_content(c) for c in event.get("choices") or [])
    details = (usage or {}).get("prompt_tokens_details")
    return StreamCheck(200, chunks, done, usage, isinstance(details, dict) and "cached_tokens" in details, message)


def _carries_content(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta") or {}
    return bool(
        choice.get("text") or any(delta.get(k) for k in ("content", "reasoning_content", "reasoning", "tool_calls"))
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
