"""The schedule of a stage: contents x arrivals -> sessions, and its rows as an artifact that replays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, islice, repeat
from typing import Any

from ..config.load import LoadConfig, ModelShare
from ..domain.errors import ConfigError
from ..domain.schedule import Session, Stage
from .api import Content, Workload
from .arrivals import offsets
from .replay import ROW_COLUMNS, STAGE_IDS, csv_line, head_line
from .seeds import Streams, Use

__all__ = [
    "ROW_COLUMNS",
    "STAGE_IDS",
    "SeededSchedule",
    "build_schedule",
    "released_rows",
    "schedule_csv",
    "schedule_rows",
]

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class SeededSchedule:
    """Sessions of a stage in order of their position; the same for every shard and every replay."""

    workload: Workload
    seed: int
    models: tuple[ModelShare, ...]
    default_model: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def sessions(self, stage: Stage) -> Iterator[Session]:
        contents = self.workload.contents(stage, self.seed)
        first = stage.index * STAGE_IDS
        models = self._models(stage)
        for position, (content, offset) in enumerate(_placed(contents, stage, self.seed)):
            model = next(models)
            yield Session(
                session_id=stage.index * STAGE_IDS + position,
                first_request_id=first,
                turns=content.turns,
                model=content.model or model,
                offset_s=offset,
            )
            first += len(content.turns)

    def _models(self, stage: Stage) -> Iterator[str]:
        """The model of each position."""
        if not self.models:
            yield from repeat(self.default_model)
        bounds = list(accumulate(m.weight for m in self.models))
        draws = Streams(self.seed, Use.MODEL)
        for position in count():
            mark = draws.at(stage.index, position).random() * bounds[-1]
            yield self.models[min(bisect_right(bounds, mark), len(bounds) - 1)].name


def _placed(contents: Iterator[Content], stage: Stage, seed: int) -> Iterator[tuple[Content, float | None]]:
    """Contents with their starts."""
    load = stage.load
    if not load.open_loop:
        return zip(contents, repeat(None), strict=False)
    if load.arrival["type"] != "trace":
        return zip(contents, offsets(stage, seed), strict=False)
    speedup = float(load.arrival.get("speedup", 1.0))
    return ((content, _own_start(content) / speedup) for content in contents)


def _own_start(content: Content) -> float:
    if content.offset_s is None:
        raise ConfigError(
            "arrival 'trace' needs a workload with times of its own, and this one has none",
            advice="use workload: {type: trace, path: ...}; the schedule of a closed loop replays with 'concurrency'",
        )
    return content.offset_s


def workload_options(load: LoadConfig) -> dict[str, Any]:
    """The options a workload is built with: its own, and the generator's lengths where it sets none itself."""
    lengths = {"input_length": load.input_length, "output_length": load.output_length}
    common = {k: v.model_dump(exclude_none=True) for k, v in lengths.items() if v is not None}
    return {**common, **load.workload}


def build_schedule(load: LoadConfig, workload: Workload, *, seed: int, default_model: str) -> SeededSchedule:
    """The schedule of one load generator."""
    return SeededSchedule(workload, seed, tuple(load.models), default_model, workload_options(load))


def schedule_csv(schedules: Sequence[tuple[SeededSchedule, Sequence[int]]], rows: Iterable[Row]) -> Iterator[str]:
    """The lines of the artifact that ``workload: {type: trace, path: ...}`` replays.

    Args:
        schedules: the schedule of each load generator with the numbers of its stages.
        rows: of all of them, from ``schedule_rows`` or ``released_rows``, each stage's together.
    """
    yield from (head_line(stages, schedule.options) for schedule, stages in schedules)
    yield csv_line(ROW_COLUMNS)
    yield from map(csv_line, rows)


def schedule_rows(schedule: SeededSchedule, stages: Sequence[Stage], limit: int) -> Iterator[Row]:
    """Rows (ROW_COLUMNS) of every request that an open loop or a bounded stage will release, ``limit`` at most.

    A closed loop bounded by time releases as many as the server answers: see ``released_rows``. Of a capped open loop
    these are the requests that are due; the cap may keep some from being sent.
    """
    return islice((row for stage in stages for row in _rows(schedule, stage)), limit)


def released_rows(schedule: SeededSchedule, stage: Stage, released: Mapping[int, float]) -> list[Row]:
    """Rows of what a stage really released, in order of time, so that they replay as an open loop.

    Args:
        released: seconds after the stage's start (``sent``, or ``scheduled``) by request id.
    """
    rows: list[tuple[float, Row]] = []
    left = set(released)
    for session in schedule.sessions(stage) if left else ():
        ids = range(session.first_request_id, session.first_request_id + len(session.turns))
        if session.first_request_id in left:
            start = released[session.first_request_id]
            sent = [number for number, request in enumerate(ids) if request in left]
            rows += [(start, _row(session, stage, number, start)) for number in sent]
        left.difference_update(ids)
        if not left:
            break
    return [row for _, row in sorted(rows, key=lambda entry: entry[0])]


def _rows(schedule: SeededSchedule, stage: Stage) -> Iterator[Row]:
    if not stage.load.open_loop and stage.num_requests is None:
        return
    left = stage.num_requests
    for session in schedule.sessions(stage):
        if stage.load_s is not None and session.offset_s is not None and session.offset_s >= stage.load_s:
            return
        turns = session.turns if left is None else session.turns[:left]
        for number in range(len(turns)):
            yield _row(session, stage, number, session.offset_s)
        left = None if left is None else left - len(turns)
        if left == 0:
            return


def _row(session: Session, stage: Stage, number: int, start: float | None) -> Row:
    turn = session.turns[number]
    request = session.first_request_id + number
    lengths = (turn.input_asked, turn.output_asked)
    return request, stage.index, session.session_id, number, start, session.model, *lengths
