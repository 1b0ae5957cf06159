"""The measured window of each stage, from the events; of a run that died, from its plan and the records seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..domain.events import Event, EventType
from ..domain.records import MISSING
from ..domain.schedule import Shard
from .api import RunInput

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StageWindow:
    """A stage as it ran.

    Attributes:
        index: of the stage within the run.
        generator: name of the load generator.
        plan: the stage as ``Stage.to_dict`` says.
        start, end: the window, epoch ns; a request or a chunk at ``end`` is outside.
        ended: false where STAGE_END is missing and the window was derived.
        reason: why the load ended, as STAGE_END says it; empty where that is missing.
        position: of the load generator in the configuration; None where the events do not tell.
        told: what an external tool itself says of the stage, see ``EventType.STAGE_END``.
        known: what is known of the tool that makes it measure otherwise, by cause.
        share: the part of the planned load that is this run's: of one shard of several, or where shards are missing.
    """

    index: int
    generator: str
    plan: Mapping[str, Any]
    start: int
    end: int
    ended: bool
    told: Mapping[str, Any] = field(default_factory=dict)
    position: int | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    reason: str = ""

    @property
    def seconds(self) -> float:
        return max(0, self.end - self.start) / _S

    @property
    def load(self) -> Mapping[str, Any]:
        found = self.plan.get("load")
        return found if isinstance(found, Mapping) else {}

    @property
    def rate(self) -> float | None:
        value = self.load.get("rate")
        return None if value is None else float(value)

    @property
    def concurrency(self) -> int | None:
        value = self.load.get("concurrency")
        return None if value is None else int(value)

    @property
    def arrival(self) -> str:
        found = self.load.get("arrival")
        return str(found.get("type", "constant")) if isinstance(found, Mapping) else "constant"

    @property
    def open_loop(self) -> bool:
        return self.rate is not None or self.arrival in ("trace", "ramp", "steps", "spikes")


def stage_windows(run: RunInput) -> list[StageWindow]:
    """Windows by stage index. Of several shards' stages the common part is the window."""
    starts: dict[int, list[Event]] = {}
    ends: dict[int, list[Event]] = {}
    positions: dict[int, int] = {}
    position: int | None = None
    for event in run.events:
        if event.type is EventType.GENERATOR_START:
            position = int(event.data["index"])
        if event.type is EventType.STAGE_START:
            if position is not None:
                positions.setdefault(int(event.data["stage"]), position)
            starts.setdefault(int(event.data["stage"]), []).append(event)
        elif event.type is EventType.STAGE_END:
            ends.setdefault(int(event.data["stage"]), []).append(event)
    open_ended = {i for i in starts if len(ends.get(i, ())) < len(starts[i])}
    seen = _last_times(run, open_ended) if open_ended else {}
    found = [_window(i, starts.get(i, []), ends.get(i, []), seen.get(i)) for i in sorted(starts.keys() | ends.keys())]
    shards = _shards(run)
    return [replace(w, position=positions.get(w.index), share=_share(w, shards)) for w in found]


def _shards(run: RunInput) -> list[Shard]:
    """The parts of the schedule that are here."""
    if merged := run.manifest.get("merged_from"):
        return [Shard(int(i), len(merged) + len(run.missing_shards)) for i in merged]
    own = run.manifest.get("shard") or {}
    return [Shard(int(own.get("index", 0)), int(own.get("count", 1)))]


def _share(window: StageWindow, shards: list[Shard]) -> float:
    whole = window.concurrency or shards[0].count
    return sum(s.share(whole) for s in shards) / whole


def _window(index: int, starts: list[Event], ends: list[Event], seen: int | None) -> StageWindow:
    plan = {k: v for k, v in starts[0].data.items() if k not in ("stage", "generator", "start")} if starts else {}
    generator = str((starts or ends)[0].data.get("generator", "native"))
    if ends:
        start = max(int(e.data["window_start"]) for e in ends)
        end = min(int(e.data["window_end"]) for e in ends)
        whole, told, known = len(ends) >= len(starts), _of_tool(ends, "told"), _of_tool(ends, "known")
        reason = str(ends[0].data.get("reason", ""))
        return StageWindow(index, generator, plan, start, max(start, end), whole, told, known=known, reason=reason)
    begun = max(int(e.data.get("start", e.time)) for e in starts)
    start = begun + round(float(plan.get("warmup") or 0.0) * _S)
    end = seen if seen is not None else start
    if plan.get("duration") is not None:
        end = min(end, start + round(float(plan["duration"]) * _S))
    return StageWindow(index, generator, plan, start, max(start, end), False)


def _of_tool(ends: list[Event], name: str) -> Mapping[str, Any]:
    return next((e.data[name] for e in ends if isinstance(e.data.get(name), Mapping)), {})


def _last_times(run: RunInput, stages: set[int]) -> dict[int, int]:
    """The last moment seen in the records of each of these stages."""
    last: dict[int, int] = {}
    for part in run.parts():
        stage = part.ints("stage")
        for index in stages:
            mine = stage == index
            for name in ("sent", "end"):
                times = part.ints(name)[mine]
                times = times[times != MISSING]
                if len(times):
                    last[index] = max(last.get(index, MISSING), int(times.max()) + 1)
    return last
