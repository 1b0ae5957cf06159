"""The smallest stage source and schedule, and one call that runs the native generator on them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import Records, Status
from llm_d_benchmark.domain.schedule import Load, Session, Stage, StageOutcome, Turn
from llm_d_benchmark.loadgen.api import LoadJob
from llm_d_benchmark.loadgen.native.generator import NativeLoadGenerator
from tests.support.openai_server import OpenAIServer


class Stages:
    """A list of stages; ``outcomes`` are what it was told of them."""

    def __init__(self, *stages: Stage, adaptive: bool = False) -> None:
        self.adaptive = adaptive
        self.outcomes: list[StageOutcome | None] = []
        self._stages = stages

    def next(self, last: StageOutcome | None) -> Stage | None:
        self.outcomes.append(last)
        position = len(self.outcomes) - 1
        return self._stages[position] if position < len(self._stages) else None

    def planned(self) -> Sequence[Stage]:
        return self._stages


@dataclass
class Sessions:
    """``count`` sessions (endless without), started by the stage's rate; ``turns`` are those of each."""

    turns: Sequence[Turn] = (Turn("one two three", input_asked=3, output_asked=4),)
    count: int | None = None
    first: int = 0
    offsets: Sequence[float] | None = None
    model: str = "test-model"

    def sessions(self, stage: Stage) -> Iterator[Session]:
        numbers: Iterable[int] = itertools.count() if self.count is None else range(self.count)
        for i in numbers:
            rate = stage.load.rate
            offset = self.offsets[i] if self.offsets else None if rate is None else i / rate
            yield Session(self.first + i, (self.first + i) * len(self.turns), self.turns, self.model, offset)


def closed(concurrency: int, **more: Any) -> Stage:
    return Stage(more.pop("index", 0), "closed", Load(concurrency=concurrency, ramp_s=more.pop("ramp_s", 0.0)), **more)


def open_loop(rate: float, cap: int | None = None, **more: Any) -> Stage:
    return Stage(more.pop("index", 0), "open", Load(rate=rate, concurrency=cap), **more)


@dataclass
class Ran:
    """What a run yielded."""

    records: Records
    events: list[Event]
    batches: list[Records]
    error: BaseException | None = None
    arrivals: list[tuple[float, Records | Event]] = field(default_factory=list)

    def of(self, kind: EventType) -> list[dict[str, Any]]:
        return [dict(e.data) for e in self.events if e.type is kind]

    def labels(self, column: str) -> list[str | None]:
        return self.records.labels(column).to_list()

    def count(self, status: Status) -> int:
        return self.records.labels("status").counts().get(status, 0)


def clock_offset() -> int:
    return time.time_ns() - time.monotonic_ns()


def make_job(server: OpenAIServer | Endpoint, stages: Stages, sessions: Sessions, folder: Path, **more: Any) -> LoadJob:
    endpoint = server if isinstance(server, Endpoint) else Endpoint(server.url, server.model)
    config = LoadConfig.model_validate({"workers": 1, **more.pop("config", {})})
    return LoadJob(
        endpoint=endpoint, config=config, stages=stages, schedule=sessions, log_dir=folder, stop=asyncio.Event(),
        clock_offset=more.pop("clock_offset", clock_offset()), **more,
    )  # fmt: skip


async def collect(items: AsyncIterator[Records | Event], each: Callable[[Records | Event], None] | None = None) -> Ran:
    """Everything a generator yields; an error it raises is kept beside what came before."""
    ran = Ran(Records.from_rows([]), [], [])
    try:
        async for item in items:
            ran.arrivals.append((time.monotonic(), item))
            if isinstance(item, Records):
                ran.batches.append(item)
            else:
                ran.events.append(item)
            if each is not None:
                each(item)
    except Exception as error:  # noqa: BLE001 - the test looks at it
        ran.error = error
    ran.records = Records.concat(ran.batches)
    return ran


def run(
    server: OpenAIServer | Endpoint,
    *stages: Stage,
    sessions: Sessions | None = None,
    folder: Path = Path(),
    stop_after: float | None = None,
    adaptive: bool = False,
    **more: Any,
) -> Ran:
    """Run stages to their end, or set ``stop`` so many seconds into the first. Raises what the generator raised."""

    async def go() -> Ran:
        job = make_job(server, Stages(*stages, adaptive=adaptive), sessions or Sessions(), folder, **more)

        def stop_in_time(item: Records | Event) -> None:
            if stop_after is not None and isinstance(item, Event) and item.type is EventType.STAGE_START:
                asyncio.get_running_loop().call_later(stop_after, job.stop.set)

        return await collect(NativeLoadGenerator().run(job), stop_in_time)

    ran = asyncio.run(go())
    if ran.error is not None:
        raise ran.error
    return ran
