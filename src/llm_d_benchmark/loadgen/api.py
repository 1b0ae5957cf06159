"""The extension point for load generators: one protocol with one method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..config.load import LoadConfig
from ..domain.endpoint import Endpoint
from ..domain.events import Event, Finding
from ..domain.records import Records
from ..domain.schedule import Shard, StageSource
from ..workload.api import Schedule


@dataclass(frozen=True, slots=True)
class LoadJob:
    """Everything a load generator needs for one run.

    Attributes:
        endpoint: the server, ready to take requests, its model known.
        config: the common keys of this generator's configuration; ``config.native`` is its own pass-through.
        stages: fixed or adaptive source of stages; the generator asks for the next when one has ended.
        schedule: the sessions of a stage, seeded and replayable.
        goodput: per-request limits in seconds by metric name (ttft, tpot, itl, e2e).
        shard: the part of the schedule this machine owns.
        start_at: epoch ns at which the first stage starts; None: as soon as ready.
        log_dir: where a generator may leave its own logs and native files.
        stop: set by the caller to end the run early: release nothing more, cancel what is in flight, yield the rest.
        clock_offset: ns to add to the monotonic clock to get epoch time; fixed for the run.
        first_stage: index of this generator's first stage within the run.
        tokenizer: folder or tokenizer.json of the target's own tokenizer, where it is known.
        template_tokens: tokens that the server's chat template adds to a prompt, as was measured.
    """

    endpoint: Endpoint
    config: LoadConfig
    stages: StageSource
    schedule: Schedule
    log_dir: Path
    stop: asyncio.Event
    clock_offset: int
    goodput: Mapping[str, float] = field(default_factory=dict)
    shard: Shard = field(default_factory=Shard)
    start_at: int | None = None
    first_stage: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    template_tokens: int = 0

    @property
    def drain_s(self) -> float:
        """How long answers are awaited after the load of a stage."""
        return float(self.options.get("drain_s", 60.0))


class LoadGenerator(Protocol):
    """Puts load on an endpoint.

    ``run`` yields every request exactly once in some ``Records`` batch, no batch older than five seconds, and the
    events STAGE_START, INTERVAL (about one a second), CLIENT and STAGE_END of each stage. It returns when all stages
    are done, or ``job.stop`` was set and everything in flight has been accounted for. It raises ``GeneratorError``
    when it cannot go on.
    """

    name: str

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        """What of this configuration the generator cannot do, or does differently. No side effects."""
        ...

    def run(self, job: LoadJob) -> AsyncIterator[Records | Event]: ...


@runtime_checkable
class NeedsInstalling(Protocol):
    """A load generator that can be registered here without being able to run here."""

    def missing(self, config: LoadConfig) -> Finding | None:
        """What is not installed, as an error with what to do; None where nothing is missing. No network."""
        ...
