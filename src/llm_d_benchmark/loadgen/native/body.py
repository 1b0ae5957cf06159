"""Requests as bytes: the JSON bodies of the OpenAI API in an HTTP/1.1 envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ...domain.endpoint import Endpoint, headers_over
from ...domain.errors import ConfigError
from ...domain.schedule import Message, Prompt, Turn

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
SESSION_TOKEN = b"x-session-token"
"""The header by which the llm-d router's session affinity names the replica to the client, and the client to it."""


def request_head(endpoint: Endpoint, path: str) -> bytes:
    """Request line and headers up to the value of Content-Length, which ``envelope`` completes."""
    url = urlsplit(endpoint.url)
    defaults = {
        "Host": url.netloc.rpartition("@")[2],
        "User-Agent": "llm-d-benchmark",
        "Accept": "*/*",
        "Content-Type": "application/json",
    }
    headers = headers_over(endpoint.all_headers(), defaults)
    for name, value in headers.items():
        if "\r" in name + value or "\n" in name + value:
            raise ConfigError(f"header '{name}' holds a line break")
    lines = [f"POST {url.path.rstrip('/')}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")


def envelope(head: bytes, body: bytes, session: int | None = None, token: bytes | None = None) -> bytes:
    """A whole request.

    Args:
        session: the conversation it is a turn of, which a router may keep on one replica.
        token: what the router gave with an earlier turn's answer to be sent with the next.
    """
    if session is None:
        return b"%s%d\r\n\r\n%s" % (head, len(body), body)
    echo = b"" if token is None else b"\r\n%s: %s" % (SESSION_TOKEN, token)
    return b"%s%d\r\nx-session-id: %d%s\r\n\r\n%s" % (head, len(body), session, echo, body)


def messages_of(prompt: Prompt) -> list[Message]:
    """What a turn adds to a chat.

    Raises:
        ConfigError: token ids, which the chat API cannot take.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if prompt and isinstance(prompt[0], int):
        raise ConfigError("token-id prompts need 'endpoint: completions'")
    return [m for m in prompt if isinstance(m, Mapping)]


def text_of(prompt: Prompt) -> str | list[int]:
    """What a turn sends to the completions API: text or token ids; of chat messages, their contents."""
    if isinstance(prompt, str):
        return prompt
    if prompt and isinstance(prompt[0], int):
        return [t for t in prompt if isinstance(t, int)]
    return "\n".join(str(m.get("content", "")) for m in prompt if isinstance(m, Mapping))


def body(
    turn: Turn,
    *,
    model: str,
    endpoint: str,
    streaming: bool,
    params: Mapping[str, Any],
    history: Sequence[Message] = (),
    history_text: str = "",
) -> bytes:
    """The JSON body of one turn. ``params`` of the stage, then those of the turn, override everything else."""
    fields: dict[str, Any] = {"model": model}
    if endpoint == "chat":
        fields["messages"] = [*history, *messages_of(turn.prompt)]
    else:
        text = text_of(turn.prompt)
        fields["prompt"] = history_text + text if isinstance(text, str) else text
    if turn.output_asked is not None:
        fields["max_tokens"] = turn.output_asked
    fields["stream"] = streaming
    if streaming:
        fields["stream_options"] = {"include_usage": True}
    fields.update(params)
    fields.update(turn.params)
    return msgspec.json.encode(fields)
