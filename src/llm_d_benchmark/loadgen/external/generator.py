"""One load generator over any adapter: stages in, the tool's processes, records and events out."""

from __future__ import annotations

import asyncio
import math
import mmap
import shlex
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...config.load import Length, LoadConfig
from ...config.secrets import to_hide
from ...domain.errors import GeneratorError
from ...domain.events import Event, EventType, Finding, Severity
from ...domain.records import Records
from ...domain.redaction import redacted
from ...domain.schedule import Stage, StageOutcome
from ...workload.synthetic import SyntheticOptions
from ..api import LoadJob
from ..native.outcome import OutcomeMeter
from .api import Adapter, Environment, Invocation, NativeResult, NativeStage, ToolStage
from .environments import locate, not_there
from .files import disk
from .plan import (
    ENVIRONMENT,
    TIME_LIMIT,
    options,
    own_time_limit,
    tool_keys,
    with_length,
    without_template,
    workload_type,
)
from .process import ToolProcess, log_tail
from .reading import read
from .stage import (
    as_observed,
    batches,
    interval_events,
    numbered,
    other_load,
    share,
    times_of,
    with_lengths,
    with_template,
)
from .tokenizer import tokenizer_folder

POLL_S = 0.1
INTERVAL_NS = 1_000_000_000
STARTUP_S = 180.0
"""What a tool may take over its planned load: starting, making prompts, writing results."""
WRITE_S = 30.0
"""What a tool that is interrupted may take to write what it has."""
DELAY_LIMIT_S = 0.010
NO_DATA = (
    "check the load generator's configuration (its native form is beside its log)\n"
    "verify the network between here and the server: llm-d-benchmark doctor --url URL\n"
    "raise timeouts and native.time_limit if it needed longer\n"
    "check the tool by itself: llm-d-benchmark generators check {name}"
)


class ExternalLoadGenerator(Adapter):
    """A load generator by its adapter: a tool's file has one subclass, which is registered as it is."""

    def missing(self, config: LoadConfig) -> Finding | None:
        """Why the tool cannot run here: it, or the environment the configuration names, is not installed."""
        try:
            self.environment(config)
        except GeneratorError as error:
            return Finding("generator_not_installed", Severity.ERROR, error.message, error.advice)
        return None

    def environment(self, config: LoadConfig) -> Environment:
        """Where the tool is installed.

        Raises:
            GeneratorError: nowhere.
        """
        path = config.native.get(ENVIRONMENT)
        found = locate(self.name, self.requirement, None if path is None else Path(str(path)))
        if found is None:
            raise not_there(self.name, self.requirement)
        return found

    async def run(self, job: LoadJob) -> AsyncIterator[Records | Event]:
        environment = await asyncio.to_thread(self.environment, job.config)
        if environment.light:
            yield _light(self.name, environment.version).event(time.monotonic_ns() + job.clock_offset)
        last: StageOutcome | None = None
        not_before = job.start_at
        while not job.stop.is_set() and (stage := job.stages.next(last)) is not None:
            if not_before is not None:
                await _until(not_before, job)
                not_before = None
            run = _StageRun(self, job, environment, stage)
            async for item in run.items():
                yield item
            last = run.outcome


def _light(name: str, version: str) -> Finding:
    return Finding(
        "light_installation",
        Severity.INFO,
        f"{name} {version}: small modules stand in for a package that it hardly uses",
        f"llm-d-benchmark generators install {name} installs it as it is published",
    )


@dataclass(slots=True)
class _Ended:
    """How the commands of a stage ended: exit code of the last one, and whether we ended it."""

    code: int | None = None
    limit: bool = False
    stopped: bool = False


