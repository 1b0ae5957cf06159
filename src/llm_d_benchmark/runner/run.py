"""One run: setup -> benchmark -> analysis -> cleanup."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..collect.api import CollectJob
from ..collect.run import collecting, collectors_of, prometheus_of
from ..config.availability import unavailable
from ..config.layers import LoadedConfig
from ..config.model import BenchmarkConfig
from ..config.resolve import resolve_target
from ..config.secrets import require_secrets
from ..config.target import TargetConfig
from ..domain.comparison import RegressionResult
from ..domain.endpoint import Endpoint
from ..domain.errors import BenchmarkError, ConfigError, ExitCode, GeneratorError
from ..domain.events import Event, EventType, Finding, Severity
from ..domain.records import Records
from ..domain.result import RunResult
from ..domain.version import VERSION
from ..loadgen import registry as generators
from ..loadgen.api import NeedsInstalling
from ..loadgen.native.roundtrip import idle_round_trip
from ..store.writer import RunWriter
from ..target import registry as targets
from ..target.api import Target, TargetContext
from .bus import EventBus, Observer
from .options import RunOptions, RunOutcome
from .prepare import Prepared, check_workloads, nothing_due, prepare
from .verdict import exit_code
from .virtual import refuse, simulated_in
from .watch import FailureStreak, watch_target

if TYPE_CHECKING:
    from ..simulator.deployment import VirtualDeployment

T = TypeVar("T")


class InterruptedRunError(BenchmarkError):
    """The run was stopped before it measured anything."""

    exit_code = ExitCode.INTERRUPTED


def preflight(loaded: LoadedConfig) -> list[Finding]:
    """What this version only keeps of this configuration, and deprecations.

    Raises:
        ConfigError: the run is impossible; the message lists every reason.
    """
    findings = impediments(loaded)
    _refuse(findings)
    return [*loaded.warnings, *findings, *check_workloads(loaded)]


def impediments(loaded: LoadedConfig) -> list[Finding]:
    """What this version only keeps of a configuration, what cannot run here, and what the load generators cannot do of
    it, each with its place; errors make a run impossible."""
    found = unavailable(loaded.config, set(targets.available()), set(generators.available()))
    if not any(f.severity is Severity.ERROR for f in found):
        found += generator_findings(loaded.config)
    return loaded.placed(found)


def require_all_secrets(config: BenchmarkConfig) -> None:
    """For a study: what every run of it would say when it starts, said before the first one.

    Raises:
        ConfigError: a secret of the target or of the Prometheus server is not there. A simulated run needs none.
    """
    target = resolve_target(config)
    if simulated_in(config, target) is None:
        require_secrets(target)
        prometheus_of(config)


def generator_findings(config: BenchmarkConfig) -> list[Finding]:
    """What the load generators cannot do of their configurations, and what of them is not installed."""
    found: list[Finding] = []
    for i, spec in enumerate(config.spec.benchmark.load_generators):
        generator = generators.load_generator(spec.type)
        with generators.blamed(spec.type):
            missing = generator.missing(spec.config) if isinstance(generator, NeedsInstalling) else None
            said = generator.check(spec.config)
        found += [missing] if missing else []
        for one in said:
            place = f"spec.benchmark.load_generators.{i}.config: " if one.severity is Severity.ERROR else ""
            found.append(replace(one, message=place + one.message))
    return list(dict.fromkeys(found))


def _refuse(findings: Iterable[Finding]) -> None:
    """Raises ConfigError where a finding makes the run impossible."""
    errors = [f for f in findings if f.severity is Severity.ERROR]
    if errors:
        advice = "\n".join(f.advice for f in errors if f.advice)
        raise ConfigError("\n".join(f.message for f in errors), advice=advice or None)


async def run(
    loaded: LoadedConfig, options: RunOptions, *, observers: Iterable[Observer] = (), stop: asyncio.Event | None = None
) -> RunOutcome:
    """Run a configuration and leave a run folder.

    Setting ``stop`` ends the run early: what was measured is analysed and kept. Cancelling the task abandons the
    analysis, but never the cleanup.

    Raises:
        ConfigError, TargetError, StoreError: nothing could be measured. Later failures are in the outcome.
    """
    return await _Run(loaded, options, observers, stop or asyncio.Event()).execute()


class _Run:
    """The state that the phases of one run share."""

    def __init__(
        self, loaded: LoadedConfig, options: RunOptions, observers: Iterable[Observer], stop: asyncio.Event
    ) -> None:
        self.config = loaded.config
        self.loaded = loaded
        self.options = options
        self.stop = stop
        self.failure: BenchmarkError | None = None
        self.regression: RegressionResult | None = None
        self.baseline = _baseline(options)
        self.findings = preflight(loaded)
        self.target_config = resolve_target(loaded.config)
        self.deployment: VirtualDeployment | None = None
        self.target: Target
        simulated = simulated_in(self.config, self.target_config)
        if simulated is None:
            prometheus_of(self.config)  # a secret that is not there is said before a server is started
            self.target = targets.create_target(self.target_config)
            self.bus = EventBus(observers)
        else:
            # Imported here: a run in real time starts sooner without.
            from ..simulator.deployment import VirtualDeployment
            from .simulated import VirtualTarget, check_requests

            refuse(options)
            self.deployment = VirtualDeployment(simulated, time.time_ns())
            check_requests(self.config, self.deployment.profile)
            self.target = VirtualTarget(simulated, self.deployment)
            self.bus = EventBus(observers, clock=self.deployment.now_ns)

    async def execute(self) -> RunOutcome:
        writer = self._open_writer()
        result: RunResult | None = None
        try:
            # The stack closes the target whatever happens, even when the disk is full and no event can be written.
            async with AsyncExitStack() as stack:
                try:
                    async with self._phase("setup"):
                        endpoint, jobs = await self._unless_stopped(self._setup(stack, writer))
                    async with self._collecting(writer, endpoint):
                        await self._benchmark(writer, endpoint, jobs)
                    await writer.flush_samples()
                    async with self._phase("analysis"):
                        result = await self._analyse(writer)
                        self.regression = await self._against_baseline(writer)
                finally:
                    async with self._phase("cleanup"):
                        await stack.aclose()
        except BenchmarkError as error:
            self.failure = self.failure or error
            self.bus.emit(EventType.ERROR, message=error.message, advice=error.advice)
            raise
        finally:
            status = result.status if result else "failed"
            try:
                self.bus.emit(EventType.RUN_END, status=status, exit_code=int(self._exit_code(result)))
            finally:
                await writer.close(status)
        return RunOutcome(
            folder=writer.path,
            result=result,
            exit_code=self._exit_code(result),
            report=writer.path / "report.html",
            failure=self.failure,
            regression=self.regression,
        )

    def _open_writer(self) -> RunWriter:
        config = self.config
        writer = RunWriter.create(
            self.options.output,
            name=config.metadata.name,
            config_yaml=self.loaded.to_yaml(),
            manifest={
                "tool_version": VERSION,
                "command": self.options.command,
                "config_digest": self.loaded.digest,
                "simulated": self.target_config.type == "simulator",
                "virtual_time": self.deployment is not None,
                "started": self.bus.now(),
                "clock_offset": self.bus.clock_offset,
                "start_at": self.options.start_at,
                "shard": {"index": self.options.shard.index, "count": self.options.shard.count},
                "seeds": [g.config.seed for g in config.spec.benchmark.load_generators],
            },
            secrets=self.loaded.secrets(),
        )
        self.bus.subscribe(writer.event)
        self.bus.emit(
            EventType.RUN_START,
            run_id=writer.run_id,
            target=self.target_config.type,
            generators=[g.type for g in config.spec.benchmark.load_generators],
        )
        for finding in self.findings:
            self.bus.finding(finding)
        return writer

    async def _setup(self, stack: AsyncExitStack, writer: RunWriter) -> tuple[Endpoint, list[Prepared]]:
        endpoint = await stack.enter_async_context(self.target.open(TargetContext(log_dir=writer.log_dir)))
        jobs = await prepare(
            self.config,
            endpoint,
            options=self.options,
            tokenizer_path=_tokenizer_path(self.target_config),
            log_dir=writer.log_dir,
            stop=self.stop,
            clock_offset=self.bus.clock_offset,
            deployment=self.deployment,
        )
        writer.update_manifest(
            target={
                "type": self.target_config.type,
                "url": endpoint.url,
                "model": endpoint.model,
                **{k: endpoint.info.get(k) for k in ("server", "fingerprint")},
                "info": {k: v for k, v in endpoint.info.items() if k not in ("server", "fingerprint")},
            },
            sizer=[job.sizer.to_dict() for job in jobs],
            idle_round_trip_s=None if self.deployment else await idle_round_trip(endpoint),
        )
        return endpoint, jobs

    async def _benchmark(self, writer: RunWriter, endpoint: Endpoint, jobs: list[Prepared]) -> None:
        """Run the generators one after another; one that fails does not keep the others from theirs, and what was
        measured is kept."""
        # Virtual time does not wait for anybody who gives up, and the run must not depend on the machine's speed.
        streak = FailureStreak(float("inf") if self.deployment else self.config.spec.benchmark.give_up)
        self.bus.subscribe(streak)
        watcher = asyncio.create_task(watch_target(endpoint, streak))
        watcher.add_done_callback(lambda ended: None if ended.cancelled() else self.stop.set())
        started = time.monotonic()
        self.bus.emit(EventType.PHASE, phase="benchmark", state="start")
        # Importing the analysis takes as long as the workers take to come up, so it is done meanwhile.
        importing = asyncio.create_task(asyncio.to_thread(import_module, "llm_d_benchmark.runner.finish"))
        rows = 0
        try:
            for index, job in enumerate(jobs):
                if self.stop.is_set():
                    break
                self.bus.emit(EventType.GENERATOR_START, generator=job.spec.type, index=index)
                rows += await self._generate(writer, job)
        except BenchmarkError as error:
            self._failed(error)
        finally:
            early = watcher.done() and not watcher.cancelled()
            watcher.cancel()
        if early:
            self.failure = None
            self._failed(watcher.result())
        if self.failure is None and self.stop.is_set():
            self._failed(InterruptedRunError("interrupted; what was measured until then is kept"))
        if self.failure is None and rows == 0 and not self._idle(jobs):
            advice = "check its configuration and its log under logs/"
            self._failed(GeneratorError("the load generator produced no data", advice=advice))
        await importing
        await writer.flush()
        state = "end" if self.failure is None else "interrupted" if self.stop.is_set() else "failed"
        self.bus.emit(EventType.PHASE, phase="benchmark", state=state, seconds=round(time.monotonic() - started, 3))

    def _idle(self, jobs: Iterable[Prepared]) -> bool:
        """Whether this is one of several shards, of a load with so few requests that it has none."""
        return self.options.shard.count > 1 and all(nothing_due(job.job) for job in jobs)

    async def _generate(self, writer: RunWriter, job: Prepared) -> int:
        """Put one generator's load on the target; the number of its records."""
        rows = 0
        try:
            async for item in _items(job):
                if isinstance(item, Records):
                    rows += len(item)
                    await writer.append(item)
                else:
                    self.bus.publish(item)
        except (ConfigError, GeneratorError) as error:
            self._failed(error, generator=job.spec.type)
            if error.__cause__ is not None:
                text = "".join(traceback.format_exception(error.__cause__))
                writer.write_log(f"{job.spec.type}-traceback.txt", text)
        return rows

    def _failed(self, error: BenchmarkError, **more: str) -> None:
        """Tell of a failure of the load; the first is the run's."""
        self.failure = self.failure or error
        self.bus.emit(EventType.ERROR, message=error.message, advice=error.advice, **more)

    def _collecting(self, writer: RunWriter, endpoint: Endpoint) -> AbstractAsyncContextManager[None]:
        """Collectors beside the load. A simulated deployment has no host and no page of metrics."""
        if self.deployment is not None:
            return nullcontext()
        interval = self.config.spec.collectors.interval
        job = CollectJob(endpoint, asyncio.Event(), self.bus.clock_offset, writer.log_dir, interval, self.stop)
        collectors = collectors_of(self.config, endpoint)
        return collecting(collectors, job, writer.append_samples, self.bus.finding)

    async def _analyse(self, writer: RunWriter) -> RunResult:
        """Off the event loop, so that an interrupt is seen while a large run is analysed."""
        from .finish import analyze_and_report

        return await asyncio.to_thread(analyze_and_report, writer.path)

    async def _against_baseline(self, writer: RunWriter) -> RegressionResult | None:
        """The verdict against finished runs of a baseline, also left in the run folder."""
        if not self.baseline:
            return None
        from ..report.regression import render_markdown
        from ..store.comparison_json import to_json
        from .study import judge_runs

        result = await asyncio.to_thread(judge_runs, self.config, self.baseline, [writer.path], paired=False)
        writer.write_text("regression.json", to_json(result))
        writer.write_text("regression.md", render_markdown(result))
        return result

    @asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[None]:
        started = time.monotonic()
        self.bus.emit(EventType.PHASE, phase=name, state="start")
        state = "failed"
        try:
            yield
            state = "end"
        finally:
            self.bus.emit(EventType.PHASE, phase=name, state=state, seconds=round(time.monotonic() - started, 3))

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, or InterruptedRunError as soon as the run is stopped."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise InterruptedRunError("interrupted during setup; nothing was measured")
            return task.result()
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _exit_code(self, result: RunResult | None) -> ExitCode:
        if self.failure is not None:
            return self.failure.exit_code
        return ExitCode.BUG if result is None else exit_code(result, self.options.fail_on, self.regression)


async def _items(job: Prepared) -> AsyncIterator[Records | Event]:
    """What a generator yields. A loop of its own, so that only what the generator itself raises is its failure."""
    with generators.blamed(job.spec.type):
        async for item in job.generator.run(job.job):
            yield item


def _baseline(options: RunOptions) -> list[Path]:
    """The runs to judge against, looked for before anything is measured.

    Raises:
        StoreError: a path is no run and holds none.
    """
    if not options.baseline:
        return []
    from ..store.folder import runs_at

    return runs_at(options.baseline)


def _tokenizer_path(target: TargetConfig) -> str | None:
    block = getattr(target, target.type, None)
    return getattr(block, "tokenizer", None)
