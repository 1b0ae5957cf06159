"""A study on disk: its folder, its runs, and what they show."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.layers import LoadedConfig, load_resolved
from ..config.resolve import resolve_target
from ..domain.errors import BenchmarkError, ExitCode, StoreError, TargetError
from ..domain.result import RunResult
from ..domain.study import RunAdvice, StudyMeasurement, StudyResult
from ..explore.conclude import Facts, conclude
from ..explore.evaluate import Configurations, Evaluator
from ..explore.flags import diagnosed, hypotheses
from ..explore.ledger import Ledger
from ..explore.plan import plan_of
from ..explore.search import Explorer, Question
from ..explore.sharing import Sharing
from ..report.explore import render_study
from ..store.board import Board
from ..store.comparison_json import to_json
from ..store.folder import RunFolder
from ..store.job import JobFolder
from .bus import Observer
from .options import RunOptions
from .run import preflight, require_all_secrets, run
from .virtual import in_virtual_time, simulated_in

KIND = "exploration"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExploreOptions:
    """How to run the study.

    Attributes:
        output: folder that the study's folder is made in.
        resume: a study's folder to go on with.
        say: is told what happens, a line at a time.
    """

    output: Path = Path("results")
    command: str = ""
    resume: Path | None = None
    say: Say = lambda _: None


@dataclass(frozen=True, slots=True)
class ExploreOutcome:
    """The result, its folder, and how the command should end. ``failure``: why it ended before it was done."""

    result: StudyResult
    folder: Path
    exit_code: ExitCode
    failure: BenchmarkError | None = None


async def explore(
    loaded: LoadedConfig,
    options: ExploreOptions,
    *,
    observers: Sequence[Observer] = (),
    stop: asyncio.Event | None = None,
) -> ExploreOutcome:
    """Search the configurations that ``spec.experiment_design`` or ``spec.configuration_optimization`` describes.

    Setting ``stop`` ends the study; what was measured is kept, reported, and taken up again by ``options.resume``.

    Raises:
        ConfigError: the search is impossible.
        StoreError: the study's folder cannot be made or read.
        TargetError: nothing that was tried could be measured.
    """
    return await _Study(loaded, options, observers, stop or asyncio.Event()).execute()


class _Study:
    def __init__(
        self, loaded: LoadedConfig, options: ExploreOptions, observers: Sequence[Observer], stop: asyncio.Event
    ) -> None:
        self.loaded = loaded
        self.options = options
        self.observers = observers
        self.stop = stop
        target = resolve_target(loaded.config)
        self.plan = plan_of(loaded.config, target.type)
        simulated = simulated_in(loaded.config, target) is not None
        require_all_secrets(loaded.config)
        self.configurations = Configurations(
            loaded,
            self.plan.space,
            own_prompts=target.type == "existing",
            finish=in_virtual_time if simulated else lambda config: config,
        )
        self.configurations.check()
        preflight(self.configurations.of(None, 0))
        self.job = self._open_job()
        self.ledger = ledger_of(self.job)

    def _open_job(self) -> JobFolder:
        if self.options.resume is not None:
            return JobFolder.take_up(self.options.resume, KIND, same={"digest": self.loaded.digest})
        return JobFolder.create(
            self.options.output,
            kind=KIND,
            name=f"{self.loaded.config.metadata.name}-study",
            config_yaml=self.loaded.to_yaml(),
            facts={"digest": self.loaded.digest, "command": self.options.command, "proposed": {}},
        )

    async def execute(self) -> ExploreOutcome:
        self.options.say(f"study {self.job.path}")
        failure: BenchmarkError | None = None
        name = f"{self.loaded.config.metadata.name}-{self.loaded.digest[:12]}"
        storage = self.plan.search.database
        board = None if storage is None else Board(storage, name)
        explorer = Explorer(
            self.plan,
            self._measure(),
            self.ledger,
            name=name,
            stop=self.stop,
            say=self.options.say,
            sharing=Sharing(board, self.ledger, lambda found: self.job.add_run(**dataclasses.asdict(found))),
        )
        try:
            await explorer.run()
        except BenchmarkError as error:
            failure = error
        finally:
            if board is not None:
                board.close()
        self.job.add_facts(proposed=self.ledger.proposed, cut=explorer.cut)
        interrupted = self.stop.is_set()
        status = "interrupted" if interrupted else "failed" if failure else "done"
        self.job.update(status=status, ended=time.time_ns())
        if not any(r.state == "ok" for r in self.ledger.runs):
            raise failure or TargetError(
                "interrupted before anything was measured" if interrupted else _none_succeeded(self.ledger)
            )
        result = await asyncio.to_thread(conclude_study, self.job)
        code = ExitCode.INTERRUPTED if interrupted else failure.exit_code if failure else ExitCode.OK
        return ExploreOutcome(result, self.job.path, code, failure)

    def _measure(self) -> Callable[[Question], Any]:
        evaluator = Evaluator(self.plan, self.configurations, self._evaluate, before=len(self.ledger.runs))

        async def measured(question: Question) -> StudyMeasurement:
            found = await evaluator(question)
            if self.stop.is_set() and found.state == "failed":
                found = dataclasses.replace(found, state="interrupted", reason="the study was interrupted")
            self.job.add_run(**dataclasses.asdict(found))
            return found

        return measured

    async def _evaluate(self, config: LoadedConfig) -> RunResult:
        """One run, with a stop of its own: a run sets it where its server is gone, too."""
        stop = asyncio.Event()

        async def forward() -> None:
            await self.stop.wait()
            stop.set()

        forwarding = asyncio.create_task(forward())
        try:
            options = RunOptions(self.job.runs_dir, self.options.command, fail_on=frozenset())
            outcome = await run(config, options, observers=self.observers, stop=stop)
        finally:
            forwarding.cancel()
        if outcome.failure is not None:
            raise outcome.failure
        return outcome.result


def _none_succeeded(ledger: Ledger) -> str:
    reasons = list(dict.fromkeys(r.reason for r in ledger.runs if r.reason))
    return f"no run succeeded: {reasons[0]}" if reasons else "no run succeeded"


def ledger_of(job: JobFolder) -> Ledger:
    """What a study has measured so far."""
    return Ledger((StudyMeasurement(**entry) for entry in job.runs), job.facts.get("proposed"))


def conclude_study(job: JobFolder) -> StudyResult:
    """study.json and report.html of a study's folder from what it measured; it works again later without any load.

    Raises:
        StoreError: nothing was measured, or a file cannot be written.
    """
    config = load_resolved(job.read_text("config.yaml"))
    target = resolve_target(config)
    ledger = ledger_of(job)
    if not any(r.state == "ok" for r in ledger.runs):
        raise StoreError(f"{job.path} holds no run that succeeded")
    # A study that was killed knows neither; its last run has ended when its file was last written.
    status, ended = "interrupted" if job.status == "running" else job.status, job.ended or job.started
    facts = Facts(job.job_id, job.name, status, job.started, int(ended), target, cut=str(job.facts.get("cut", "")))
    result = conclude(plan_of(config, target.type), ledger, facts, lambda run: _result(job, run))
    job.write_text("study.json", to_json(result))
    job.write_text("report.html", render_study(result, str(job.facts.get("command", ""))))
    return result


def recommend(path: Path) -> StudyResult:
    """The result of a study's folder, made again.

    Raises:
        StoreError: it is no study's folder, or nothing was measured.
    """
    return conclude_study(JobFolder.open(path, KIND))


def advise(path: Path) -> RunAdvice:
    """Hypotheses from the diagnosis of a run's folder.

    Raises:
        StoreError: it is no run's folder, or it has no result.
    """
    folder = RunFolder.open(path)
    result = folder.result()
    target = resolve_target(load_resolved(folder.config_text))
    return RunAdvice(result.run_id, result.diagnosis, hypotheses(diagnosed(result), target))


def is_run(path: Path) -> bool:
    """Whether it is the folder of one run, not that of a study."""
    return (path / "manifest.json").is_file()


def _result(job: JobFolder, run_id: str) -> RunResult | None:
    try:
        return RunFolder.open(job.runs_dir / run_id).result()
    except StoreError:
        return None
