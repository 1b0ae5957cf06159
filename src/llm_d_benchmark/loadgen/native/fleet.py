"""The worker processes as the main process sees them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from ...domain.errors import GeneratorError
from .spare import WorkerProcess, start_worker
from .wire import Crashed, Order, Quit, Report, WorkerSetup

STREAMS_PER_WORKER = 512
CLOSE_TIMEOUT_S = 2.0
_GONE = None


def worker_count(streams: int) -> int:
    """Workers for so many streams at once: one for every 512, but never more than there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, -(-streams // STREAMS_PER_WORKER)))


@dataclass(slots=True)
class _Member:
    process: subprocess.Popen[bytes]
    pipe: Pipe
    reader: threading.Thread


class Fleet:
    """Starts workers, sends them orders, and queues what they report."""

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._reports: asyncio.Queue[tuple[int, Report | None]] = asyncio.Queue()

    def start(self, setups: list[WorkerSetup], spare: WorkerProcess | None = None) -> None:
        """Start a worker for each setup; ``spare`` is one that was started before."""
        loop = asyncio.get_running_loop()
        for index, setup in enumerate(setups):
            worker = spare if index == 0 and spare is not None else start_worker()
            pipe = Pipe(worker.ours.detach())
            reader = threading.Thread(target=self._read, args=(index, pipe, loop), daemon=True)
            self._members.append(_Member(worker.process, pipe, reader))
            pipe.send(setup)
            reader.start()

    @property
    def size(self) -> int:
        return len(self._members)

    @property
    def pids(self) -> list[int]:
        return [m.process.pid for m in self._members]

    def send(self, index: int, order: Order) -> None:
        """Send an order; a dead worker is noticed by what it no longer reports."""
        with suppress(OSError):
            self._members[index].pipe.send(order)

    def broadcast(self, order: Order) -> None:
        for index in range(self.size):
            self.send(index, order)

    async def report(self, patience: float) -> tuple[int, Report] | None:
        """The next report and who made it; None when there was none in time.

        Raises:
            GeneratorError: a worker died or met a bug.
        """
        try:
            async with asyncio.timeout(patience):
                index, report = await self._reports.get()
        except TimeoutError:
            return None
        if report is _GONE:
            code = await asyncio.to_thread(self._members[index].process.wait)
            raise GeneratorError(
                f"worker {index} of the load generator ended unexpectedly (exit code {code})",
                advice="was it killed for memory? what was measured until then is kept",
            )
        if isinstance(report, Crashed):
            raise GeneratorError(f"worker {index} of the load generator met a bug:\n{report.text}")
        return index, report

    def close(self) -> None:
        """End every worker."""
        self.broadcast(Quit())
        for member in self._members:
            # A worker's end is the end of its pipe; waiting for the process itself with a limit would be polling.
            member.reader.join(CLOSE_TIMEOUT_S)
            if member.reader.is_alive():
                member.process.kill()
            member.process.wait()
            member.pipe.close()

    def _read(self, index: int, pipe: Pipe, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                report: Report | None = pipe.recv()
            except (EOFError, OSError):
                report = _GONE
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._reports.put_nowait, (index, report))
            if report is _GONE:
                return
