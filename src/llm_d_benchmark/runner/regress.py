"""A regression test: both versions run in turns until their noise allows a verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..analyze.comparison import plan
from ..analyze.comparison.behaviours import compare_behaviours
from ..analyze.comparison.regression import Performance
from ..analyze.comparison.study import SIDES, Side, Study, criteria_of, performance_of, question_of
from ..analyze.comparison.usable import nothing_usable, stays, unusable
from ..config.blocks import RegressionTesting
from ..config.layers import LoadedConfig
from ..domain.comparison import Behaviour, Outcome, RegressionResult
from ..domain.errors import BenchmarkError, ExitCode, InvalidError, TargetError
from ..domain.result import RunResult
from ..store.folder import RunFolder
from ..store.job import JobFolder
from ..target.api import TargetContext
from ..target.compat import probe_api
from ..target.registry import create_target
from .arms import ArmPlan, arms_of, same_server
from .bus import Observer
from .finish import analyze_and_report
from .options import RunOptions, RunOutcome
from .run import preflight, require_all_secrets, run
from .study import finish_study, read_study

KIND = "regression"
GIVE_UP = 2
"""Runs of one side in a row that fail before the test is given up."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RegressOptions:
    """How to run the test.

    Attributes:
        output: folder that the study's folder is made in.
        command: the command line, for the report.
        urls: servers that run already, by side.
        resume: a study's folder to go on with.
        fail_on: which of regression, inconclusive end with the exit code of a regression.
        say: is told what happens, a line at a time.
    """

    output: Path = Path("results")
    command: str = ""
    urls: Mapping[Side, str | None] = field(default_factory=dict)
    resume: Path | None = None
    fail_on: frozenset[str] = frozenset({"regression"})
    say: Say = lambda _: None


@dataclass(frozen=True, slots=True)
class RegressOutcome:
    """The result, where it is, and how the command should end. ``failure``: why it ended before it was done."""

    result: RegressionResult
    folder: Path | None
    exit_code: ExitCode
    failure: BenchmarkError | None = None


def exit_code(result: RegressionResult, fail_on: frozenset[str]) -> ExitCode:
    """4 for FAIL under "regression" and for INCONCLUSIVE under "inconclusive", else 0."""
    names = {"fail": "regression", "inconclusive": "inconclusive"}
    return ExitCode.REGRESSION if names.get(result.verdict) in fail_on else ExitCode.OK


async def regress(
    loaded: LoadedConfig,
    options: RegressOptions,
    *,
    observers: Sequence[Observer] = (),
    stop: asyncio.Event | None = None,
) -> RegressOutcome:
    """Run both versions of ``spec.regression_testing`` in turns and judge the test version.

    Raises:
        ConfigError: the versions cannot be resolved to targets, or nothing is to be judged.
        StoreError: the study's folder cannot be made or read.
        TargetError, GeneratorError: no run came to its load. Where one did, the error is in the outcome, and in the
            reports.
    """
    return await _Regression(loaded, options, observers, stop or asyncio.Event()).execute()


