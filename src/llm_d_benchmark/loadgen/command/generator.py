"""``type: command``: any executable that speaks docs/protocol.md as a load generator."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from ...config.load import LoadConfig
from ...domain.errors import ConfigError, GeneratorError
from ...domain.events import Event, Finding, Severity
from ...domain.records import Records
from ...domain.schedule import Stage, StageOutcome, next_start
from ...domain.version import VERSION
from ..api import LoadJob
from .child import Child
from .messages import (
    HEADERS_ENV,
    PROTOCOL,
    Done,
    EndpointInfo,
    ErrorNote,
    Hello,
    Quit,
    Ready,
    RetryInfo,
    ShardInfo,
    TimeoutInfo,
    TlsInfo,
)
from .settings import findings, settings_of
from .stage import StageRun, now_ns

QUIT_S = 5.0


class CommandLoadGenerator:
    """Starts the executable once a run, and hands it one stage after another."""

    name = "command"

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        """Whether the settings under ``native`` are sound and the program is there; what it can do only it can say."""
        return findings(config)

    async def run(self, job: LoadJob) -> AsyncIterator[Records | Event]:
        settings = settings_of(job.config)
        async with Child(settings, job.endpoint, job.log_dir) as child:
            ready = await _greet(child, job)
            last: StageOutcome | None = None
            not_before = job.start_at
            while not job.stop.is_set() and (stage := job.stages.next(last)) is not None:
                _require(ready, stage, job)
                run = StageRun(job, child, ready, stage)
                async for item in run.run(not_before):
                    yield item
                if run.lost:
                    return
                last = run.outcome
                not_before = next_start(not_before, stage, job.drain_s)
            if not job.stop.is_set() and (finding := await _part(child, ready)) is not None:
                yield finding.event(now_ns(job))


async def _greet(child: Child, job: LoadJob) -> Ready:
    """Say hello and have the answer.

    Raises:
        GeneratorError: it did not answer, or speaks another version.
    """
    child.send(_hello(job))
    settings = child.settings
    deadline = time.monotonic() + settings.ready_timeout
    while (left := deadline - time.monotonic()) > 0:
        match await child.receive(left):
            case Ready() as ready:
                if ready.protocol != PROTOCOL:
                    raise await child.failure(f"{ready.name} speaks {ready.protocol!r}, not {PROTOCOL!r}")
                return ready
            case ErrorNote() as note:
                raise GeneratorError((await child.failure(f"{settings.program}: {note.message}")).message,
                                     advice=note.advice)  # fmt: skip
            case None:
                break
            case _:
                raise await child.failure(f"{settings.program} broke the protocol: its first message is not 'ready'")
    raise await child.failure(f"{settings.program} did not say it is ready within {settings.ready_timeout:g} s")


def _hello(job: LoadJob) -> Hello:
    endpoint, config = job.endpoint, job.config
    limits, retries = config.timeouts, config.retries
    return Hello(
        protocol=PROTOCOL,
        tool_version=VERSION,
        endpoint=EndpointInfo(
            endpoint.url, endpoint.model, HEADERS_ENV, TlsInfo(endpoint.tls.verify, endpoint.tls.ca_file)
        ),
        parameters=dict(config.parameters),
        timeouts=TimeoutInfo(limits.connect, limits.first_token, limits.total),
        retries=RetryInfo(retries.max, list(map(str, retries.on)), retries.backoff),
        shard=ShardInfo(job.shard.index, job.shard.count),
        config=settings_of(config).config,
    )


def _require(ready: Ready, stage: Stage, job: LoadJob) -> None:
    """Raises ConfigError for a stage that needs what the generator lacks: it is never run differently."""
    needed = {
        stage.endpoint: True,
        "open_loop": stage.load.open_loop,
        "closed_loop": not stage.load.open_loop,
        "streaming": stage.streaming,
        "non_streaming": not stage.streaming,
        "conversations": job.config.workload.get("type") == "conversation",
        "retries": job.config.retries.max > 0,
        "tls": job.endpoint.secure,
    }
    missing = [name for name, asked in needed.items() if asked and name not in ready.capabilities]
    if missing:
        raise ConfigError(
            f"{ready.name} {ready.version} cannot do what stage {stage.index} asks for: {', '.join(missing)}",
            advice=f"it can do: {', '.join(ready.capabilities) or 'nothing'}; or use the native generator",
        )


async def _part(child: Child, ready: Ready) -> Finding | None:
    """Let it end by itself. Everything is measured, so one that fails now spoils nothing: a finding says so."""
    child.send(Quit())
    deadline = time.monotonic() + QUIT_S
    try:
        while (left := deadline - time.monotonic()) > 0:
            match await child.receive(left):
                case Done():
                    await child.exited(left)
                    return None
                case ErrorNote() as note:
                    raise GeneratorError(note.message)
                case _:
                    continue
    except GeneratorError as error:
        return _untidy(f"{ready.name} failed after its last stage: {error.message}", child)
    return _untidy(f"{ready.name} did not end within {QUIT_S:g} s of its last stage", child)


def _untidy(text: str, child: Child) -> Finding:
    return Finding("generator_end", Severity.WARNING, f"{text}; the measurements are whole", f"its log: {child.log}")


__all__ = ["CommandLoadGenerator"]
