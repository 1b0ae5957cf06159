"""``type: threads``: a load generator inside the tool, on nothing but threads and http.client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.events import Event, EventType, Finding, Severity
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.schedule import Session, Stage
from llm_d_benchmark.loadgen.api import LoadJob

from .request import Request

MOST_THREADS = 256


class ThreadsLoadGenerator:
    """Streaming chat, one turn a session. A request takes a thread for as long as it lasts."""

    name = "threads"

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        """Everything this generator would do differently is an error: the run is refused, and says why."""
        cannot = {
            "completions": config.endpoint == "completions",
            "requests that are not streamed": not config.streaming,
            "conversations": config.workload.get("type") == "conversation",
            "retries": config.retries.max > 0,
            "sweeps": config.sweep is not None,
            "ramps": any(shape.ramp for shape in (config, *config.stages)),
            "'workers'": config.workers is not None,
            "keys of its own": bool(config.native),
        }
        return [
            Finding("threads_cannot", Severity.ERROR, f"the generator 'threads' cannot do {what}", "use native")
            for what, asked in cannot.items()
            if asked
        ]

    async def run(self, job: LoadJob) -> AsyncIterator[Records | Event]:
        with ThreadPoolExecutor(MOST_THREADS) as pool:
            while not job.stop.is_set() and (stage := job.stages.next(None)) is not None:
                async for item in _StageRun(job, stage, pool).run():
                    yield item


class _StageRun:
    """One stage: everything but the requests themselves runs on the event loop."""

    def __init__(self, job: LoadJob, stage: Stage, pool: ThreadPoolExecutor) -> None:
        self._job, self._stage, self._pool = job, stage, pool
        streams = stage.load.concurrency
        self._streams = MOST_THREADS if streams is None else job.shard.share(streams)
        self._free: asyncio.Queue[int] = asyncio.Queue()  # places, since when each is free
        self._requests: set[Request] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._last_end = 0

    def _now(self) -> int:
        return time.monotonic_ns() + self._job.clock_offset

    async def run(self) -> AsyncIterator[Records | Event]:
        job, stage = self._job, self._stage
        start = told = max(self._now() + 20_000_000, job.start_at or 0)
        cpu = time.process_time()
        yield self._event(EventType.STAGE_START, start, generator="threads", **stage.to_dict(), start=start)
        work = asyncio.create_task(self._work(start))
        lag_ms = 0.0
        while not work.done() or self._rows or self._counts["sent"]:
            due = time.monotonic() + 0.1
            await asyncio.wait({work}, timeout=0.1)
            lag_ms = max(lag_ms, (time.monotonic() - due) * 1e3)
            if self._rows:
                rows, self._rows = self._rows, []
                yield Records.from_rows(rows)
            now = self._now()
            if now - told >= 1_000_000_000 or (work.done() and now > told):
                yield self._interval(told, now, lag_ms)
                share = (time.process_time() - cpu) / (now - told) * 1e9
                lag = {"p50": lag_ms, "p99": lag_ms, "max": lag_ms}  # all that is known is the worst
                yield self._event(
                    EventType.CLIENT, now, worker="0", start=told, end=now, cpu=share, loop_lag_ms=lag, ticks=1
                )
                told, cpu, lag_ms = now, time.process_time(), 0.0
        load_end, reason = work.result()
        yield self._stage_end(start, load_end, reason)

    def _event(self, kind: EventType, at: int, **data: Any) -> Event:
        return Event(kind, at, {"stage": self._stage.index, **data})

    def _interval(self, start: int, end: int, lag_ms: float) -> Event:
        counts, self._counts = self._counts, Counter()
        errors, self._errors = self._errors, Counter()
        names = ("sent", "succeeded", "failed", "cancelled", "chunks", "output_tokens")
        return self._event(
            EventType.INTERVAL, end, start=start, end=end, **{name: counts[name] for name in names},
            in_flight=len(self._requests), errors=dict(errors), loop_lag_ms_max=lag_ms,
            schedule_delay_ms_max=counts["delay_ns"] / 1e6,
        )  # fmt: skip

    def _stage_end(self, start: int, load_end: int, reason: str) -> Event:
        stage, end = self._stage, max(self._last_end, load_end)
        window_start = start + int(stage.warmup_s * 1e9)
        window_end = load_end if reason == "interrupted" else self._last_end - int(stage.cooldown_s * 1e9)
        if reason == "duration":
            window_end = window_start + int((stage.duration_s or 0) * 1e9)
        return self._event(
            EventType.STAGE_END, end, start=start, load_end=load_end, end=end, reason=reason,
            window_start=window_start, window_end=max(window_start, window_end),
        )  # fmt: skip

    async def _work(self, start: int) -> tuple[int, str]:
        """Release, wait for the answers, cancel what is left; when the release ended, and why."""
        job, limit = self._job, self._stage.load_s
        release = asyncio.create_task(self._release(start))
        stop = asyncio.create_task(job.stop.wait())
        left = None if limit is None else max(0.0, (start - self._now()) / 1e9 + limit)
        await asyncio.wait({release, stop}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        reason = "interrupted" if stop.done() else "requests" if release.done() else "duration"
        if release.done():
            release.result()
        release.cancel()
        load_end = self._now()
        if self._tasks and not stop.done():
            answers = asyncio.create_task(asyncio.wait(set(self._tasks)))
            drain = float(job.options.get("drain_s", 60.0))
            await asyncio.wait({answers, stop}, timeout=drain, return_when=asyncio.FIRST_COMPLETED)
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._tasks)
        stop.cancel()
        return load_end, reason

    async def _release(self, start: int) -> None:
        await self._until(start)
        for _ in range(self._streams):
            self._free.put_nowait(start)
        count = self._stage.num_requests
        for position, session in enumerate(self._job.schedule.sessions(self._stage)):
            if count is not None and position >= count:
                return
            if not self._job.shard.owns(position):
                continue
            due = None if session.offset_s is None else start + round(session.offset_s * 1e9)
            if due is not None:
                await self._until(due)
            ready = max(due or 0, await self._free.get())
            request = Request(self._job, self._stage, session, ready, due)
            self._requests.add(request)
            self._counts["sent"] += 1
            task = asyncio.create_task(self._one(request, session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, request: Request, session: Session) -> None:
        row = await asyncio.get_running_loop().run_in_executor(self._pool, request.send)
        self._requests.discard(request)
        if row.get("error_class") == "connect":
            await asyncio.sleep(0.05)  # a server that is gone must not busy the client
        self._free.put_nowait(self._now())
        self._last_end = max(self._last_end, row["end"])
        self._rows.append(row)
        self._counts["succeeded" if row["status"] == "ok" else row["status"]] += 1
        self._counts["chunks"] += len(row["chunk_times"])
        self._counts["output_tokens"] += row["output_tokens"] or 0
        self._counts["delay_ns"] = max(self._counts["delay_ns"], row["sent"] - row["ready"])
        if row["error_class"]:
            self._errors[row["error_class"]] += 1

    async def _until(self, at: int) -> None:
        await asyncio.sleep(max(0, at - self._now()) / 1e9)


__all__ = ["ThreadsLoadGenerator"]
