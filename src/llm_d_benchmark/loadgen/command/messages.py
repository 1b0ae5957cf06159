"""The messages of the protocol ``llm-d-benchmark.loadgen/1``, one JSON object a line; see docs/protocol.md.

These types are the protocol: lines are decoded and checked with them, and ``protocol-1.schema.json`` beside this file
is generated from them. Times are epoch nanoseconds unless the name says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

PROTOCOL = "llm-d-benchmark.loadgen/1"
HEADERS_ENV = "LLM_D_LOADGEN_HEADERS"
SCHEMA = Path(__file__).with_name("protocol-1.schema.json")

Count = Annotated[int, Meta(ge=0, lt=2**62)]
Time = Annotated[int, Meta(ge=0, lt=2**62)]
Text = Annotated[str, Meta(max_length=300)]

Capability = Literal[
    "chat", "completions", "token_ids", "open_loop", "closed_loop", "streaming", "non_streaming", "conversations",
    "retries", "tls",
]  # fmt: skip
Reason = Literal["duration", "exhausted", "interrupted"]


class _Sent(Struct, frozen=True, tag_field="type"):
    """From the tool to the generator."""


class TlsInfo(Struct, frozen=True):
    verify: bool
    ca_file: str | None


class EndpointInfo(Struct, frozen=True):
    """``headers_env`` names the environment variable that holds every header to send, as one JSON object."""

    url: str
    model: str | None
    headers_env: str
    tls: TlsInfo


class TimeoutInfo(Struct, frozen=True):
    connect_s: float
    first_token_s: float
    total_s: float


class RetryInfo(Struct, frozen=True):
    max: Count
    on: list[str]
    backoff_s: float


class ShardInfo(Struct, frozen=True):
    index: Count
    count: Annotated[int, Meta(ge=1)]


class Hello(_Sent, frozen=True, tag="hello"):
    """The first line: what holds for the whole run. ``config`` is the user's ``native.config``."""

    protocol: str
    tool_version: str
    endpoint: EndpointInfo
    parameters: dict[str, Any]
    timeouts: TimeoutInfo
    retries: RetryInfo
    shard: ShardInfo
    config: dict[str, Any]


class StageInfo(_Sent, frozen=True, tag="stage"):
    """Get ready for a stage. ``concurrency`` and ``rate`` are this generator's own share; ``load_s`` is the length of
    the load, None where only the schedule bounds it."""

    stage: Count
    name: str
    endpoint: Literal["chat", "completions"]
    streaming: bool
    open_loop: bool
    concurrency: Annotated[int, Meta(ge=1)] | None
    rate: float | None
    arrival: dict[str, Any]
    ramp_s: float
    warmup_s: float
    duration_s: float | None
    cooldown_s: float
    load_s: float | None
    num_requests: Count | None
    drain_s: float


class TurnInfo(Struct, frozen=True, omit_defaults=True):
    """One request. Exactly one of ``text``, ``token_ids`` and ``messages`` is there; ``params`` go over all others."""

    text: str | None = None
    token_ids: list[int] | None = None
    messages: list[dict[str, Any]] | None = None
    input_asked: Count | None = None
    output_asked: Count | None = None
    think_s: float = 0.0
    params: dict[str, Any] = {}


class SessionInfo(Struct, frozen=True, omit_defaults=True):
    """Turns that follow one another; turn t has the request id ``request_id`` + t."""

    session: Count
    request_id: Count
    model: str
    turns: Annotated[list[TurnInfo], Meta(min_length=1)]
    offset_ns: Count | None = None


class Schedule(_Sent, frozen=True, tag="schedule"):
    """The next sessions, no more than the generator gave credit for; ``last``: no more follow in this stage."""

    stage: Count
    sessions: list[SessionInfo]
    last: bool


class Start(_Sent, frozen=True, tag="start"):
    """Start the load ``at`` this time, from which the offsets count."""

    stage: Count
    at: Time


class Stop(_Sent, frozen=True, tag="stop"):
    """End the stage under way early: release nothing more, cancel what is in flight, report the rest."""


class Quit(_Sent, frozen=True, tag="quit"):
    """No more stages: say done and exit."""