class _StageRun:
    """One stage of one tool."""

    def __init__(self, adapter: Adapter, job: LoadJob, environment: Environment, stage: Stage) -> None:
        self.adapter = adapter
        self.job = job
        self.environment = environment
        endpoint = job.config.endpoint or adapter.default_endpoint
        self.stage = adapter.runs(replace(stage, endpoint=endpoint))
        self.part = share(self.stage, job.shard)
        self.template = job.template_tokens if endpoint == "chat" else 0
        self.folder = job.log_dir / f"stage-{stage.index}"
        self.log = self.folder / f"{adapter.name}.log"
        self.hide = to_hide(job.endpoint)
        self.outcome: StageOutcome | None = None
        self._asked: Mapping[str, Length] = {}
        self._ended = _Ended()

    async def items(self) -> AsyncIterator[Records | Event]:
        with disk(f"{self.folder} cannot be made"):
            self.folder.mkdir(parents=True, exist_ok=True)
        began = self._now()
        yield Event(EventType.STAGE_START, began, self._start_data(began))
        async for event in self._execute():
            yield event
        native = await asyncio.to_thread(self._parse)
        otherwise = list(other_load(self.adapter.name, self.part, native.stages))
        for finding in [*native.findings, *otherwise, *self._findings()]:
            yield finding.event(self._now())
        records, told, window = self._join(native)
        times = times_of(self.stage, records, window=window, cut=self._cut, fallback=began)
        for event in interval_events(records, self.stage.index, times.start):
            yield event
        for batch in batches(records):
            yield batch
        if not self._cut and not otherwise:
            for finding in as_observed(self.adapter.name, self.part, records):
                yield finding.event(self._now())
        if self.job.stages.adaptive:
            meter = OutcomeMeter()
            meter.add(records)
            self.outcome = meter.outcome(self.stage, times, self.job.goodput, delay_limit_s=DELAY_LIMIT_S)
        of_tool = {"told": told, "known": dict(self.adapter.known)}
        yield Event(EventType.STAGE_END, times.end, {"stage": self.stage.index, **times.to_dict(), **of_tool})
        if self._ended.limit:
            raise self._too_long(len(records))

    @property
    def _cut(self) -> bool:
        return self._ended.limit or self._ended.stopped

    def _now(self) -> int:
        return time.monotonic_ns() + self.job.clock_offset

    def _start_data(self, began: int) -> dict[str, object]:
        tool = {"name": self.adapter.name, "version": self.environment.version}
        return {
            "stage": self.stage.index,
            "generator": self.adapter.name,
            **self.stage.to_dict(),
            "start": began,
            "tool": tool,
        }

    async def _execute(self) -> AsyncIterator[Event]:
        """Run the commands of the stage one after another; INTERVAL events with the time elapsed."""
        with disk("the tool's tokenizer cannot be written"):
            tokenizer = await asyncio.to_thread(tokenizer_folder, self.job.tokenizer)
        tool_stage = ToolStage(
            stage=self.part,
            config=without_template(_seeded(self.job), self.template),
            endpoint=self.job.endpoint,
            environment=self.environment,
            folder=self.folder,
            tokenizer=tokenizer,
            goodput=self.job.goodput,
        )
        self._asked = await asyncio.to_thread(lengths_asked, self.adapter, tool_stage)
        deadline = time.monotonic() + time_limit(self.stage, self.job)
        for invocation in self.adapter.invocations(tool_stage):
            with disk(f"{self.folder} cannot be written"):
                self._write(invocation)
            async for event in self._command(invocation, deadline):
                yield event
            if self._cut:
                break

    async def _command(self, invocation: Invocation, deadline: float) -> AsyncIterator[Event]:
        process = await ToolProcess.start(
            invocation.argv, env=invocation.env, cwd=self.folder, log=self.log, hide=self.hide
        )
        began = told = self._now()
        try:
            while (code := await process.wait(POLL_S)) is None:
                if self.job.stop.is_set():
                    self._ended.stopped = True
                    break
                if time.monotonic() > deadline:
                    self._ended.limit = True
                    break
                if (now := self._now()) - told >= INTERVAL_NS:
                    data = {"stage": self.stage.index, "start": told, "end": now, "elapsed": (now - began) / 1e9}
                    told = now
                    yield Event(EventType.INTERVAL, now, data)
            self._ended.code = code
            if self._cut:
                await process.interrupt(WRITE_S)
        finally:
            await process.end()

    def _write(self, invocation: Invocation) -> None:
        """The native config files, and the exact command with secrets hidden."""
        for name, text in invocation.files.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        assigned = [f"{k}={shlex.quote(v)}" for k, v in invocation.env.items() if v is not None]
        unset = [f"-u {k}" for k, v in invocation.env.items() if v is None]
        prefix = ["env", *unset, *assigned] if invocation.env else []
        line = " ".join([*prefix, shlex.join(invocation.argv)])
        shown = redacted(line, self.hide)
        with (self.folder / "command.sh").open("a", encoding="utf-8") as file:
            file.write(f"# {self.adapter.name} {self.environment.version}\n{shown}\n")

    def _parse(self) -> NativeResult:
        """What the tool left, under our definitions; nothing is left of texts and secrets in its files.

        Raises:
            GeneratorError: it left no data, and was not stopped by the user.
        """
        try:
            (result,) = read(lambda path: [self.adapter.parse(path)], self.adapter.name, self.folder)
            if not any(stage.records is not None and len(stage.records) for stage in result.stages):
                raise GeneratorError("its results hold no request")
            return result
        except GeneratorError as error:
            if self._ended.stopped:
                return NativeResult(self.adapter.name, self.environment.version, [], [self._nothing_left()])
            raise self._no_data(error) from None
        finally:
            try:
                with disk(f"texts cannot be taken out of {self.folder}"):
                    self.adapter.tidy(self.folder)
            finally:
                scrub(self.folder, self.hide)

    def _nothing_left(self) -> Finding:
        return Finding(
            "nothing_left",
            Severity.WARNING,
            f"stage {self.stage.name}: {self.adapter.name} was stopped before it wrote results; nothing of it is left",
            f"it had {WRITE_S:g} s to write what it had: it may not have sent anything yet; its log: {self.log.name}",
        )

    def _no_data(self, error: GeneratorError) -> GeneratorError:
        how = "was ended at its time limit" if self._ended.limit else f"ended with exit code {self._ended.code}"
        # The parser's own advice is for who imports a file.
        return GeneratorError(
            f"No data collected from load generator {self.adapter.name}, which {how}: {error.message}\n"
            f"{log_tail(self.log)}",
            advice=f"{NO_DATA.format(name=self.adapter.name)}\nits whole log: {self.log}",
        )

    def _too_long(self, requests: int) -> GeneratorError:
        limit = time_limit(self.stage, self.job)
        return GeneratorError(
            f"stage {self.stage.name}: {self.adapter.name} was ended at its time limit of {limit:g} s; the {requests} "
            "requests that it had written by then are kept",
            advice=f"set native.{TIME_LIMIT} (of one stage) if it was only slow\nits log: {self.log}",
        )

    def _findings(self) -> Iterator[Finding]:
        name = self.adapter.name
        if not self._cut and self._ended.code:
            yield Finding(
                "exit_code",
                Severity.WARNING,
                f"{name} ended with exit code {self._ended.code}, but left results, which are used",
                f"its log: {self.log.name} in {self.folder.name}",
            )

    def _join(self, native: NativeResult) -> tuple[Records, dict[str, object] | None, tuple[int, int] | None]:
        """The records of all that the tool ran in this stage, what it says of itself, and its window."""
        parts = [s.records for s in native.stages if s.records is not None]
        found = with_template(with_lengths(Records.concat(parts), self._asked), self.template)
        records = numbered(found, self.stage, self.job.shard, self.job.endpoint.model)
        if len(native.stages) != 1:
            return records, None, None
        only: NativeStage = native.stages[0]
        return records, only.told(self.environment.version), only.window


