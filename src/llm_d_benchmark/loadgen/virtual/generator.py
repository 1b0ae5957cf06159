"""The load generator as the runner sees it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import numpy as np

from ...config.load import LoadConfig
from ...domain.errors import ConfigError, GeneratorError
from ...domain.events import Event, EventType, Finding, Severity
from ...domain.records import Records, Status
from ...domain.schedule import Stage, StageOutcome
from ...simulator.deployment import VirtualDeployment
from ..api import LoadJob
from ..native.feeder import bounded
from ..native.outcome import OutcomeMeter, stage_times
from ..native.wire import StageDone
from .prompts import HEARD
from .recorder import Recorder
from .stage import VirtualStage

CALLS = 2000
ROWS = 2000
INTERVAL_S = 1.0


class VirtualLoadGenerator:
    """Runs a job in simulated time. ``job.options["deployment"]`` is the ``VirtualDeployment``."""

    name = "virtual"

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        found = []
        if config.native:
            keys = ", ".join(sorted(config.native))
            found.append(
                Finding("native_keys", Severity.ERROR, f"the virtual generator takes no 'native' keys: {keys}")
            )
        if config.workers is not None:
            message = "in virtual time there are no worker processes; 'workers' changes nothing"
            found.append(Finding("workers_without_effect", Severity.INFO, message))
        if unheard := sorted(config.parameters.keys() - HEARD):
            found.append(
                Finding(
                    "parameters_without_effect",
                    Severity.INFO,
                    f"in virtual time these parameters change nothing: {', '.join(unheard)}",
                )
            )
        return found

    async def run(self, job: LoadJob) -> AsyncIterator[Records | Event]:
        deployment = job.options.get("deployment")
        if not isinstance(deployment, VirtualDeployment):
            raise ConfigError(
                "the load generator 'virtual' needs a simulated deployment",
                advice="set spec.target: {type: simulator}, or use the load generator native",
            )
        if job.shard.count > 1:
            raise ConfigError(
                "a run in virtual time cannot be sharded: every part would have the whole server to itself",
                advice="run it on one machine; it takes one core",
            )
        last: StageOutcome | None = None
        with _no_collection():
            while not job.stop.is_set() and (stage := job.stages.next(last)) is not None:
                run = _Run(job, stage, deployment)
                async for item in run.items():
                    yield item
                last = run.outcome


@contextmanager
def _no_collection() -> Iterator[None]:
    """What a request leaves behind has no cycles: looking for them again and again is a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class _Tick:
    start: int
    chunks: int


class _Run:
    """One stage, with its events."""

    def __init__(self, job: LoadJob, stage: Stage, deployment: VirtualDeployment) -> None:
        self.outcome: StageOutcome | None = None
        self._job, self._stage, self._deployment = job, stage, deployment
        self._loop, self._cluster = deployment.loop, deployment.cluster
        self._recorder = Recorder(deployment.epoch)
        self._load = VirtualStage(
            stage,
            bounded(job.schedule.sessions(stage), stage.num_requests),
            self._cluster,
            self._recorder,
            job.config,
            job.drain_s,
        )
        self._events: list[Event] = []
        self._ticks = count(1)
        self._last = _Tick(deployment.now_ns(), self._cluster.generated())
        self._meter = OutcomeMeter() if job.stages.adaptive else None

    async def items(self) -> AsyncIterator[Records | Event]:
        """The events and records of the stage, as they come."""
        start, index = self._last.start, self._stage.index
        yield Event(
            EventType.STAGE_START,
            start,
            {"stage": index, "generator": "virtual", **self._stage.to_dict(), "start": start},
        )
        load, stop = self._load, self._job.stop
        self._schedule_tick()
        load.begin()
        while not load.done:
            if stop.is_set():
                load.stop()
            elif not self._loop.run(CALLS) and not load.done:
                raise GeneratorError("the simulation came to a standstill with requests under way")
            for item in self._ready(ROWS):
                yield item
            # Whoever wants to stop the run is heard here.
            await asyncio.sleep(0)
        self._loop.cancel(self._timer)
        self._tick()
        for item in self._ready(1):
            yield item
        ended = StageDone(self._ns(load.load_end), self._ns(load.end), self._ns_or_none(load.last_end), load.reason)
        times = stage_times(self._stage, start, [ended])
        if self._meter is not None:
            self.outcome = self._meter.outcome(self._stage, times, self._job.goodput, delay_limit_s=float("inf"))
        yield Event(EventType.STAGE_END, times.end, {"stage": index, **times.to_dict()})
        if load.failure:
            raise load.failure

    def _ready(self, rows: int) -> Iterator[Records | Event]:
        events, self._events = self._events, []
        yield from events
        if len(self._recorder) >= rows or (events and len(self._recorder)):
            records = self._recorder.take()
            if self._meter is not None:
                self._meter.add(records)
            yield records

    def _schedule_tick(self) -> None:
        self._timer = self._loop.at(self._load.start + INTERVAL_S * next(self._ticks), self._on_tick)

    def _on_tick(self) -> None:
        self._tick()
        if not self._load.done:
            self._schedule_tick()

    def _tick(self) -> None:
        """One interval. The client's own load is left out: there is no client."""
        load, now = self._load, self._deployment.now_ns()
        if now <= self._last.start:
            return
        counts, load.counts = load.counts, type(load.counts)()
        generated = self._cluster.generated() if self._stage.streaming else 0
        data = {
            "stage": self._stage.index,
            "start": self._last.start,
            "end": now,
            "sent": counts.sent,
            "succeeded": counts.ended[Status.OK],
            "failed": counts.ended[Status.FAILED],
            "cancelled": counts.ended[Status.CANCELLED],
            "in_flight": len(load.active),
            "chunks": generated - self._last.chunks if self._stage.streaming else 0,
            "output_tokens": counts.output_tokens,
            "errors": dict(counts.errors),
        }
        if counts.ttft:
            data["ttft_ms_p50"] = round(float(np.median(counts.ttft)) * 1e3, 3)
        self._events.append(Event(EventType.INTERVAL, now, data))
        self._last = _Tick(now, generated)

    def _ns(self, seconds: float) -> int:
        return self._deployment.epoch + round(seconds * 1e9)

    def _ns_or_none(self, seconds: float | None) -> int | None:
        return None if seconds is None else self._ns(seconds)


__all__ = ["VirtualLoadGenerator"]
