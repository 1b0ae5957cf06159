"""Which behaviours of the OpenAI API a server has: one short request or two for each, asked of an idle server.

Answers are looked at and forgotten: an outcome says how the server behaved, never what it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..domain.comparison import Outcome
from ..domain.endpoint import Endpoint
from .http import Http, ProbeError, Reply
from .probe import PATHS, PROMPT, request_body

TIMEOUT_S = 60.0
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


class Api:
    """A server as the probes use it."""

    def __init__(self, http: Http, model: str | None) -> None:
        self.http = http
        self.model = model

    async def ask(self, kind: str = "chat", prompt: Any = PROMPT, **more: Any) -> Reply:
        """One short request at temperature 0; ``more`` over the body, None to leave a key out."""
        body = {**(request_body(kind, self.model, prompt) or {}), "max_tokens": 8, "temperature": 0, **more}
        return await self.post(PATHS[kind], {k: v for k, v in body.items() if v is not None})

    async def post(self, path: str, payload: Any) -> Reply:
        return await self.http.post(path, payload, timeout_s=TIMEOUT_S)

    async def events(self, kind: str, **more: Any) -> tuple[Reply, list[Any], bool]:
        """A stream: the reply, its JSON events, and whether it ended with [DONE]."""
        reply = await self.ask(kind, stream=True, **more)
        data = [line[5:].strip() for line in reply.text.splitlines() if line.startswith("data:")]
        return reply, [_parsed(d) for d in data if d != "[DONE]"], "[DONE]" in data


Probe = Callable[[Api], Awaitable[Outcome]]


async def probe_api(endpoint: Endpoint) -> dict[str, Outcome]:
    """Every behaviour with its outcome, in a fixed order; a request that gets no answer is an outcome too."""
    found = {}
    async with Http(endpoint) as http:
        api = Api(http, endpoint.model)
        for name, probe in PROBES.items():
            try:
                found[name] = await probe(api)
            except ProbeError as error:
                found[name] = Outcome(False, f"no answer ({error.reason})")
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _refused(reply: Reply) -> Outcome:
    return Outcome(False, f"status {reply.status}")


def _at(value: Any, *path: str | int) -> Any:
    """The value at ``path``; None where there is none."""
    for part in path:
        if isinstance(value, Mapping) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _text(reply: Reply, choice: int = 0) -> str:
    found = _at(reply.body, "choices", choice, "message", "content")
    return str(found if found is not None else _at(reply.body, "choices", choice, "text") or "")


def _checked(reply: Reply, works: bool, yes: str, no: str) -> Outcome:
    return _refused(reply) if not reply.ok else Outcome(works, yes if works else no)


async def _lists_model(api: Api) -> Outcome:
    reply = await api.http.get("/v1/models")
    names = [_at(m, "id") for m in _at(reply.body, "data") or []]
    return _checked(reply, api.model in names, "lists the model", "does not list the model")


def _answers(kind: str, prompt: Any = PROMPT) -> Probe:
    async def probe(api: Api) -> Outcome:
        reply = await api.ask(kind, prompt)
        return _checked(reply, bool(_text(reply)), "answers", "an empty answer")

    return probe


def _streams(kind: str) -> Probe:
    async def probe(api: Api) -> Outcome:
        reply, events, done = await api.events(kind)
        reasons = [_at(e, "choices", 0, "finish_reason") for e in events]
        works = len(events) > 1 and None not in events and any(reasons)
        said = "streams, ends with [DONE]" if done else "streams, without [DONE]"
        return _checked(reply, works, said, "no stream of events with a finish reason")

    return probe


async def _usage(api: Api) -> Outcome:
    reply = await api.ask()
    usage = _at(reply.body, "usage")
    parts = [_at(usage, k) for k in ("prompt_tokens", "completion_tokens", "total_tokens")]
    works = all(isinstance(p, int) for p in parts) and parts[0] + parts[1] == parts[2]
    return _checked(reply, works, "counts add up", "none, or counts that do not add up")


async def _stream_usage(api: Api) -> Outcome:
    reply, events, _ = await api.events("chat", stream_options={"include_usage": True})
    works = isinstance(_at(events[-1] if events else None, "usage", "completion_tokens"), int)
    return _checked(reply, works, "in the last event", "not in the last event")


async def _max_tokens(api: Api) -> Outcome:
    reply = await api.ask(max_tokens=3)
    reason, count = _at(reply.body, "choices", 0, "finish_reason"), _at(reply.body, "usage", "completion_tokens")
    works = reason == "length" and (count is None or count <= 3)
    return _checked(reply, works, "stops there, reason length", "not kept, or another reason")


async def _ignore_eos(api: Api) -> Outcome:
    reply = await api.ask(max_tokens=40, ignore_eos=True)
    works = _at(reply.body, "usage", "completion_tokens") == 40
    return _checked(reply, works, "exactly max_tokens", "not exactly max_tokens")


async def _stop(api: Api) -> Outcome:
    whole = await api.ask(max_tokens=16)
    words = _text(whole).split()
    if not whole.ok or len(words) < 3:
        return Outcome(False, "no answer of several words to stop in")
    word = words[len(words) // 2]
    cut = await api.ask(max_tokens=16, stop=[word])
    works = word not in _text(cut) and _at(cut.body, "choices", 0, "finish_reason") == "stop"
    return _checked(cut, works, "cuts the answer, reason stop", "does not cut the answer")


async def _logprobs(api: Api) -> Outcome:
    reply = await api.ask(logprobs=True, top_logprobs=2)
    first = _at(reply.body, "choices", 0, "logprobs", "content", 0)
    works = isinstance(_at(first, "logprob"), int | float)
    return _checked(reply, works, f"with {len(_at(first, 'top_logprobs') or [])} alternatives", "none")


async def _several(api: Api) -> Outcome:
    reply = await api.ask(n=2, temperature=1)
    count = len(_at(reply.body, "choices") or [])
    return _checked(reply, count == 2, "two answers", f"{count} answers")


def _repeats(**params: Any) -> Probe:
    async def probe(api: Api) -> Outcome:
        replies = [await api.ask(max_tokens=12, **params) for _ in range(3)]
        same = len({_text(r) for r in replies}) == 1 and bool(_text(replies[0]))
        return _checked(replies[0], same, "the same answer three times", "differing answers")

    return probe


def _json_mode(response_format: Mapping[str, Any]) -> Probe:
    async def probe(api: Api) -> Outcome:
        prompt = 'Answer with the JSON object {"ok": true} and nothing else.'
        reply = await api.ask(prompt=prompt, max_tokens=64, response_format=response_format)
        works = isinstance(_parsed(_text(reply)), dict)
        return _checked(reply, works, "an object", "accepted, but the answer is no object")

    return probe


async def _tools(api: Api) -> Outcome:
    choice = {"type": "function", "function": {"name": "add"}}
    reply = await api.ask(prompt="What is 2 plus 3?", max_tokens=64, tools=[TOOL], tool_choice=choice)
    call = _at(reply.body, "choices", 0, "message", "tool_calls", 0, "function")
    works = _at(call, "name") == "add" and isinstance(_parsed(str(_at(call, "arguments"))), dict)
    return _checked(reply, works, "calls the tool", "no call of the tool")


def _refuses(**more: Any) -> Probe:
    async def probe(api: Api) -> Outcome:
        return _refusal(await api.ask(**more))

    return probe


async def _refuses_no_object(api: Api) -> Outcome:
    return _refusal(await api.post(PATHS["chat"], []))


def _refusal(reply: Reply) -> Outcome:
    told = "a message" if _at(reply.body, "error", "message") or _at(reply.body, "message") else "no message"
    return Outcome(400 <= reply.status < 500, f"status {reply.status} with {told}" if not reply.ok else "accepted")


def _serves(path: str) -> Probe:
    async def probe(api: Api) -> Outcome:
        reply = await api.http.get(path)
        return _checked(reply, True, "there", "")

    return probe


CONVERSATION = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Say one."},
    {"role": "assistant", "content": "one"},
    {"role": "user", "content": "Now two."},
)
PARTS = ({"role": "user", "content": [{"type": "text", "text": PROMPT}]},)

PROBES: Mapping[str, Probe] = {
    "models": _lists_model,
    "chat": _answers("chat"),
    "completions": _answers("completions"),
    "chat streaming": _streams("chat"),
    "completions streaming": _streams("completions"),
    "usage": _usage,
    "usage when streaming": _stream_usage,
    "max_tokens": _max_tokens,
    "ignore_eos": _ignore_eos,
    "stop sequences": _stop,
    "logprobs": _logprobs,
    "several answers (n)": _several,
    "temperature 0 repeats": _repeats(),
    "seed repeats": _repeats(temperature=1.0, seed=7),
    "JSON mode": _json_mode({"type": "json_object"}),
    "JSON schema": _json_mode({"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
    "tool calls": _tools,
    "conversation with system message": _answers("chat", CONVERSATION),
    "content parts": _answers("chat", PARTS),
    "refuses an unknown model": _refuses(model="no-such-model-7f3a"),
    "refuses a request without messages": _refuses(messages=None),
    "refuses a negative max_tokens": _refuses(max_tokens=-5),
    "refuses a body that is no object": _refuses_no_object,
    "/health": _serves("/health"),
    "/metrics": _serves("/metrics"),
    "/version": _serves("/version"),
}
"""Behaviour -> its probe, in the order they are asked."""