def lengths_asked(adapter: Adapter, tool: ToolStage) -> dict[str, Length]:
    """The lengths of synthetic prompts (``input``) and answers (``output``) that the tool is really asked for.

    Its own keys under ``native`` may ask for others: then the length that is configured does not change its commands.
    """
    if workload_type(tool.config) != "synthetic":
        return {}
    made = options(SyntheticOptions, tool.config)
    found = {"input": made.input_length, "output": made.output_length}
    if not tool_keys(tool.config):
        return found
    commands = list(adapter.invocations(tool))

    def heard(side: str, length: Length) -> bool:
        other = Length(value=1 if length.value != 1 else 2)
        asked = replace(tool, config=with_length(tool.config, f"{side}_length", other))
        return list(adapter.invocations(asked)) != commands

    return {side: length for side, length in found.items() if heard(side, length)}


def scrub(folder: Path, hide: Sequence[str]) -> None:
    """Overwrite every secret in the files of a folder, in place: results may be larger than memory."""
    for path in folder.rglob("*") if hide else ():
        if path.is_symlink() or not path.is_file() or not path.stat().st_size:
            continue
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
            for needle in (h.encode() for h in hide):
                while (at := data.find(needle)) >= 0:
                    data[at : at + len(needle)] = b"*" * len(needle)


def time_limit(stage: Stage, job: LoadJob) -> float:
    """Seconds that a stage's commands may take."""
    own = own_time_limit(job.config)
    if own is not None:
        return own
    return planned_s(stage, job.config) + STARTUP_S + job.drain_s


def planned_s(stage: Stage, config: LoadConfig) -> float:
    """Seconds the load of a stage may take; of a closed loop bounded by requests, if each took as long as it may."""
    if stage.load_s is not None:
        return stage.load_s
    count = stage.num_requests or 1
    if stage.load.rate is not None:
        return count / stage.load.rate
    return math.ceil(count / (stage.load.concurrency or 1)) * config.timeouts.total


def _seeded(job: LoadJob) -> LoadConfig:
    """The configuration with a seed of this machine's own, so that shards do not send the same prompts."""
    if job.shard.count == 1:
        return job.config
    return job.config.model_copy(update={"seed": job.config.seed * job.shard.count + job.shard.index})


async def _until(start_at: int, job: LoadJob) -> None:
    """Wait for an epoch time, or until the run is stopped."""
    while not job.stop.is_set() and (left := start_at - time.monotonic_ns() - job.clock_offset) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(POLL_S, left / 1e9))
