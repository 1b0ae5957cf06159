"""A worker process: one event loop, one pool of connections, one stage at a time.

Started as ``python -m llm_d_benchmark.loadgen.native.worker FD``; FD is its end of a socket pair. Threads do the
pickling and the blocking reads and writes, so that the loop never waits for the main process.
"""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe

import uvloop

from ...workload.tokenizer import token_counter
from .body import PATHS, request_head
from .compiled.connection import CompiledReceiver
from .compiled.library import ReceiverError
from .connection import monotonic_ns
from .load import StageLoad
from .pool import Pool
from .recorder import Recorder
from .wire import (
    Batch,
    Crashed,
    Feed,
    Go,
    More,
    Order,
    Quit,
    Ready,
    Report,
    StageDone,
    StageOrder,
    Stop,
    Tick,
    WorkerSetup,
)

LAG_TICK_S = 0.010
TICK_S = 1.0
FLUSH_S = 0.1
FLUSH_ROWS = 32


class LagMeter:
    """How late the event loop runs what is due: the client's own share of every measured time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lags: list[int] = []
        self._due = monotonic_ns() + int(LAG_TICK_S * 1e9)
        self._handle = loop.call_later(LAG_TICK_S, self._tick)

    def _tick(self) -> None:
        now = monotonic_ns()
        self._lags.append(max(0, now - self._due))
        self._due = now + int(LAG_TICK_S * 1e9)
        self._handle = self._loop.call_later(LAG_TICK_S, self._tick)

    def take(self) -> list[int]:
        lags, self._lags = self._lags, []
        return lags

    def close(self) -> None:
        self._handle.cancel()


class Worker:
    """Carries out the main process's orders."""

    def __init__(
        self, setup: WorkerSetup, reports: queue.SimpleQueue[Report | None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._setup = setup
        self._reports = reports
        self._loop = loop
        self._receiver = compiled_receiver(setup, loop)
        self._pool = Pool(setup.endpoint, setup.limits.connect, loop, self._receiver)
        self._recorder = Recorder(setup.shard, setup.worker, setup.clock_offset)
        self._heads = {kind: request_head(setup.endpoint, path) for kind, path in PATHS.items()}
        self._tokens = None if setup.tokenizer is None else token_counter(setup.tokenizer)
        self._stage: StageLoad | None = None
        self._lag: LagMeter | None = None
        self._tick_start = 0
        self._cpu = 0.0
        self._chunks = 0
        self._handles: list[asyncio.TimerHandle] = []
        self.quit = asyncio.Event()

    def order(self, order: Order) -> None:
        match order:
            case StageOrder():
                self._begin(order)
            case Feed() if self._stage is not None:
                self._stage.feed(order)
            case Go() if self._stage is not None:
                self._go(order.start)
            case Stop() if self._stage is not None:
                self._stage.stop()
            case Quit():
                self.quit.set()
            case _:
                pass  # the stage has just ended; what was on its way for it is void

    def _begin(self, order: StageOrder) -> None:
        self._stage = StageLoad(order, self._setup, self._pool, self._recorder, self._heads, self._report, self._tokens)
        # Nothing is collected while times are taken: a full collection would stop the loop for milliseconds.
        gc.collect()
        gc.freeze()
        gc.disable()
        warming = self._loop.create_task(self._pool.warm(order.connections))
        warming.add_done_callback(lambda _: self._reports.put(Ready()))
        self._warming = warming

    def _go(self, start: int) -> None:
        assert self._stage is not None
        self._tick_start = start
        self._cpu = time.process_time()
        self._chunks = 0
        if self._receiver is None:
            self._lag = LagMeter(self._loop)
        else:
            self._receiver.lags()  # those from before the load
        self._stage.go(start)
        self._handles = [
            self._loop.call_later(max(0.0, (start - monotonic_ns()) / 1e9) + TICK_S, self._tick),
            self._loop.call_later(FLUSH_S, self._flush),
        ]

    def _report(self, report: More | StageDone) -> None:
        if isinstance(report, StageDone):
            self._end(report)
        else:
            self._reports.put(report)

    def _end(self, done: StageDone) -> None:
        for handle in self._handles:
            handle.cancel()
        self._emit_records()
        self._emit_tick()
        if self._lag is not None:
            self._lag.close()
        self._stage = None
        gc.enable()
        gc.unfreeze()
        self._reports.put(done)

    def _flush(self) -> None:
        if len(self._recorder) >= FLUSH_ROWS or monotonic_ns() - self._flushed > 1_000_000_000:
            self._emit_records()
        self._handles[1] = self._loop.call_later(FLUSH_S, self._flush)

    _flushed = 0

    def _emit_records(self) -> None:
        self._flushed = monotonic_ns()
        if len(self._recorder):
            self._reports.put(Batch(self._recorder.take()))

    def _tick(self) -> None:
        self._emit_tick()
        at = self._tick_start + int(TICK_S * 1e9)
        self._handles[0] = self._loop.call_later(max(0.0, (at - monotonic_ns()) / 1e9), self._tick)

    def _emit_tick(self) -> None:
        stage = self._stage
        assert stage is not None
        now, cpu = monotonic_ns(), time.process_time()
        if now <= self._tick_start:
            return  # stopped before it began
        counts, stage.counts = stage.counts, type(stage.counts)()
        under_way = sum(len(s.exchange.body) for s in stage.active if s.exchange is not None)
        chunks = counts.chunks_decoded + under_way - self._chunks
        self._chunks = under_way
        seconds = max(1, now - self._tick_start) / 1e9
        self._reports.put(
            Tick(
                start=self._tick_start,
                end=now,
                sent=counts.sent,
                succeeded=counts.ended["ok"],  # type: ignore[index]
                failed=counts.ended["failed"],  # type: ignore[index]
                cancelled=counts.ended["cancelled"],  # type: ignore[index]
                in_flight=len(stage.active),
                chunks=max(0, chunks),
                output_tokens=counts.output_tokens,
                errors=dict(counts.errors),
                ttft_ns=counts.ttft_ns,
                delay_ns_max=counts.delay_ns_max,
                cpu=(cpu - self._cpu) / seconds,
                receiver="python" if self._receiver is None else "compiled",
                lag_ns=self._lags(),
            )
        )
        self._tick_start, self._cpu = now, cpu

    def _lags(self) -> list[int]:
        """How late whoever takes the times was."""
        if self._receiver is not None:
            return self._receiver.lags()
        return self._lag.take() if self._lag is not None else []

    def close(self) -> None:
        self._pool.close()
        if self._receiver is not None:
            self._receiver.close()


def _read(pipe: Pipe, worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
    """Thread: orders from the main process. Its death ends this process at once."""
    while True:
        try:
            order: Order = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        with suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(worker.order, order)
        if isinstance(order, Quit):
            return


def _write(pipe: Pipe, reports: queue.SimpleQueue[Report | None]) -> None:
    """Thread: reports to the main process."""
    while (report := reports.get()) is not None:
        try:
            pipe.send(report)
        except OSError:
            os._exit(1)


async def _serve(pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    try:
        setup: WorkerSetup = pipe.recv()
    except EOFError:
        return  # it was started ahead of a run that never came to its load
    reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
    failed: list[BaseException] = []
    worker = Worker(setup, reports, loop)

    def on_bug(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            failed.append(error)
            worker.quit.set()

    loop.set_exception_handler(on_bug)
    writer = threading.Thread(target=_write, args=(pipe, reports), daemon=True)
    writer.start()
    threading.Thread(target=_read, args=(pipe, worker, loop), daemon=True).start()
    await worker.quit.wait()
    worker.close()
    if failed:
        reports.put(Crashed("".join(traceback.format_exception(failed[0]))))
    reports.put(None)
    await asyncio.to_thread(writer.join)


def compiled_receiver(setup: WorkerSetup, loop: asyncio.AbstractEventLoop) -> CompiledReceiver | None:
    """The receiver in C, where there is one, it is wanted and the connections are not encrypted."""
    if setup.receiver == "python" or setup.endpoint.secure:
        return None
    try:
        return CompiledReceiver(loop)
    except ReceiverError:
        return None


def warm_connections(concurrency: int | None, rate: float | None) -> int:
    """Connections to open before a stage: one a stream of a closed loop, about a second's worth of an open one."""
    return min(concurrency or 4096, 4096 if rate is None else max(1, min(256, int(rate)))) if concurrency or rate else 1


def main(fd: int) -> None:
    # Ctrl-C reaches the whole group: the main process decides what becomes of the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Pipe(fd)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
