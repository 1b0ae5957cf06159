"""From the runs of both sides to the whole result of a regression test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...config.blocks import RegressionTesting
from ...config.model import BenchmarkConfig
from ...domain.comparison import ArmInfo, Behaviour, RegressionResult, Stability, StudyRun
from ...domain.quantities import Threshold, parse_threshold
from ...domain.result import RunResult
from . import criteria
from .effects import ALPHA
from .levels import DECIDING, SHOWN, metric_refs
from .regression import Arms, Performance, Question, compare_arms
from .usable import OTHER_OF_PAIR, nothing_usable, unusable

Side = Literal["baseline", "test"]
SIDES: tuple[Side, Side] = ("baseline", "test")
DEFAULT_LIMIT = "<5%"
DEFAULT_STABILITY = ">99.9% uptime"


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is judged; None where it is not asked for."""

    performance: Threshold | None
    functionality: Literal["compatible", "none", "any"] | None
    stability: Threshold | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A run of the test, and its result where it has one."""

    run: StudyRun
    result: RunResult | None


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that was measured. ``outages``: seconds down and seconds watched of each side, where stability is
    asked for. ``failure``: why it ended before it was done."""

    study_id: str
    name: str
    tool_version: str
    started: int
    ended: int
    arms: Mapping[Side, ArmInfo]
    finished: Sequence[Finished]
    paired: bool
    behaviours: Sequence[Behaviour] = ()
    outages: Mapping[Side, tuple[float, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    failure: str = ""


def criteria_of(block: RegressionTesting, *, probed: bool) -> Criteria:
    """The criteria of a block: those of its suite, or all that it gives a limit for; defaults where it gives none.

    Args:
        probed: whether the API can be probed; where not, functionality is judged only if it is asked for by name.
    """
    given, suite = block.pass_criteria, set(block.test_suite)
    performance = not suite or "performance_tests" in suite
    functionality = "functionality_tests" in suite or given.functionality_changes is not None
    stability = "stability_tests" in suite or (not suite and given.stability is not None)
    if suite:
        functionality = "functionality_tests" in suite
    elif probed:
        functionality = True
    return Criteria(
        (given.performance_regression or parse_threshold(DEFAULT_LIMIT)) if performance else None,
        (given.functionality_changes or "compatible") if functionality else None,
        (given.stability or parse_threshold(DEFAULT_STABILITY, subjects=("uptime",))) if stability else None,
    )


def question_of(config: BenchmarkConfig, asked: Criteria, *, alpha: float = ALPHA) -> tuple[Question, list[str]]:
    """What the runs are compared on, and notes on metrics that cannot be: those of the block, else the primary ones of
    spec.performance_evaluation, else the usual ones."""
    block, evaluation = config.spec.regression_testing, config.spec.performance_evaluation
    named = list(block.metrics) if block else []
    if not named and evaluation is not None:
        named = list(evaluation.metrics.primary)
    deciding = metric_refs(named or DECIDING)
    directed = [r for r in deciding if r.metric not in ("concurrency", "network_io_rate", "prefix_hit_rate")]
    notes = [f"{r.path} is neither better nor worse; it does not decide" for r in deciding if r not in directed]
    shown = metric_refs([*DECIDING, *SHOWN])
    limit = None if asked.performance is None else asked.performance.value
    return Question(limit, directed, shown, alpha), notes


def _why_not(finished: Finished) -> str | None:
    """Why a run's numbers cannot be compared; None of one whose can."""
    if finished.result is None:
        return finished.run.reason or "it measured nothing"
    return unusable(finished.result)


def sort_runs(finished: Sequence[Finished], *, paired: bool) -> tuple[Arms, list[StudyRun]]:
    """The arms of the usable runs, and every run with whether it is used."""
    reasons = [_why_not(f) for f in finished]
    sides: dict[str, dict[int, RunResult]] = {"baseline": {}, "test": {}}
    for i, (f, reason) in enumerate(zip(finished, reasons, strict=True)):
        if reason is None and f.result is not None:
            key = f.run.block if paired and f.run.block is not None else i
            sides[f.run.arm][key] = f.result
    common = sides["baseline"].keys() & sides["test"].keys()
    runs = []
    for f, reason in zip(finished, reasons, strict=True):
        if reason is None and paired and f.run.block not in common:
            reason = OTHER_OF_PAIR
        runs.append(dataclasses.replace(f.run, used=reason is None, reason=reason or f.run.reason))
    if paired:
        order = sorted(common)
        return Arms([sides["baseline"][b] for b in order], [sides["test"][b] for b in order], True), runs
    return Arms(list(sides["baseline"].values()), list(sides["test"].values())), runs


def performance_of(study: Study, question: Question) -> tuple[Performance, list[StudyRun]]:
    """The comparison of the usable runs."""
    arms, runs = sort_runs(study.finished, paired=study.paired)
    return compare_arms(arms, question), runs


def conclude(study: Study, question: Question, asked: Criteria) -> RegressionResult:
    """The whole result. Where functionality is asked for, ``study.behaviours`` are what the probes saw."""
    performance, runs = performance_of(study, question)
    results = {side: _results(study, side) for side in SIDES}
    stability: dict[str, Stability] = {
        side: criteria.stability_of(results[side], study.outages.get(side)) for side in SIDES
    }
    judged = []
    if asked.performance is not None:
        judged.append(criteria.judge_performance(performance, asked.performance, nothing_usable(runs)))
    if asked.functionality is not None:
        judged.append(criteria.judge_functionality(study.behaviours, asked.functionality))
    if asked.stability is not None:
        judged.append(criteria.judge_stability(stability["test"], asked.stability))
    verdict, message = criteria.overall(judged)
    if study.failure:
        message += f" It ended early: {study.failure}"
    every = [*results["baseline"], *results["test"]]
    return RegressionResult(
        study_id=study.study_id,
        name=study.name,
        verdict=verdict,
        message=message,
        tool_version=study.tool_version,
        started=study.started,
        ended=study.ended,
        simulated=any(r.simulated for r in every),
        baseline=study.arms["baseline"],
        test=study.arms["test"],
        criteria=judged,
        metrics=performance.metrics,
        runs=runs,
        quarantined=performance.quarantined,
        behaviours=study.behaviours,
        stability=stability,
        further_runs=performance.further_runs,
        failure=study.failure,
        notes=[*study.notes, *performance.notes, *_differences(every, study)],
    )


def _results(study: Study, side: Side) -> list[RunResult]:
    return [f.result for f in study.finished if f.run.arm == side and f.result is not None]


def _differences(results: Sequence[RunResult], study: Study) -> list[str]:
    """What else differs between runs that should differ in nothing but their side."""
    notes = []
    for side in SIDES:
        mine = [r for r in _results(study, side) if not r.simulated]  # a simulator's fingerprint has its seed in it
        servers = {(r.target.model, r.target.server, r.target.fingerprint) for r in mine}
        if len(servers) > 1:
            notes.append(f"the server of the {side} changed between its runs: they say different versions or models")
    if len({r.simulated for r in results}) > 1:
        notes.append("some runs are simulated and some are not")
    return notes
