"""What a collector is: a stream of samples that ends when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..domain.endpoint import Endpoint
from ..domain.events import Finding
from ..domain.samples import Samples

INTERVAL_S = 1.0
LAST_S = 10.0
"""Usual time for the last samples after the load's end."""
HURRY_S = 3.0
"""Time for them in a run that was interrupted."""


@dataclass(frozen=True, slots=True)
class CollectJob:
    """What every collector is told.

    Attributes:
        endpoint: the server under load; its key and TLS settings hold for metrics endpoints of the same host.
        stop: set when the load has ended: take one last sample, so that the window's end is covered, and return.
        clock_offset: ns to add to the monotonic clock to get epoch time; fixed for the run.
        log_dir: where logs of the server and the generator are.
        interval_s: seconds between two samples of a series.
        hurry: set when the run is to end at once: wait for nothing more, and say what is missing.
    """

    endpoint: Endpoint
    stop: asyncio.Event
    clock_offset: int
    log_dir: Path
    interval_s: float = INTERVAL_S
    hurry: asyncio.Event = field(default_factory=asyncio.Event)


class Collector(Protocol):
    """Collects from one source.

    ``collect`` yields batches as they come, at most some seconds old, and findings about what it cannot see. It raises
    nothing but ``CollectError``, when it has to give up; what it yielded before is kept. ``last_s``: seconds that it
    may take for its last samples after the load's end.
    """

    name: str
    last_s: float

    def collect(self, job: CollectJob) -> AsyncIterator[Samples | Finding]: ...


class CollectError(Exception):
    """A source that gives nothing any more. ``advice`` says what to do about it.

    Attributes:
        final: asking again would change nothing.
        status, body: of the HTTP answer, where there was one that was not 200.
    """

    def __init__(
        self,
        message: str,
        advice: str | None = None,
        *,
        final: bool = False,
        status: int | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.final = final
        self.status = status
        self.body = body


async def ticks(job: CollectJob) -> AsyncIterator[None]:
    """One tick per interval at absolute times, and a last one after the stop."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    while not job.stop.is_set():
        yield
        at = max(at + job.interval_s, loop.time())
        try:
            async with asyncio.timeout_at(at):
                await job.stop.wait()
        except TimeoutError:
            continue
    yield
