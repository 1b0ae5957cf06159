"""Regression tests on disk: from a job's folder, or from finished runs, to regression.json and its reports."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..analyze.comparison.differences import differences
from ..analyze.comparison.regression import Question
from ..analyze.comparison.stability import outages
from ..analyze.comparison.study import SIDES, Criteria, Finished, Side, Study, conclude, criteria_of, question_of
from ..config.blocks import RegressionTesting
from ..config.layers import load_resolved
from ..config.model import BenchmarkConfig
from ..domain.comparison import ArmInfo, Behaviour, RegressionResult, StudyRun
from ..domain.errors import StoreError
from ..domain.result import RunResult
from ..domain.version import VERSION
from ..report.comparison import render_regression
from ..store.comparison_json import to_json
from ..store.folder import RunFolder
from ..store.job import JobFolder
from .arms import ArmPlan

NOT_THE_LOAD = ("metadata", "spec.target", "spec.cluster", "spec.models", "spec.regression_testing")
"""Keys that may differ between the two sides of a regression test."""


def read_study(
    job: JobFolder,
    arms: Mapping[Side, ArmPlan],
    *,
    behaviours: Sequence[Behaviour],
    notes: Sequence[str],
    failure: str = "",
) -> Study:
    """What a regression test has measured so far. ``failure``: why it ended before it was done."""
    finished = []
    for entry in job.runs:
        folder = job.runs_dir / entry["run"]
        result = _result(folder) if entry["run"] else None
        run = StudyRun(
            run=entry["run"],
            arm=entry["arm"],
            block=entry["block"],
            seeds=entry["seeds"],
            path=f"runs/{entry['run']}" if entry["run"] else "",
            status=entry["status"],
            reason=entry["reason"],
        )
        finished.append(Finished(run, result))
    return Study(
        study_id=job.job_id,
        name=job.name,
        tool_version=VERSION,
        started=job.started,
        ended=time.time_ns(),
        arms={side: _info(arms[side].version, _of(finished, side)) for side in SIDES},
        finished=finished,
        paired=True,
        behaviours=behaviours,
        outages={},
        notes=notes,
        failure=failure,
    )


def _of(finished: Sequence[Finished], side: Side) -> list[RunResult]:
    return [f.result for f in finished if f.run.arm == side and f.result is not None]


def _info(version: str, results: Sequence[RunResult]) -> ArmInfo:
    if not results:
        return ArmInfo(version, {})
    target = results[-1].target
    return ArmInfo(
        version, {"type": target.type, "url": target.url, "model": target.model, "server": target.server, **target.info}
    )


def _result(folder: Path) -> RunResult | None:
    try:
        return RunFolder.open(folder).result()
    except StoreError:
        return None


def finish_study(job: JobFolder, study: Study, question: Question, asked: Criteria) -> RegressionResult:
    """Judge a study and write its result and reports into its folder; it works again later without any load."""
    folders = {f.run.run: job.runs_dir / f.run.run for f in study.finished if f.run.run}
    result = conclude(_complete(study, folders, asked), question, asked)
    job.write_text("regression.json", to_json(result))
    for name, text in render_regression(result, str(job.facts.get("command", ""))).items():
        job.write_text(name, text)
    return result


def judge_runs(
    config: BenchmarkConfig, baseline: Sequence[Path], test: Sequence[Path], *, paired: bool
) -> RegressionResult:
    """Judge finished runs by the criteria of ``config``; see ``judge_finished``."""
    block = config.spec.regression_testing or RegressionTesting()
    asked = criteria_of(block, probed=False)
    question, notes = question_of(config, asked)
    result = judge_finished(baseline, test, question, asked, paired=paired)
    return dataclasses.replace(result, notes=[*notes, *result.notes])


def judge_finished(
    baseline: Sequence[Path], test: Sequence[Path], question: Question, asked: Criteria, *, paired: bool
) -> RegressionResult:
    """Judge runs that are finished.

    Args:
        paired: run i of both sides ran one after the other.

    Raises:
        StoreError: a folder is no run folder, or has no result.
    """
    finished, folders, configs = [], {}, []
    for side, paths in zip(SIDES, (baseline, test), strict=True):
        for i, path in enumerate(paths):
            folder = RunFolder.open(path)
            result = folder.result()
            config = load_resolved(folder.config_text)
            seeds = [g.config.seed for g in config.spec.benchmark.load_generators]
            run = StudyRun(result.run_id, side, i if paired else None, seeds, str(path), result.status)
            finished.append(Finished(run, result))
            folders[result.run_id] = path
            configs.append(config.to_dict())
    results = [f.result for f in finished if f.result is not None]
    study = Study(
        study_id=f"{results[0].run_id}..{results[-1].run_id}",
        name=results[-1].name,
        tool_version=VERSION,
        started=min(r.started for r in results),
        ended=max(r.ended for r in results),
        arms={side: _info(_version(_of(finished, side)), _of(finished, side)) for side in SIDES},
        finished=finished,
        paired=paired,
        notes=_other_differences(configs),
    )
    return conclude(_complete(study, folders, asked), question, asked)


def _version(results: Sequence[RunResult]) -> str:
    servers = list(dict.fromkeys(r.target.server or r.target.url for r in results))
    return ", ".join(servers) or "unknown"


def _other_differences(configs: Sequence[Mapping[str, object]]) -> list[str]:
    found = [d.path for d in differences(configs, ignore=NOT_THE_LOAD) if not d.path.endswith(".seed")]
    return [f"the runs differ in more than their target: {', '.join(found)}"] if found else []


def _complete(study: Study, folders: Mapping[str, Path], asked: Criteria) -> Study:
    """With the seconds without a server, which take the records of every run, where stability is asked for."""
    if asked.stability is None:
        return study
    found: dict[Side, tuple[float, float]] = {}
    for side in SIDES:
        down = watched = 0.0
        for f in study.finished:
            if f.run.arm == side and f.result is not None:
                one = outages(RunFolder.open(folders[f.run.run]).parts())
                down, watched = down + one[0], watched + one[1]
        found[side] = (down, watched)
    return dataclasses.replace(study, outages=found)
