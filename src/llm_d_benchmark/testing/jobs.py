"""What the suite of load generators runs: the smallest stages and schedules, and one call that runs a generator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.load import LoadConfig
from ..domain.clock import wall_clock_offset
from ..domain.endpoint import Endpoint
from ..domain.events import Event, EventType
from ..domain.records import Records
from ..domain.schedule import Load, Session, Shard, Stage, StageOutcome, Turn
from ..loadgen.api import LoadGenerator, LoadJob


class ListedStages:
    """Stages known beforehand; ``outcomes`` are what it was told of them."""

    def __init__(self, stages: Sequence[Stage], *, adaptive: bool = False) -> None:
        self.adaptive = adaptive
        self.outcomes: list[StageOutcome] = []
        self._stages = stages
        self._next = 0

    def next(self, last: StageOutcome | None) -> Stage | None:
        if last is not None:
            self.outcomes.append(last)
        self._next += 1
        return self._stages[self._next - 1] if self._next <= len(self._stages) else None

    def planned(self) -> Sequence[Stage]:
        return self._stages


@dataclass(frozen=True)
class NumberedSessions:
    """``count`` sessions a stage, numbered through all stages; ``turns`` in each; at the stage's constant rate."""

    count: int
    model: str
    turns: int = 1
    token_ids: bool = False

    def sessions(self, stage: Stage) -> Iterator[Session]:
        first = stage.index * self.count
        for k in range(self.count):
            number = (first + k) * self.turns
            turns = tuple(self._turn(number + t) for t in range(self.turns))
            offset = None if stage.load.rate is None else k / stage.load.rate
            yield Session(first + k, number, turns, self.model, offset)

    def _turn(self, number: int) -> Turn:
        if self.token_ids:
            return Turn((number, 2, 3), 3, 4)
        return Turn(f"Say the number {number}.", None, 4, params={"user": str(number)})


@dataclass(frozen=True)
class Outcome:
    """What a run yielded."""

    records: Records
    events: Sequence[Event]
    seconds: float
    clock_offset: int
    outcomes: Sequence[StageOutcome]

    def of(self, kind: EventType) -> list[Mapping[str, Any]]:
        return [event.data for event in self.events if event.type is kind]


def run(
    generator: LoadGenerator,
    endpoint: Endpoint,
    folder: Path,
    stages: Sequence[Stage],
    schedule: NumberedSessions,
    *,
    config: Mapping[str, Any],
    shard: Shard = Shard(),  # noqa: B008 - immutable
    stop_after: float | None = None,
    adaptive: bool = False,
    drain_s: float = 5.0,
) -> Outcome:
    """Run a generator to its end, or set ``stop`` after so many seconds."""

    async def go() -> Outcome:
        source = ListedStages(stages, adaptive=adaptive)
        job = LoadJob(
            endpoint=endpoint,
            config=LoadConfig.model_validate(dict(config)),
            stages=source,
            schedule=schedule,
            log_dir=folder,
            stop=asyncio.Event(),
            clock_offset=wall_clock_offset(),
            shard=shard,
            options={"drain_s": drain_s},
        )
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, job.stop.set)
        began = time.monotonic()
        records, events = await _split(generator.run(job))
        return Outcome(records, events, time.monotonic() - began, job.clock_offset, source.outcomes)

    return asyncio.run(go())


def closed(index: int, count: int, concurrency: int = 4, **more: Any) -> Stage:
    return Stage(index, f"stage {index}", Load(concurrency=concurrency), num_requests=count, **more)


def open_loop(count: int, rate: float, **more: Any) -> Stage:
    return Stage(0, "open", Load(rate=rate), num_requests=count, **more)


async def _split(items: AsyncIterator[Records | Event]) -> tuple[Records, list[Event]]:
    batches: list[Records] = []
    events: list[Event] = []
    async for item in items:
        if isinstance(item, Records):
            batches.append(item)
        else:
            events.append(item)
    return Records.concat(batches), events
