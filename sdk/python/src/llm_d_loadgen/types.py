"""What the tool says, as types. Members that a later version of the tool adds are passed over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

PROTOCOL = "llm-d-benchmark.loadgen/1"

ALL_CAPABILITIES = (
    "chat", "completions", "token_ids", "open_loop", "closed_loop", "streaming", "non_streaming", "conversations",
    "tls",
)  # fmt: skip
"""Everything ``serve`` drives; leave out what your ``send`` cannot do. Retries are not part of the kit."""

T = TypeVar("T")


@dataclass(frozen=True)
class Hello:
    """What holds for the whole run.

    Attributes:
        url: base URL of the server; ``Call.path`` comes behind it.
        headers: every header to send, with secrets in the clear: never log them.
        parameters: request parameters of the user; ``Call.body`` has them.
        verify_tls, ca_file: how to verify an https server.
        connect_s, first_token_s, total_s: time limits; the kit keeps the last two.
        config: ``native.config`` of the user's configuration.
    """

    url: str
    model: str | None
    headers: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, Any]
    verify_tls: bool
    ca_file: str | None
    connect_s: float
    first_token_s: float
    total_s: float
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One piece of load; ``concurrency`` is this generator's own share of it."""

    stage: int
    name: str
    endpoint: str
    streaming: bool
    open_loop: bool
    concurrency: int | None
    rate: float | None
    ramp_s: float
    load_s: float | None
    drain_s: float


@dataclass(frozen=True)
class Turn:
    """One request: exactly one of ``text``, ``token_ids`` and ``messages`` is there."""

    text: str | None = None
    token_ids: list[int] | None = None
    messages: list[dict[str, Any]] | None = None
    input_asked: int | None = None
    output_asked: int | None = None
    think_s: float = 0.0
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Session:
    """Turns that follow one another; turn t has the request id ``request_id`` + t."""

    session: int
    request_id: int
    model: str
    turns: list[Turn]
    offset_ns: int | None = None


def hello_of(message: Mapping[str, Any]) -> Hello:
    endpoint, limits = message["endpoint"], message["timeouts"]
    return Hello(
        url=endpoint["url"],
        model=endpoint["model"],
        headers=json.loads(os.environ.get(endpoint["headers_env"], "{}")),
        parameters=message["parameters"],
        verify_tls=endpoint["tls"]["verify"],
        ca_file=endpoint["tls"]["ca_file"],
        connect_s=limits["connect_s"],
        first_token_s=limits["first_token_s"],
        total_s=limits["total_s"],
        config=message["config"],
    )


def stage_of(message: Mapping[str, Any]) -> Stage:
    return _known(Stage, message)


def session_of(message: Mapping[str, Any]) -> Session:
    return _known(Session, {**message, "turns": [_known(Turn, turn) for turn in message["turns"]]})


def _known(kind: type[T], values: Mapping[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: v for k, v in values.items() if k in names})
