"""schedule.csv: what a run sent and when it was meant to start, in the form that a trace workload replays exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..config.model import BenchmarkConfig
from ..domain.events import Event, EventType
from ..domain.records import MISSING, Records
from ..workload.replay import ROW_COLUMNS, csv_line, head_line
from ..workload.schedule import workload_options

_INTS = ("request_id", "stage", "session", "turn", "scheduled", "sent", "input_asked", "output_asked")


def schedule_lines(config: BenchmarkConfig, events: Sequence[Event], parts: Iterable[Records]) -> Iterator[str]:
    """The lines of the artifact: a session starts at its scheduled time, in a closed loop when it was really sent."""
    starts: dict[int, int] = {}
    stages: dict[int, list[int]] = {}
    generator = 0
    for event in events:
        if event.type is EventType.GENERATOR_START:
            generator = int(event.data["index"])
        elif event.type is EventType.STAGE_START:
            starts[int(event.data["stage"])] = int(event.data["start"])
            stages.setdefault(generator, []).append(int(event.data["stage"]))
        elif event.type is EventType.STAGE_END:  # an external tool's load starts well after its stage
            starts[int(event.data["stage"])] = int(event.data["start"])
    for index, numbers in stages.items():
        yield head_line(numbers, workload_options(config.spec.benchmark.load_generators[index].config))
    yield csv_line(ROW_COLUMNS)
    yield from _rows(starts, list(parts))


def _rows(starts: dict[int, int], parts: Sequence[Records]) -> Iterator[str]:
    if not parts:
        return
    column = {name: np.concatenate([p.ints(name) for p in parts]) for name in _INTS}
    models = [m for p in parts for m in p.labels("model").to_list()]
    begun = np.where(column["scheduled"] == MISSING, column["sent"], column["scheduled"])
    first = {
        int(session): int(at)
        for session, turn, at in zip(column["session"], column["turn"], begun, strict=True)
        if turn == 0
    }
    at = np.asarray(
        [first.get(s, b) for s, b in zip(column["session"].tolist(), begun.tolist(), strict=True)], np.int64
    )
    for i in np.lexsort((column["turn"], column["session"], at, column["stage"])).tolist():
        stage = int(column["stage"][i])
        asked = [
            None if column[name][i] == MISSING else int(column[name][i]) for name in ("input_asked", "output_asked")
        ]
        seconds = (int(at[i]) - starts.get(stage, int(at[i]))) / 1e9
        ids = (int(column["request_id"][i]), stage, int(column["session"][i]), int(column["turn"][i]))
        yield csv_line((*ids, seconds, models[i], *asked))