class _Regression:
    """The state of one regression test."""

    def __init__(
        self, loaded: LoadedConfig, options: RegressOptions, observers: Sequence[Observer], stop: asyncio.Event
    ) -> None:
        self.loaded = loaded
        self.options = options
        self.observers = observers
        self.stop = stop
        self.block = loaded.config.spec.regression_testing or RegressionTesting()
        self.arms: dict[Side, ArmPlan] = dict(zip(SIDES, arms_of(loaded, options.urls), strict=True))
        for arm in self.arms.values():
            with arm.config.locating():
                preflight(arm.config)
                require_all_secrets(arm.config.config)
        self.asked = criteria_of(self.block, probed=True)
        self.question, self.notes = question_of(loaded.config, self.asked, alpha=plan.ALPHA)
        self.same = same_server(self.arms["baseline"], self.arms["test"])
        self.failure: BenchmarkError | None = None
        self.job = self._open_job()

    def _open_job(self) -> JobFolder:
        if self.options.resume is not None:
            return JobFolder.take_up(self.options.resume, KIND, same={"digests": self._digests()})
        return JobFolder.create(
            self.options.output,
            kind=KIND,
            name=f"{self.loaded.config.metadata.name}-regression",
            config_yaml=self.loaded.to_yaml(),
            facts={"digests": self._digests(), "command": self.options.command, "spent_s": 0.0},
        )

    def _digests(self) -> list[str]:
        """What must be the same to go on with a study: the whole configuration, and what both sides became of it."""
        return [self.loaded.digest, *(arm.config.digest for arm in self.arms.values())]

    async def execute(self) -> RegressOutcome:
        self.options.say(f"study {self.job.path}")
        try:
            await asyncio.to_thread(self._adopt)
            await self._probe()
            await self._pairs()
        except BenchmarkError as error:
            self.failure = error
            if not any(r["run"] for r in self.job.runs):
                self.job.update(status="failed", ended=time.time_ns())
                raise
        interrupted = self.stop.is_set()
        status = "interrupted" if interrupted else "failed" if self.failure else "done"
        self.job.update(status=status, ended=time.time_ns())
        study = self._study()
        result = await asyncio.to_thread(finish_study, self.job, study, self.question, self.asked)
        code = exit_code(result, self.options.fail_on)
        if interrupted:
            code = ExitCode.INTERRUPTED
        elif self.failure is not None and (code is ExitCode.OK or self.failure.exit_code is ExitCode.INVALID):
            code = self.failure.exit_code
        return RegressOutcome(result, self.job.path, code, self.failure)

    def _adopt(self) -> None:
        """Note a run whose load ended and whose analysis did not: it is analysed now, and not measured again."""
        current = self.job.current
        for path in self.job.unlisted() if current else ():
            if current is not None and RunFolder.open(path).complete:
                self.options.say(f"{path.name} was measured before; it is analysed now")
                self.job.add_run(**current, **_noted(path.name, analyze_and_report(path)))
                return

    async def _probe(self) -> None:
        """Ask both servers for their behaviours, once."""
        if self.asked.functionality is None or "behaviours" in self.job.facts:
            return
        found: dict[str, dict[str, list[Any]]] = {}
        for side, arm in self.arms.items():
            config = arm.config.config.spec.target
            assert config is not None
            self.options.say(f"probing the API of the {side} ({arm.version})")
            async with create_target(config).open(TargetContext(self.job.path / "logs" / side)) as endpoint:
                outcomes = await probe_api(endpoint)
            found[side] = {name: [o.works, o.said] for name, o in outcomes.items()}
            if self.stop.is_set():
                return
        self.job.add_facts(behaviours=found)

    async def _pairs(self) -> None:
        last = self._half_pair()
        if last is not None:
            await self._pair(last)
        while not self.stop.is_set():
            block = 1 + max((int(r["block"]) for r in self.job.runs), default=-1)
            reason = self._enough(block)
            if reason:
                self.options.say(reason)
                return
            await self._pair(block)

    def _half_pair(self) -> int | None:
        """The pair that an interruption left with one good run; it is completed first."""
        last = max((int(r["block"]) for r in self.job.runs), default=-1)
        return last if len(self._measured(last)) == 1 else None

    def _measured(self, block: int) -> set[str]:
        """Sides of a pair that have a good run."""
        return {r["arm"] for r in self.job.runs if r["block"] == block and r["status"] == "ok"}

    def _enough(self, block: int) -> str | None:
        """Why no further pair is run; None to go on.

        Raises:
            InvalidError: the least number of pairs was run, and none of them can be used.
        """
        over = self._over(block)
        if not over and block < self.block.min_runs:
            return None
        performance, runs = performance_of(self._study(), self.question)
        # of what does not rest on latencies every pair tells something
        pairs = block if self.asked.performance is None else sum(r.used for r in runs) // 2
        if not pairs:
            raise InvalidError(f"none of {block} pairs of runs can be used: {nothing_usable(runs)}")
        if over or pairs < self.block.min_runs:
            return over
        planned = self._planned(performance, pairs)
        if pairs >= planned:
            return f"{pairs} pairs were planned and run"
        early = self.asked.performance is not None and self.asked.stability is None
        if early and plan.overwhelming(performance, self.question):
            return f"{pairs} pairs leave no doubt"
        return None

    def _over(self, block: int) -> str | None:
        """Which limit of the configuration ends the test."""
        if block >= self.block.max_runs:
            return f"max_runs: {self.block.max_runs} pairs were run"
        budget = self.block.time_budget
        if budget is not None and float(self.job.facts["spent_s"]) >= budget:
            return f"the time budget of {budget:g} s is spent"
        return None

    def _planned(self, performance: Performance, pairs: int) -> int:
        """Pairs in all, planned once from the noise of the first ones and kept."""
        known = self.job.facts.get("planned")
        if known is not None:
            return int(known)
        planned, why = self.block.min_runs, "performance is not judged"
        if self.asked.performance is not None:
            planned, why = plan.plan(performance, self.question, least=pairs, most=self.block.max_runs)
        if self.asked.stability is not None:
            requests = sum(int(r.get("finished", 0)) for r in self.job.runs if r["arm"] == "test")
            needed = plan.pairs_for_stability(requests / pairs, self.asked.stability.value)
            if needed > planned:
                planned = min(needed, self.block.max_runs)
                why = f"{self.asked.stability} takes {needed} pairs of so many requests to show"
        self.options.say(f"planned: {planned} pairs ({why})")
        self.job.add_facts(planned=planned, planned_from=pairs, planned_because=why)
        return planned

    async def _pair(self, block: int) -> None:
        """One run of each side, the other one first every time; the same load on both."""
        order = SIDES if block % 2 == 0 else SIDES[::-1]
        started = time.monotonic()
        for side in order:
            if side not in self._measured(block) and not self.stop.is_set():
                await self._run(side, block)
        self.job.add_facts(spent_s=float(self.job.facts["spent_s"]) + time.monotonic() - started)

    async def _run(self, side: Side, block: int) -> None:
        arm = self.arms[side]
        # On one and the same server the second run would find the first one's prompts in the cache.
        config = arm.run_config(2 * block + SIDES.index(side) if self.same else block)
        seeds = [g.config.seed for g in config.config.spec.benchmark.load_generators]
        self.options.say(f"pair {block + 1}: {side} ({arm.version})")
        options = RunOptions(self.job.runs_dir, self.options.command, fail_on=frozenset())
        entry: dict[str, Any] = {"arm": side, "block": block, "seeds": seeds}
        self.job.begin_run(**entry)
        before = set(self.job.unlisted())
        try:
            outcome = await self._measure(config, options)
        except BenchmarkError as error:
            made = sorted(set(self.job.unlisted()) - before)
            self.job.add_run(
                **entry, run=made[-1].name if made else "", status="failed", reason=error.message, finished=0
            )
            self._check_streak(side, error)
            return
        failure = outcome.failure
        self.job.add_run(**entry, **_noted(outcome.folder.name, outcome.result, failure.message if failure else ""))
        if failure is None and outcome.result.status == "failed":
            kinds = ", ".join(f"{n} {kind}" for kind, n in outcome.result.requests.errors.items())
            failure = TargetError(f"no request to the {side} ({arm.version}) succeeded: {kinds or 'none was answered'}")
        if self.stop.is_set():
            return
        if failure is not None:
            self._check_streak(side, failure)
        else:
            self._check_validity(side, outcome.result)

    async def _measure(self, config: LoadedConfig, options: RunOptions) -> RunOutcome:
        """One run, with a stop of its own: a run sets it where its server is gone, too."""
        stop = asyncio.Event()

        async def forward() -> None:
            await self.stop.wait()
            stop.set()

        forwarding = asyncio.create_task(forward())
        try:
            return await run(config, options, observers=self.observers, stop=stop)
        finally:
            forwarding.cancel()

    def _check_streak(self, side: Side, error: BenchmarkError) -> None:
        last = [r["status"] for r in self.job.runs if r["arm"] == side][-GIVE_UP:]
        self.options.say(f"{side}: {error.message}")
        if error.exit_code is ExitCode.USAGE or (
            len(last) == GIVE_UP and all(s in ("failed", "partial") for s in last)
        ):
            raise error

    def _check_validity(self, side: Side, result: RunResult) -> None:
        """Say why a run is not used.

        Raises:
            InvalidError: no pair could be used so far, and the reason is one that every run would have.
        """
        reason = unusable(result)
        if reason is None or self.asked.performance is None:
            return
        blocks = {r["block"] for r in self.job.runs}
        if stays(result) and not any(self._measured(b) == set(SIDES) for b in blocks):
            raise InvalidError(f"{result.run_id} ({side}) cannot be used, nor could any other run: {reason}")
        self.options.say(f"{side}: {result.run_id} cannot be used: {reason}")

    def _study(self) -> Study:
        failure = "" if self.failure is None else ". ".join(filter(None, (self.failure.message, self.failure.advice)))
        return read_study(self.job, self.arms, behaviours=self._behaviours(), notes=self.notes, failure=failure)

    def _behaviours(self) -> list[Behaviour]:
        found = self.job.facts.get("behaviours")
        if found is None:
            return []
        sides = [{name: Outcome(*o) for name, o in found[side].items()} for side in SIDES]
        return compare_behaviours(*sides)


def _noted(run: str, result: RunResult, reason: str = "") -> dict[str, Any]:
    """What job.json keeps of a run."""
    return {
        "run": run,
        "status": result.status,
        "reason": reason or unusable(result) or "",
        "finished": result.requests.succeeded + result.requests.failed,
    }
