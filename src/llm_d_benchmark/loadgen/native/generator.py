"""The native load generator as the runner sees it: stages in, records and events out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from ...config.load import LoadConfig
from ...domain.errors import BenchmarkError, GeneratorError
from ...domain.events import Event, EventType, Finding, Severity
from ...domain.records import Records
from ...domain.schedule import Stage, StageOutcome, next_start
from ..api import LoadJob
from .connection import monotonic_ns
from .feeder import Dealer, Feeder, bounded, streams
from .fleet import Fleet, worker_count
from .intervals import Intervals, client_event
from .outcome import OutcomeMeter, StageTimes, stage_times
from .pool import tls_context
from .wire import Batch, Go, Limits, More, Ready, StageDone, StageOrder, Stop, Tick, WorkerSetup
from .worker import warm_connections

POLL_S = 0.1
START_DELAY_NS = 20_000_000
READY_TIMEOUT_S = 60.0
DELAY_LIMIT_S = 0.010
RECEIVERS = ("auto", "python")
LONGEST_S = 2100  # chunk times are microseconds in 32 bits, which 2147 s fill


class NativeLoadGenerator:
    """Worker processes on uvloop and httptools; see docs/engine.md."""

    name = "native"

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        """The engine carries out every common key; of its own it has ``receiver``."""
        found = []
        if unknown := sorted(set(config.native) - {"receiver"}):
            found.append(
                Finding(
                    "native_keys",
                    Severity.ERROR,
                    f"the native generator has no key of its own named {', '.join(unknown)}, only 'receiver'",
                    "use the common keys; 'parameters' passes request parameters through",
                )
            )
        if (receiver := config.native.get("receiver", "auto")) not in RECEIVERS:
            text = f"native.receiver is {receiver!r}; it takes {' or '.join(RECEIVERS)}"
            found.append(Finding("native_receiver", Severity.ERROR, text))
        if (total := config.timeouts.total) > LONGEST_S:
            text = f"timeouts.total is {total:g} s; the times of a request's chunks are kept up to {LONGEST_S} s"
            found.append(Finding("native_total_timeout", Severity.ERROR, text, "set it to 35m or less"))
        return found

    async def run(self, job: LoadJob) -> AsyncIterator[Records | Event]:
        if job.endpoint.secure:
            tls_context(job.endpoint.tls)  # a mistake shows here and not in every worker
        fleet = Fleet()
        try:
            fleet.start(_setups(job), job.options.get("worker"))
            last: StageOutcome | None = None
            run = _Stages(job, fleet)
            while not job.stop.is_set() and (stage := job.stages.next(last)) is not None:
                async for item in run.stage(stage):
                    yield item
                last = run.outcome
        finally:
            fleet.close()


def _setups(job: LoadJob) -> list[WorkerSetup]:
    most = max((s.load.concurrency or 1 for s in job.stages.planned()), default=1)
    count = job.config.workers or worker_count(job.shard.share(most))
    timeouts, retries = job.config.timeouts, job.config.retries
    limits = Limits(
        timeouts.connect,
        timeouts.first_token,
        timeouts.total,
        retries.max,
        frozenset(map(str, retries.on)),
        retries.backoff,
    )
    return [
        WorkerSetup(
            worker=index,
            shard=job.shard.index,
            endpoint=job.endpoint,
            limits=limits,
            params=job.config.parameters,
            clock_offset=job.clock_offset,
            tokenizer=None if job.tokenizer is None else str(job.tokenizer),
            receiver=str(job.config.native.get("receiver", "auto")),
        )
        for index in range(count)
    ]


def _workers_of(stage: Stage, job: LoadJob, most: int) -> int:
    """Workers that take part in a stage: no more than it has streams.

    Raises:
        ConfigError: this machine would have none.
    """
    return min(most, streams(stage.load, job.shard) or most)


class _Stages:
    """Carries out one stage after another on a fleet."""

    def __init__(self, job: LoadJob, fleet: Fleet) -> None:
        self._job = job
        self._fleet = fleet
        self._not_before = job.start_at
        self._failure: BenchmarkError | None = None
        self.outcome: StageOutcome | None = None

    async def stage(self, stage: Stage) -> AsyncIterator[Records | Event]:
        job, fleet = self._job, self._fleet
        workers = _workers_of(stage, job, fleet.size)
        sessions = bounded(job.schedule.sessions(stage), stage.num_requests)
        dealer = Dealer(sessions, stage.load.concurrency, job.shard, workers)
        feeders = [Feeder(dealer.hand(k), stage, job.endpoint, job.config.parameters) for k in range(workers)]
        if not await self._ready(stage, feeders):
            return
        start = self._start_time(stage)
        for worker in range(workers):
            fleet.send(worker, Go(start))
        offset = job.clock_offset
        yield Event(
            EventType.STAGE_START,
            start + offset,
            {"stage": stage.index, "generator": "native", **stage.to_dict(), "start": start + offset},
        )
        meter = OutcomeMeter() if job.stages.adaptive else None
        intervals = Intervals(workers, stage.index, offset)
        done: dict[int, StageDone] = {}
        stopping = False
        while len(done) < workers:
            if (job.stop.is_set() or self._failure) and not stopping:
                stopping = True
                fleet.broadcast(Stop())
            if (told := await fleet.report(POLL_S)) is None:
                continue
            worker, report = told
            match report:
                case More():
                    self._feed(worker, feeders[worker])
                case Batch():
                    if meter:
                        meter.add(report.records)
                    yield report.records
                case Tick():
                    yield client_event(worker, report, offset)
                    if (event := intervals.add(worker, report)) is not None:
                        yield event
                case StageDone():
                    done[worker] = report
        for event in intervals.rest():
            yield event
        times = stage_times(stage, start, list(done.values())).shifted(offset)
        self.outcome = self._outcome(meter, stage, times)
        yield Event(EventType.STAGE_END, times.end, {"stage": stage.index, **times.to_dict()})
        if self._failure:
            raise self._failure

    def _feed(self, worker: int, feeder: Feeder) -> None:
        """Send a worker its next block. A workload that fails ends the stage, but not before all that was sent is
        accounted for."""
        if feeder.exhausted or self._failure:
            return
        try:
            self._fleet.send(worker, feeder.next())
        except BenchmarkError as error:
            self._failure = error

    async def _ready(self, stage: Stage, feeders: list[Feeder]) -> bool:
        """Hand out the stage and its first blocks, and wait until every worker is connected; False when the run was
        stopped before that."""
        for index, (feeder, shard) in enumerate(zip(feeders, self._job.shard.split(len(feeders)), strict=True)):
            limit = stage.load.concurrency
            share = None if limit is None else shard.share(limit)
            rate = None if stage.load.rate is None else stage.load.rate * shard.fraction(limit)
            self._fleet.send(index, StageOrder(stage, shard, warm_connections(share, rate), self._job.drain_s))
            self._fleet.send(index, feeder.next())
            if not feeder.exhausted:
                self._fleet.send(index, feeder.next())
        waiting = set(range(len(feeders)))
        deadline = time.monotonic() + READY_TIMEOUT_S
        while waiting:
            told = await self._fleet.report(POLL_S)
            if told is not None and isinstance(told[1], Ready):
                waiting.discard(told[0])
            if self._job.stop.is_set():
                return False
            if time.monotonic() > deadline:
                raise GeneratorError(f"{len(waiting)} workers were not ready within {READY_TIMEOUT_S:g} s")
        return True

    def _start_time(self, stage: Stage) -> int:
        """As soon as all are ready; with ``start_at``, at the same instant on every machine: stages of known length
        follow one another at their planned ends plus the drain time."""
        now = monotonic_ns() + START_DELAY_NS
        if self._not_before is None:
            return now
        start = max(now, self._not_before - self._job.clock_offset)
        self._not_before = next_start(self._not_before, stage, self._job.drain_s)
        return start

    def _outcome(self, meter: OutcomeMeter | None, stage: Stage, times: StageTimes) -> StageOutcome | None:
        if meter is None:
            return None
        return meter.outcome(stage, times, self._job.goodput, delay_limit_s=DELAY_LIMIT_S)


__all__ = ["NativeLoadGenerator"]
