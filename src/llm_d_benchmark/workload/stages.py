"""Stages from the configuration of a load generator: a fixed list, or a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..config.load import LoadConfig, Shape, load_of
from ..domain.schedule import Load, Stage, StageOutcome, StageSource
from .sweep import SweepSource

DEFAULT_CONCURRENCY = 4
SHAPED = ("ramp", "steps", "spikes")


class FixedStages:
    """Stages known beforehand, one after another."""

    adaptive = False

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._next = 0

    def next(self, last: StageOutcome | None) -> Stage | None:
        if self._next == len(self._stages):
            return None
        self._next += 1
        return self._stages[self._next - 1]

    def planned(self) -> Sequence[Stage]:
        return self._stages


def stage_source(
    load: LoadConfig, *, duration_s: float, warmup_s: float, cooldown_s: float, first_index: int, endpoint: str
) -> StageSource:
    """The stages of one load generator.

    What a stage does not set it takes from the generator's keys, and those from ``spec.benchmark``. A number of
    requests without a duration of its own bounds the stage alone; with one, whichever comes first. A rate that takes
    its course over the load always has a duration.
    """

    def stage(index: int, name: str | None, shape: Shape, load_shape: Load) -> Stage:
        def own(key: str) -> Any:
            value = getattr(shape, key)
            return getattr(load, key) if value is None else value

        count = own("num_requests")
        duration = own("duration")
        if duration is None and (count is None or load_shape.arrival["type"] in SHAPED):
            duration = duration_s
        return Stage(
            index=index,
            name=name or load_shape.label(),
            load=load_shape,
            duration_s=duration,
            num_requests=count,
            warmup_s=warmup_s if own("warmup") is None else own("warmup"),
            cooldown_s=cooldown_s if own("cooldown") is None else own("cooldown"),
            streaming=load.streaming,
            endpoint=endpoint,
        )

    if load.sweep is not None:
        template = replace(_load(load), concurrency=load.concurrency)  # beside a rate a cap, where one was asked for
        return SweepSource(load.sweep, stage(first_index, None, load, template))
    if not load.stages:
        return FixedStages([stage(first_index, None, load, _load(load))])
    return FixedStages([stage(first_index + i, s.name, s, _load(load_of(s, load))) for i, s in enumerate(load.stages)])


def _load(shape: Shape) -> Load:
    process = {"type": "constant"} if shape.arrival is None else shape.arrival.model_dump(exclude_none=True)
    concurrency = shape.concurrency
    if shape.request_rate is None and concurrency is None and process["type"] not in ("trace", "ramp", "steps"):
        concurrency = DEFAULT_CONCURRENCY
    return Load(rate=shape.request_rate, concurrency=concurrency, arrival=process, ramp_s=shape.ramp or 0.0)
