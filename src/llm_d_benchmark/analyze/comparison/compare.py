"""Any runs side by side: what differs between them, and every metric at every load against the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...config.aliases import MetricRef
from ...domain.comparison import ComparedMetric, ComparedValue, Comparison, Difference, Effect
from ...domain.result import Absent, Measured, RunResult, Scalar, StageResult
from .. import quantiles
from .differences import differences
from .effects import slowness
from .levels import levels, metric_refs, unit_of, value_of
from .usable import unusable
from .verdicts import measure
from .within import Limits, known_limits, ratio_effect

METRICS = (
    "ttft.mean", "ttft.p50", "ttft.p95", "ttft.p99", "tpot.mean", "tpot.p50", "tpot.p99", "itl.p50", "itl.p99",
    "e2e.mean", "e2e.p50", "e2e.p95", "e2e.p99", "output_tokens_per_second", "requests_per_second", "goodput",
    "error_rate",
)  # fmt: skip
LONGEST = 40
NO_LIMITS = "it has no limits within one run; repeat the runs to compare it"
TARGET_FACTS = ("type", "model", "server", "fingerprint")
"""Not the URL: a started server has another port each time, and that of a running one is in the configuration."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One run to compare.

    Attributes:
        config: the resolved configuration as plain data.
        limits: by stage index, from within the run (``within.stage_limits``).
    """

    result: RunResult
    config: Mapping[str, Any]
    limits: Mapping[int, Mapping[str, Limits]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    runs: Sequence[Compared]
    stages: Mapping[str, Sequence[StageResult | None]]


def compare_runs(runs: Sequence[Compared], metrics: Sequence[str] = METRICS) -> Comparison:
    """Compare runs with the first. Runs that differ in nothing but their seed are one column, where there are others
    that do differ: their spread is then what a difference is held against."""
    groups = _groups(runs)
    matched = levels([r.result for r in runs])
    names = _names(groups)
    position = {id(run): i for i, run in enumerate(runs)}
    columns = [
        _Column(name, group, {load: [stages[position[id(r)]] for r in group] for load, stages in matched.items()})
        for name, group in zip(names, groups, strict=True)
    ]
    rows = [row for load in matched for ref in metric_refs(metrics) if (row := _row(load, ref, columns)) is not None]
    return Comparison(
        columns=names,
        runs=[[r.result.run_id for r in group] for group in groups],
        labels=[_label(group) for group in groups],
        differences=_between(groups),
        metrics=rows,
        notes=_notes(columns, matched),
    )


def _between(groups: Sequence[Sequence[Compared]]) -> list[Difference]:
    """What differs between the columns. Where one has several runs, their seeds differ whichever of them is first."""
    found = differences([_parameters(group[0]) for group in groups])
    return _real(found) if any(len(group) > 1 for group in groups) else found


def _groups(runs: Sequence[Compared]) -> list[list[Compared]]:
    """Runs by what they measured, in the order given; each by itself where they all measured the same."""
    groups: list[list[Compared]] = []
    for run in runs:
        mine = _parameters(run)
        for group in groups:
            if not _real(differences([_parameters(group[0]), mine])):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups if len(groups) > 1 else [[run] for run in runs]


def _real(found: Sequence[Difference]) -> list[Difference]:
    return [d for d in found if not d.path.endswith(".seed")]


def _parameters(run: Compared) -> dict[str, Any]:
    """Configuration and target as found, without what is filled in from another place."""
    target = run.result.target
    facts = {name: getattr(target, name) for name in TARGET_FACTS}
    if run.result.simulated:
        del facts["fingerprint"]  # it has the seed in it
    return {**run.config, "target": facts, "tool_version": run.result.tool_version}


def _names(groups: Sequence[Sequence[Compared]]) -> list[str]:
    """What the columns are called: whatever of version label, name, server and single differing parameter tells them
    apart, else their run ids."""
    for names in (
        [str(g[0].config.get("metadata", {}).get("labels", {}).get("version", "")) for g in groups],
        [g[0].result.name for g in groups],
        [g[0].result.target.server or "" for g in groups],
        _by_parameter(groups),
    ):
        if names and all(names) and len(set(names)) == len(names):
            return names
    return [g[0].result.run_id for g in groups]


def _by_parameter(groups: Sequence[Sequence[Compared]]) -> list[str]:
    """``slots=4`` where just one parameter differs."""
    found = _real(differences([_parameters(group[0]) for group in groups]))
    if len(found) != 1:
        return []
    key = found[0].path.rpartition(".")[2]
    names = [f"{key}={value}" for value in found[0].values]
    return names if max(map(len, names)) <= LONGEST else []


def _label(group: Sequence[Compared]) -> str:
    target = group[0].result.target
    simulated = ", simulated" if group[0].result.simulated else ""
    many = f"{len(group)} runs" if len(group) > 1 else "1 run"
    return f"{target.model or 'unknown model'} at {target.url} ({target.server or target.type}{simulated}), {many}"


def _row(load: str, ref: MetricRef, columns: Sequence[_Column]) -> ComparedMetric | None:
    """None where no column has the metric at this load."""
    values = [_values(c.stages[load], ref) for c in columns]
    flat = [v for column in values for v in column]
    if not any(isinstance(v, Measured) for v in flat):
        return None
    base = columns[0]
    found: list[ComparedValue | None] = []
    for i, column in enumerate(columns):
        value, limits = _summary(column, load, ref, values[i])
        delta = None if i == 0 else _delta(base, column, load, ref, (values[0], values[i]))
        measured = any(s is not None for s in column.stages[load])
        low, high = limits or (None, None)
        found.append(ComparedValue(value, low, high, delta) if measured else None)
    return ComparedMetric(load, ref.path, unit_of(flat, ref), ref.lower_is_better, found)


def _values(stages: Sequence[StageResult | None], ref: MetricRef) -> list[Scalar]:
    return [value_of(s.metrics, ref, s) for s in stages if s is not None]


def _numbers(values: Sequence[Scalar]) -> list[float]:
    return [v.value for v in values if isinstance(v, Measured)]


def _summary(column: _Column, load: str, ref: MetricRef, values: Sequence[Scalar]) -> tuple[Scalar, Limits | None]:
    """The value of a column and its two-sided 95 % limits: over its runs, or within its only one."""
    numbers = _numbers(values)
    if not numbers:
        return (values[0] if values else Absent("no such load in this run")), None
    mean = float(np.mean(numbers))
    unit = unit_of(values, ref)
    if len(numbers) > 1:
        half = quantiles.student(0.975, len(numbers) - 1) * float(np.std(numbers, ddof=1)) / math.sqrt(len(numbers))
        return Measured(mean, unit), (mean - half, mean + half)
    return Measured(mean, unit), _own_limits(column, load, ref)


def _own_limits(column: _Column, load: str, ref: MetricRef) -> Limits | None:
    for run, stage in zip(column.runs, column.stages[load], strict=True):
        if stage is not None and isinstance(value_of(stage.metrics, ref, stage), Measured):
            return known_limits(stage.metrics, ref.path, run.limits.get(stage.index, {}))
    return None


def _delta(
    base: _Column, column: _Column, load: str, ref: MetricRef, values: tuple[Sequence[Scalar], Sequence[Scalar]]
) -> Effect | Absent:
    before, after = (_numbers(v) for v in values)
    if not before or not after:
        return Absent("measured on one side only")
    if min(len(before), len(after)) > 1:
        try:
            first_logs, second_logs = (slowness(side, ref.lower_is_better) for side in (before, after))
            return measure(first_logs, second_logs, 0.0, blocks=False).effect
        except ValueError:
            return Absent("a value is 0, so that no ratio is defined")
    if min(*before, *after) <= 0:
        return Absent("a value is 0, so that no ratio is defined")
    (first, own), (second, other) = (
        (float(np.mean(n)), _summary(c, load, ref, v)[1])
        for n, c, v in ((before, base, values[0]), (after, column, values[1]))
    )
    effect = None
    if own is not None and other is not None:
        effect = ratio_effect(first, own, second, other, lower_is_better=ref.lower_is_better)
    return effect or Absent(f"{_point(first, second, ref.lower_is_better)}; {NO_LIMITS}")


def _point(first: float, second: float, lower_is_better: bool) -> str:
    ratio = second / first if lower_is_better else first / second
    return f"slower by {(ratio - 1) * 100:+.1f} %"


def _notes(columns: Sequence[_Column], matched: Mapping[str, Any]) -> list[str]:
    notes = []
    if any(len(c.runs) == 1 for c in columns):
        notes.append(
            "Limits of single runs come from within the run: they say how sure its own numbers are, not what another "
            "run would give. Repeat the runs (three or more of each) to tell a difference from chance."
        )
    for column in columns:
        for run in column.runs:
            if (reason := unusable(run.result)) is not None:
                notes.append(f"{run.result.run_id} says little of the server: {reason}")
    alone = [load for load, stages in matched.items() if sum(s is not None for s in stages) == 1]
    if alone:
        notes.append(f"Only one run has the load {', '.join(alone)}: there is nothing to compare it with.")
    if len({r.result.simulated for c in columns for r in c.runs}) > 1:
        notes.append("Some of the runs are simulated, and some are not.")
    return notes
