"""What every load generator must do, as tests: subclass ``LoadGeneratorConformance`` and give it two fixtures.

class TestMine(LoadGeneratorConformance):
    @pytest.fixture
    def generator(self):
        return MyLoadGenerator()

    @pytest.fixture
    def endpoint(self):
        return Endpoint("http://127.0.0.1:8000", "model")   # a server that answers well
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..config.load import LoadConfig
from ..domain.endpoint import Endpoint
from ..domain.events import Event, EventType
from ..domain.records import MISSING, RECORD_COLUMNS, Records, Status
from ..domain.schedule import Load, Session, Shard, Stage, StageOutcome, Turn
from ..loadgen.api import LoadGenerator, LoadJob


class _Stages:
    adaptive = False

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._next = 0

    def next(self, last: StageOutcome | None) -> Stage | None:
        self._next += 1
        return self._stages[self._next - 1] if self._next <= len(self._stages) else None

    def planned(self) -> Sequence[Stage]:
        return self._stages


class _Sessions:
    def __init__(self, count: int, model: str) -> None:
        self._count = count
        self._model = model

    def sessions(self, stage: Stage) -> Iterator[Session]:
        first = stage.index * self._count
        for i in range(first, first + self._count):
            yield Session(i, i, (Turn(f"Say the number {i}.", None, 4),), self._model)


class LoadGeneratorConformance:
    """Tests of one load generator against a server that answers well. Needs no pytest plugin."""

    def test_it_has_a_name_and_takes_the_common_keys(self, generator: LoadGenerator) -> None:
        assert generator.name
        found = generator.check(LoadConfig(concurrency=2, num_requests=4))
        assert inspect.isawaitable(found) is False
        assert [f.message for f in found if f.severity == "error"] == []

    def test_every_request_is_recorded_once_with_all_columns(
        self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path
    ) -> None:
        records, _ = _run(generator, endpoint, tmp_path, stages=2, count=12)
        assert set(records.columns) == {c.name for c in RECORD_COLUMNS}
        assert sorted(records.ints("request_id").tolist()) == list(range(24))
        assert records.labels("status").counts() == {"ok": 24}
        for stage in (0, 1):
            assert int((records.ints("stage") == stage).sum()) == 12

    def test_times_are_epoch_and_in_order(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        before = time.time_ns()
        records, _ = _run(generator, endpoint, tmp_path, stages=1, count=8)
        after = time.time_ns()
        sent, first, last, end = (records.ints(n) for n in ("sent", "first_token", "last_token", "end"))
        assert (sent > before).all()
        assert (end < after).all()
        known = first != MISSING
        assert known.any()
        assert (sent[known] <= first[known]).all()
        assert (first[known] <= last[known]).all()
        assert (last[known] <= end[known]).all()
        chunks = records.ragged("chunk_times")
        for row in np.flatnonzero(chunks.lengths > 0):
            times = chunks.row(int(row))
            assert (np.diff(times) >= 0).all()
            assert abs(int(times[0]) * 1000 - int(first[row] - sent[row])) < 1_000_000

    def test_each_stage_has_its_events(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        _, events = _run(generator, endpoint, tmp_path, stages=2, count=8)
        starts = [e for e in events if e.type is EventType.STAGE_START]
        ends = [e for e in events if e.type is EventType.STAGE_END]
        assert [e.data["stage"] for e in starts] == [0, 1]
        assert [e.data["stage"] for e in ends] == [0, 1]
        for end in ends:
            assert end.data["window_start"] <= end.data["window_end"] <= end.data["end"]
        intervals = [e for e in events if e.type is EventType.INTERVAL]
        assert sum(e.data["sent"] for e in intervals) == 16

    def test_a_shard_sends_its_own_part(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        records, _ = _run(generator, endpoint, tmp_path, stages=1, count=9, shard=Shard(1, 2))
        assert sorted(records.ints("request_id").tolist()) == [1, 3, 5, 7]
        assert set(records.ints("shard").tolist()) == {1}

    def test_stop_ends_it_and_loses_nothing(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        began = time.monotonic()
        records, events = _run(generator, endpoint, tmp_path, stages=1, count=1_000_000, stop_after=1.5)
        assert time.monotonic() - began < 15
        ids = records.ints("request_id").tolist()
        assert len(set(ids)) == len(ids) > 0
        counts = records.labels("status").counts()
        assert sum(counts.get(s, 0) for s in Status) == len(records)
        assert sum(e.data["sent"] for e in events if e.type is EventType.INTERVAL) == len(records)


def _run(
    generator: LoadGenerator,
    endpoint: Endpoint,
    folder: Path,
    *,
    stages: int,
    count: int,
    shard: Shard = Shard(),  # noqa: B008 - immutable
    stop_after: float | None = None,
) -> tuple[Records, list[Event]]:
    loads = [Stage(i, f"stage {i}", Load(concurrency=4), num_requests=count) for i in range(stages)]

    async def go() -> tuple[Records, list[Event]]:
        job = LoadJob(
            endpoint=endpoint,
            config=LoadConfig(concurrency=4, num_requests=count, native=native or {}),
            stages=_Stages(loads),
            schedule=_Sessions(count, endpoint.model or ""),
            log_dir=folder,
            stop=asyncio.Event(),
            clock_offset=time.time_ns() - time.monotonic_ns(),
            shard=shard,
        )
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, job.stop.set)
        return await _split(generator.run(job))

    return asyncio.run(go())


async def _split(items: AsyncIterator[Records | Event]) -> tuple[Records, list[Event]]:
    batches: list[Records] = []
    events: list[Event] = []
    async for item in items:
        if isinstance(item, Records):
            batches.append(item)
        else:
            events.append(item)
    return Records.concat(batches), events
