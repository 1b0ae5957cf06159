"""The schedule of a stage: contents x arrivals -> sessions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count, repeat
from typing import Any

from ..config.load import LoadConfig, ModelShare
from ..domain.errors import ConfigError
from ..domain.schedule import Session, Stage
from .api import Content, Workload
from .arrivals import offsets
from .replay import STAGE_IDS
from .seeds import Streams, Use


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
    return SeededSchedule(workload, seed, tuple(load.models), default_model)
