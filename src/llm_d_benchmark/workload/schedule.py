"""The schedule of a stage: contents x arrivals -> sessions, and its rows as an artifact that replays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from ..config.load import LoadConfig, ModelShare
from ..domain.schedule import Session, Stage
from .api import Content, Workload
from .arrivals import offsets
from .seeds import Use, generator

STAGE_IDS = 2**32
"""Request and session ids of stage s start at s * STAGE_IDS, so that every shard numbers alike."""

ROW_COLUMNS = ("request_id", "stage", "session", "turn", "timestamp", "model", "input_length", "output_length")


@dataclass(frozen=True, slots=True)
class SeededSchedule:
    """Sessions of a stage in order of their position; the same for every shard and every replay."""

    workload: Workload
    seed: int
    models: tuple[ModelShare, ...]
    default_model: str

    def sessions(self, stage: Stage) -> Iterator[Session]:
        contents = self.workload.contents(stage, self.seed)
        first = stage.index * STAGE_IDS
        for position, (content, offset) in enumerate(_placed(contents, stage, self.seed)):
            yield Session(
                session_id=stage.index * STAGE_IDS + position,
                first_request_id=first,
                turns=content.turns,
                model=content.model or self._model(stage, position),
                offset_s=offset,
            )
            first += len(content.turns)

    def _model(self, stage: Stage, position: int) -> str:
        if not self.models:
            return self.default_model
        total = sum(m.weight for m in self.models)
        mark = generator(self.seed, Use.MODEL, stage.index, position).random() * total
        for share in self.models:
            mark -= share.weight
            if mark < 0:
                return share.name
        return self.models[-1].name


def _placed(contents: Iterator[Content], stage: Stage, seed: int) -> Iterator[tuple[Content, float | None]]:
    """Contents with their starts."""
    load = stage.load
    if not load.open_loop:
        return zip(contents, repeat(None), strict=False)
    if load.arrival["type"] != "trace":
        return zip(contents, offsets(stage, seed), strict=False)
    speedup = float(load.arrival.get("speedup", 1.0))
    return ((c, (c.offset_s or 0.0) / speedup) for c in contents)


def build_schedule(load: LoadConfig, workload: Workload, *, seed: int, default_model: str) -> SeededSchedule:
    """The schedule of one load generator."""
    return SeededSchedule(workload, seed, tuple(load.models), default_model)


def schedule_rows(schedule: SeededSchedule, stages: Sequence[Stage], limit: int) -> Iterator[tuple[object, ...]]:
    """Rows (ROW_COLUMNS) of every request that an open loop or a bounded stage will release, ``limit`` at most.

    A closed loop bounded by time releases as many as the server answers; its requests are in the records.
    """
    rows = chain.from_iterable(_rows(schedule, stage) for stage in stages)
    for _, row in zip(range(limit), rows, strict=False):
        yield row


def _rows(schedule: SeededSchedule, stage: Stage) -> Iterator[tuple[object, ...]]:
    if not stage.load.open_loop and stage.num_requests is None:
        return
    left = stage.num_requests
    for session in schedule.sessions(stage):
        if stage.load_s is not None and session.offset_s is not None and session.offset_s >= stage.load_s:
            return
        for number, turn in enumerate(session.turns):
            if left is not None and left <= 0:
                return
            left = None if left is None else left - 1
            yield (
                session.first_request_id + number,
                stage.index,
                session.session_id,
                number,
                session.offset_s,
                session.model,
                turn.input_asked,
                turn.output_asked,
            )
