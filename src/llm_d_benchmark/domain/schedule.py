"""What is to be sent and when: turns, sessions, stages, and the one way to partition them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = Mapping[str, Any]
"""One chat message: {role, content, ...} as the OpenAI API takes it."""

Prompt = str | tuple[int, ...] | tuple[Message, ...]
"""A text, token ids, or the chat messages a turn adds to its conversation."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a session.

    Attributes:
        prompt: what this turn adds; in a conversation the engine puts the history before it.
        input_asked: prompt tokens asked for (the whole prompt as the server sees it), None where unknown.
        output_asked: output tokens asked for, None to let the server stop by itself.
        think_s: seconds to wait after the previous turn's answer.
        params: request parameters of this turn, over the stage's own.
    """

    prompt: Prompt
    input_asked: int | None = None
    output_asked: int | None = None
    think_s: float = 0.0
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """One or more turns sent one after another; a single request is a session of one turn.

    Attributes:
        session_id: number in the stage's schedule, unique within the run.
        first_request_id: request id of turn 0; turn t has first_request_id + t.
        offset_s: intended start in seconds after the stage's start; None in a closed loop.
        model: model or LoRA name to ask for.
    """

    session_id: int
    first_request_id: int
    turns: Sequence[Turn]
    model: str
    offset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The offered load of a stage.

    ``rate`` alone is an open loop; ``concurrency`` alone a closed loop; both an open loop with that cap.

    Attributes:
        arrival: the arrival process as configured: {type: constant | poisson | gamma | trace | ramp | ..., ...};
            ``unknown`` of results that do not tell.
        ramp_s: closed loop: seconds over which the users start.
    """

    rate: float | None = None
    concurrency: int | None = None
    arrival: Mapping[str, Any] = field(default_factory=lambda: {"type": "constant"})
    ramp_s: float = 0.0

    @property
    def open_loop(self) -> bool:
        return self.rate is not None or self.arrival.get("type") in ("trace", "ramp", "steps", "spikes")

    def label(self) -> str:
        """Short text for tables: ``10/s poisson``, ``c=8``, ``10/s, cap 8``."""
        if not self.open_loop:
            return "load not told" if self.concurrency is None else f"c={self.concurrency}"
        kind = str(self.arrival.get("type", "constant"))
        text = kind if self.rate is None else f"{self.rate:g}/s" if kind == "unknown" else f"{self.rate:g}/s {kind}"
        return f"{text}, cap {self.concurrency}" if self.concurrency else text

    def to_dict(self) -> dict[str, Any]:
        return {"rate": self.rate, "concurrency": self.concurrency, "arrival": dict(self.arrival), "ramp": self.ramp_s}


@dataclass(frozen=True, slots=True)
class Stage:
    """One piece of load with a window of its own.

    The load lasts ``warmup_s + duration_s + cooldown_s``, or until ``num_requests`` requests were released, or until
    the workload is exhausted, whichever comes first. The window starts after the warm-up and ends before the cool-down.
    """

    index: int
    name: str
    load: Load
    duration_s: float | None = None
    num_requests: int | None = None
    warmup_s: float = 0.0
    cooldown_s: float = 0.0
    streaming: bool = True
    endpoint: str = "chat"

    @property
    def load_s(self) -> float | None:
        """Length of the load in seconds; None where a number of requests bounds it."""
        return None if self.duration_s is None else self.warmup_s + self.duration_s + self.cooldown_s

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "load": self.load.to_dict(),
            "label": self.load.label(),
            "duration": self.duration_s,
            "num_requests": self.num_requests,
            "warmup": self.warmup_s,
            "cooldown": self.cooldown_s,
            "streaming": self.streaming,
            "endpoint": self.endpoint,
        }


def next_start(start_at: int | None, stage: Stage, drain_s: float) -> int | None:
    """When what follows a stage starts, where the stage started at the same instant (ns) on every machine: its planned
    end and the drain time later. None where no time was set, or only a number of requests ends the stage."""
    return None if start_at is None or stage.load_s is None else start_at + int((stage.load_s + drain_s) * 1e9)


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a stage source is told of a finished stage: enough to choose the next load.

    Attributes:
        sent, succeeded, failed: requests sent inside the window; what the drain cancelled is only sent.
        seconds: length of the window.
        requests_per_second: completions inside the window per second.
        output_tokens_per_second: content chunks inside the window per second (usage-scaled where known).
        goodput: requests/s that met every per-request limit; None without limits.
        ttft_p50, ttft_p99, e2e_p50: seconds; None where not observed.
        turns: requests of a session, on average; 1 but for conversations.
        client_limited: the client, not the server, was the bottleneck.
    """

    stage: Stage
    sent: int
    succeeded: int
    failed: int
    seconds: float
    requests_per_second: float
    output_tokens_per_second: float
    goodput: float | None = None
    ttft_p50: float | None = None
    ttft_p99: float | None = None
    e2e_p50: float | None = None
    turns: float = 1.0
    client_limited: bool = False


class StageSource(Protocol):
    """Where stages come from: a fixed list, or a search such as a sweep."""

    adaptive: bool

    def next(self, last: StageOutcome | None) -> Stage | None:
        """The next stage, given the outcome of the last one (None before the first); None when done."""
        ...

    def planned(self) -> Sequence[Stage]:
        """The stages known beforehand (of an adaptive source: those it may run at most)."""
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count`` of a schedule. Sessions are dealt out whole, one after another: of a load without a
    concurrency to the parts; of one with so many ``users`` to these, and the users to the parts. So every part has as
    much of the sessions as of the users, and none idles while others still have theirs to send."""

    index: int = 0
    count: int = 1

    def owns(self, session_position: int, users: int | None = None) -> bool:
        return session_position % (users or self.count) % self.count == self.index

    def split(self, parts: int) -> list[Shard]:
        """The same partition one level down: this shard's sessions dealt out over ``parts`` workers."""
        return [Shard(self.index + self.count * i, self.count * parts) for i in range(parts)]

    def users(self, total: int) -> range:
        """This shard's of ``total`` users."""
        return range(self.index, total, self.count)

    def share(self, total: int) -> int:
        """How many of ``total`` users are this shard's."""
        return len(self.users(total))

    def sessions(self, total: int, users: int | None = None) -> int:
        """How many of the first ``total`` sessions this shard owns."""
        rounds, rest = divmod(total, users or self.count)
        return rounds * self.share(users or self.count) + self.share(rest)

    def fraction(self, users: int | None = None) -> float:
        """This shard's part of a schedule, and so of its rate."""
        return self.share(users or self.count) / (users or self.count)
