"""One stage with a custom generator: what is asked of it, and what it says, as records and events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from ...domain.errors import GeneratorError
from ...domain.events import Event, EventType, Finding, Severity
from ...domain.records import Records
from ...domain.schedule import Stage, StageOutcome
from ..api import LoadJob
from ..native.feeder import Dealer, bounded, streams
from ..native.outcome import OutcomeMeter, StageTimes, stage_times
from ..native.wire import StageDone
from .books import Books, client_event
from .child import Child
from .feed import Feed
from .messages import (
    Credit,
    ErrorNote,
    FromGenerator,
    Progress,
    Ready,
    RecordRows,
    SentNote,
    StageEnd,
    StageInfo,
    StageReady,
    Start,
    Stop,
)

POLL_S = 0.1
TICK_NS = 1_000_000_000
START_DELAY_NS = 50_000_000
DELAY_LIMIT_S = 0.010
END_SLACK_S = 10.0


def now_ns(job: LoadJob) -> int:
    """Epoch time by the run's clock."""
    return time.monotonic_ns() + job.clock_offset


class StageRun:
    """Carries out one stage; ``outcome`` is what an adaptive source is told, ``lost`` that the generator hung."""

    def __init__(self, job: LoadJob, child: Child, ready: Ready, stage: Stage) -> None:
        self.outcome: StageOutcome | None = None
        self.lost = False
        self._job, self._child, self._ready, self._stage = job, child, ready, stage
        self._books = Books(stage, job.shard.index)
        whole = bounded(job.schedule.sessions(stage), stage.num_requests)
        sessions = Dealer(whole, stage.load.concurrency, job.shard, 1).hand(0)
        self._feed = Feed(child, stage, sessions, self._books)
        self._meter = OutcomeMeter() if job.stages.adaptive else None
        self._end: StageEnd | None = None
        self._stopped: float | None = None
        self._cpu, self._cpu_since, self._start = 0.0, 0, 0

    async def run(self, not_before: int | None) -> AsyncIterator[Records | Event]:
        """What the stage yields. ``not_before``: epoch ns at which it starts at the earliest.

        Raises:
            ConfigError: the generator cannot do this stage.
            GeneratorError: it failed; what it reported until then has been yielded.
        """
        self._child.send(stage_info(self._job, self._stage))
        feeding = asyncio.create_task(self._feed.run())
        try:
            async for event in self._until_ready():
                yield event
            if self._job.stop.is_set():
                return
            await self._begin(not_before)
            yield self._started()
            failure: GeneratorError | None = None
            try:
                async for item in self._until_end(feeding):
                    yield item
            except GeneratorError as error:
                failure = error  # what was measured until then has a window and is kept
            for item in self._closing(failed=failure is not None):
                yield item
            if failure is not None:
                raise failure
        finally:
            feeding.cancel()
            with suppress(asyncio.CancelledError):
                await feeding

    async def _until_ready(self) -> AsyncIterator[Event]:
        deadline = time.monotonic() + self._child.settings.ready_timeout
        while not self._job.stop.is_set():
            message = await self._child.receive(POLL_S)
            if isinstance(message, StageReady):
                return
            if message is not None and not isinstance(message, Progress):
                async for item in self._take(message):
                    if isinstance(item, Event):
                        yield item
            if time.monotonic() > deadline:
                limit = self._child.settings.ready_timeout
                raise await self._child.failure(f"{self._ready.name} was not ready for stage {self._stage.index} "
                                                f"within {limit:g} s")  # fmt: skip

    async def _begin(self, not_before: int | None) -> None:
        self._start = max(now_ns(self._job) + START_DELAY_NS, not_before or 0)
        self._child.send(Start(self._stage.index, self._start))
        self._child.heard = time.monotonic() + max(0, self._start - now_ns(self._job)) / 1e9
        self._books.begin(self._start)
        self._cpu, self._cpu_since = await self._child.cpu_s(), self._start

    def _started(self) -> Event:
        data = {
            "stage": self._stage.index,
            "generator": self._ready.name,
            **self._stage.to_dict(),
            "start": self._start,
            "tool": {"name": self._ready.name, "version": self._ready.version},
        }
        return Event(EventType.STAGE_START, self._start, data)

    async def _until_end(self, feeding: asyncio.Task[None]) -> AsyncIterator[Records | Event]:
        next_tick = self._start + TICK_NS
        while self._end is None and not self.lost:
            if self._job.stop.is_set() and self._stopped is None:
                self._stopped = time.monotonic()
                feeding.cancel()
                self._child.send(Stop())
            now = now_ns(self._job)
            message = await self._child.receive(min(POLL_S, max(0, next_tick - now) / 1e9))
            if message is not None:
                async for item in self._take(message):
                    yield item
            if now_ns(self._job) >= next_tick:
                next_tick += TICK_NS
                yield self._books.interval(max(now_ns(self._job), self._start + 1))
            if feeding.done() and not feeding.cancelled():
                feeding.result()  # a schedule that cannot be made ends the run
            await self._look_for_hang()
        if self.lost:
            text = f"{self._ready.name} did not end within {self._child.settings.stop_grace:g} s of being stopped"
            yield self._finding("generator_killed", f"{text}; it was killed")

    async def _take(self, message: FromGenerator) -> AsyncIterator[Records | Event]:
        try:
            match message:
                case Credit():
                    if message.stage == self._stage.index:
                        self._feed.credit(message.sessions)
                case SentNote():
                    self._books.sent(message, now_ns(self._job))
                case RecordRows():
                    records = self._books.records(message.rows, now_ns(self._job))
                    if self._meter is not None:
                        self._meter.add(records)
                    yield records
                case Progress():
                    self._books.progress(message)
                    yield await self._client(message)
                case StageEnd() if message.stage == self._stage.index:
                    self._books.ended(message, now_ns(self._job))
                    self._end = message
                case ErrorNote() if message.fatal:
                    error = await self._child.failure(f"{self._ready.name}: {message.message}")
                    raise GeneratorError(error.message, advice=message.advice or error.advice)
                case ErrorNote():
                    yield self._finding("generator_note", message.message, message.advice)
                case _:
                    raise ValueError(f"'{type(message).__struct_config__.tag}' has no place in a stage")
        except ValueError as error:
            raise await self._child.failure(f"{self._ready.name} broke the protocol: {error}") from None

    async def _client(self, progress: Progress) -> Event:
        used, now = await self._child.cpu_s(), now_ns(self._job)
        seconds = max(1, now - self._cpu_since) / 1e9
        share = max(0.0, used - self._cpu) / seconds / self._ready.cores
        event = client_event(progress.lag, self._cpu_since, now, share)
        self._cpu, self._cpu_since = used, now
        return event

    async def _look_for_hang(self) -> None:
        """Raises GeneratorError for a generator that does not end or says nothing."""
        settings, name, now = self._child.settings, self._ready.name, time.monotonic()
        if self._stopped is not None:
            self.lost = now > self._stopped + settings.stop_grace
            return
        if now > self._child.heard + settings.silence_timeout:
            raise await self._child.failure(f"{name} said nothing for {settings.silence_timeout:g} s")
        idle_s = settings.idle_timeout + self._books.longest_think_s
        if now > self._books.active + idle_s and self._idle(idle_s):
            text = f"{name} has sent nothing for {idle_s:g} s, though requests are due and none is in flight"
            raise await self._child.failure(text)
        load = self._stage.load_s
        limit = None if load is None else load + self._job.drain_s + END_SLACK_S
        if limit is not None and now_ns(self._job) > self._start + int(limit * 1e9):
            raise await self._child.failure(
                f"{name} has not ended stage {self._stage.index} {limit:g} s after its start"
            )

    def _idle(self, limit_s: float) -> bool:
        """Whether something should have been sent so long ago."""
        if self._books.in_flight:
            return False
        before = now_ns(self._job) - int(limit_s * 1e9)
        offset = self._feed.next_offset_s()
        waits_for_credit = offset is not None and self._start + int(offset * 1e9) < before
        return waits_for_credit or self._books.due_before(before)

    def _closing(self, *, failed: bool) -> Iterator[Records | Event]:
        now = now_ns(self._job)
        why = "the generator never reported it"
        lost = self._books.abandoned(now, why)
        if len(lost):
            if self._meter is not None:
                self._meter.add(lost)
            yield lost
            if self._stopped is None and not failed:
                yield self._finding("requests_unreported", f"{len(lost)} requests were sent, but {why}")
        yield self._books.interval(max(now, self._start + 1))
        end = self._end
        done = (
            StageDone(now, now, self._books.last_end, "interrupted")
            if end is None
            else StageDone(end.load_end, max(end.end, end.load_end), self._books.last_end, end.reason)
        )
        times = stage_times(self._stage, self._start, [done])
        self.outcome = self._outcome(times)
        yield Event(EventType.STAGE_END, times.end, {"stage": self._stage.index, **times.to_dict()})

    def _outcome(self, times: StageTimes) -> StageOutcome | None:
        if self._meter is None:
            return None
        return self._meter.outcome(self._stage, times, self._job.goodput, delay_limit_s=DELAY_LIMIT_S)

    def _finding(self, code: str, message: str, advice: str | None = None) -> Event:
        finding = Finding(code, Severity.WARNING, message, advice or f"its log: {self._child.log}")
        return finding.event(now_ns(self._job))


def stage_info(job: LoadJob, stage: Stage) -> StageInfo:
    """A stage as this machine's generator is told of it.

    Raises:
        ConfigError: this machine would have no stream.
    """
    shard, load = job.shard, stage.load
    return StageInfo(
        stage=stage.index,
        name=stage.name,
        endpoint="chat" if stage.endpoint == "chat" else "completions",
        streaming=stage.streaming,
        open_loop=load.open_loop,
        concurrency=streams(load, shard),
        rate=None if load.rate is None else load.rate * shard.fraction(load.concurrency),
        arrival=dict(load.arrival),
        ramp_s=load.ramp_s,
        warmup_s=stage.warmup_s,
        duration_s=stage.duration_s,
        cooldown_s=stage.cooldown_s,
        load_s=stage.load_s,
        num_requests=stage.num_requests,
        drain_s=job.drain_s,
    )