class _Told(Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    """From the generator to the tool."""


class Ready(_Told, frozen=True, tag="ready"):
    """Answer to hello. ``cores``: how many it can use at once; its CPU time is judged against them."""

    protocol: str
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    version: Text
    capabilities: list[Capability]
    cores: Annotated[int, Meta(ge=1, le=4096)] = 1


class StageReady(_Told, frozen=True, tag="stage_ready"):
    """Connected and waiting for start."""

    stage: Count


class Credit(_Told, frozen=True, tag="credit"):
    """That many more sessions may be sent."""

    stage: Count
    sessions: Annotated[int, Meta(ge=1, le=1_000_000)]


class SentNote(_Told, frozen=True, tag="sent"):
    """Requests that are under way since these times; each of them comes in a later ``records``."""

    requests: list[Count]
    times: list[Time]


class Row(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One finished request: the published record columns that only the generator knows. The tool knows the others."""

    request_id: Count
    status: Literal["ok", "failed", "cancelled"]
    sent: Time
    end: Time
    ready: Time | None = None
    first_token: Time | None = None
    last_token: Time | None = None
    connect: Count | None = None
    chunk_times: list[Annotated[int, Meta(ge=0, lt=2**31)]] = []
    chunk_tokens: list[Annotated[int, Meta(ge=0, lt=2**31)]] = []
    input_tokens: Count | None = None
    input_source: Literal["usage", "tokenizer"] | None = None
    output_tokens: Count | None = None
    output_source: Literal["usage", "tokenizer", "chunks"] | None = None
    cached_tokens: Count | None = None
    finish_reason: Text | None = None
    error_class: (
        Literal[
            "connect", "tls", "http_4xx", "http_429", "http_5xx", "redirect", "timeout_connect", "timeout_first_token",
            "timeout_total", "protocol", "truncated", "server_error_event", "no_content",
        ]
        | None
    ) = None  # fmt: skip
    error: Text | None = None
    http_status: Annotated[int, Meta(ge=100, le=999)] | None = None
    attempts: Annotated[int, Meta(ge=1)] = 1
    worker: Count = 0


class RecordRows(_Told, frozen=True, tag="records"):
    """Finished requests, each in exactly one message, at most a second after its end."""

    rows: list[Row]


class LagInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """How late timers of the generator fired, over ``ticks`` of them."""

    p50_us: float
    p99_us: float
    max_us: float
    ticks: Annotated[int, Meta(ge=1)]


class Progress(_Told, frozen=True, tag="progress"):
    """Once a second, also where nothing happens: content chunks received since the last one, and the timers' lag."""

    chunks: Count = 0
    lag: LagInfo | None = None


class StageEnd(_Told, frozen=True, tag="stage_end"):
    """Everything sent is reported. ``load_end``: when the release ended; ``end``: when the last request had ended."""

    stage: Count
    load_end: Time
    end: Time
    reason: Reason


class ErrorNote(_Told, frozen=True, tag="error"):
    """The generator cannot go on; where it is not ``fatal``, it can, and the user should know."""

    message: Annotated[str, Meta(min_length=1, max_length=2000)]
    advice: str | None = None
    fatal: bool = True


class Done(_Told, frozen=True, tag="done"):
    """Answer to quit, the last line."""


ToGenerator = Hello | StageInfo | Schedule | Start | Stop | Quit
FromGenerator = Ready | StageReady | Credit | SentNote | RecordRows | Progress | StageEnd | ErrorNote | Done

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(FromGenerator)


def encode(message: ToGenerator) -> bytes:
    """One line, its end included."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> FromGenerator:
    """A line of the generator.

    Raises:
        ValueError: it is no message of the protocol; the text says what is wrong where.
    """
    message: FromGenerator = _decoder.decode(line)
    return message


def schema() -> dict[str, Any]:
    """The JSON Schema of both directions: ``$defs/ToGenerator`` and ``$defs/FromGenerator``."""
    (to, back), parts = msgspec.json.schema_components((ToGenerator, FromGenerator), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": PROTOCOL,
        "anyOf": [{"$ref": "#/$defs/ToGenerator"}, {"$ref": "#/$defs/FromGenerator"}],
        "$defs": {"ToGenerator": to, "FromGenerator": back, **parts},
    }
