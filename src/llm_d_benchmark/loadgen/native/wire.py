"""What the main process and a worker say to each other, pickled over a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...domain.endpoint import Endpoint
from ...domain.records import Records
from ...domain.schedule import Shard, Stage, Turn


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of a request in seconds, and what is tried again (``config.load.Timeouts`` and ``Retries`` as plain
    values: a worker that does not import the configuration starts in half the time)."""

    connect: float
    first_token: float
    total: float
    retries: int
    retry_on: frozenset[str]
    backoff: float


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Once per worker. ``tokenizer`` counts the output of a server that sends no usage; ``receiver`` is auto or python
    (see ``compiled``)."""

    worker: int
    shard: int
    endpoint: Endpoint
    limits: Limits
    params: Mapping[str, Any]
    clock_offset: int
    tokenizer: str | None = None
    receiver: str = "auto"


@dataclass(frozen=True, slots=True)
class StageOrder:
    """Begin a stage: get ready, and start the load when ``Go`` says. ``shard`` is this worker's part of the whole."""

    stage: Stage
    shard: Shard
    connections: int
    drain_s: float


class Item(NamedTuple):
    """One session of the schedule. ``request`` is the whole first request, encoded; ``turns`` has every turn where more
    than one follows (their bodies depend on the replies). A tuple, because a worker unpickles thousands a second."""

    request_id: int
    session: int
    offset_ns: int | None
    model: str
    request: bytes
    input_asked: int | None
    output_asked: int | None
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """The next sessions in order; ``last`` when the schedule is exhausted."""

    items: list[Item]
    last: bool


@dataclass(frozen=True, slots=True)
class Go:
    """Start the load at this time of the monotonic clock, ns."""

    start: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Release nothing more and cancel what is in flight."""


@dataclass(frozen=True, slots=True)
class Quit:
    """No more stages."""


Order = StageOrder | Feed | Go | Stop | Quit


@dataclass(frozen=True, slots=True)
class Ready:
    """Connected and waiting for Go."""


@dataclass(frozen=True, slots=True)
class More:
    """The worker has begun a block of the feed and wants another."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Finished requests."""

    records: Records


@dataclass(frozen=True, slots=True)
class Tick:
    """One interval of a worker: what happened, and its own load. Times are monotonic ns."""

    start: int
    end: int
    sent: int
    succeeded: int
    failed: int
    cancelled: int
    in_flight: int
    chunks: int
    output_tokens: int
    errors: Mapping[str, int]
    ttft_ns: list[int]
    delay_ns_max: int
    cpu: float
    receiver: str
    lag_ns: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StageDone:
    """All sessions of the stage are accounted for. Monotonic ns; ``last_end`` is None where nothing was sent."""

    load_end: int
    end: int
    last_end: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Crashed:
    """The worker met a bug; the text is its traceback."""

    text: str


Report = Ready | More | Batch | Tick | StageDone | Crashed
