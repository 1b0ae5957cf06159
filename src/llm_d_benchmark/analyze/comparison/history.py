"""The history of a benchmark: every metric at every load over its runs, with trend and changes of level."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from ...config.aliases import MetricRef
from ...domain.comparison import NOT_ENOUGH_RUNS, ChangePoint, History, Trend
from ...domain.result import Absent, Measured, RunResult, Scalar
from .changepoints import LEAST_RUNS, Split, change_points, found_soon
from .effects import FloatArray
from .levels import levels, metric_refs, unit_of, value_of
from .outliers import outliers
from .trend import LEAST, theil_sen

By = Literal["date", "version", "commit"]
METRICS = ("ttft.mean", "ttft.p99", "tpot.mean", "e2e.mean", "e2e.p99", "output_tokens_per_second")
PROMISED = 0.1
"""The change that is to be found within three runs."""
MOST_NAMED = 4
MANY = 500
"""More runs than this are not looked at together: what was two years ago says little of what is usual now."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run of the history: its result, its configuration as plain data, and what orders it."""

    result: RunResult
    config: Mapping[str, Any]
    key: str


def history(
    runs: Sequence[PastRun], metrics: Sequence[str] = METRICS, *, by: By = "date", magnitude: float = 0.05
) -> History:
    """Trends of the runs that can be compared: those of one name, target, model and load.

    Args:
        runs: in the order of time.
        magnitude: the least change of level that is reported, a fraction.
    """
    used = [r for r in runs if r.result.status == "ok" and r.result.validity.valid]
    notes = []
    if len(used) < len(runs):
        notes.append(f"{len(runs) - len(used)} of {len(runs)} runs are left out: failed, partial or not valid")
    series: dict[str, list[PastRun]] = {}
    for run in used:
        series.setdefault(_series(run), []).append(run)
    trends = []
    for mine in series.values():
        if len(mine) > MANY:
            notes.append(f"{mine[-1].result.name}: only its last {MANY} runs are looked at")
            mine = mine[-MANY:]
        prefix = f"{mine[-1].result.name}: " if len(series) > 1 else ""
        trends += _trends(mine, metric_refs(metrics), prefix, magnitude)
    notes += _late(trends)
    if len(series) > 1:
        notes.append(f"{len(series)} histories: runs of another name, target, model or load are not one with these")
    return History(by, trends, notes)


def _late(trends: Sequence[Trend]) -> list[str]:
    """What is too noisy for a change of a tenth to be found soon."""
    slow = [(t, t.smallest_change.value) for t in trends if isinstance(t.smallest_change, Measured)]
    said = [f"{t.metric} at {t.load} (from {size:.0%} on)" for t, size in slow if size > PROMISED]
    if not said:
        return []
    return [
        f"so much do runs differ by chance that a change of {PROMISED:.0%} is not surely found within three runs: "
        + ", ".join(said[:MOST_NAMED])
        + (f" and {len(said) - MOST_NAMED} more" if len(said) > MOST_NAMED else "")
    ]


def _series(run: PastRun) -> str:
    """What must be the same for two runs to be of one history: all but seeds, the server's version and address."""
    target = run.result.target
    benchmark = _without_seeds(run.config.get("spec", {}).get("benchmark", {}))
    return json.dumps([run.result.name, run.result.simulated, target.type, target.model, benchmark], sort_keys=True)


def _without_seeds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_seeds(v) for k, v in value.items() if k != "seed"}
    return [_without_seeds(v) for v in value] if isinstance(value, list) else value


def _trends(runs: Sequence[PastRun], refs: Sequence[MetricRef], prefix: str, magnitude: float) -> list[Trend]:
    found = []
    for load, stages in levels([r.result for r in runs]).items():
        for ref in refs:
            values: list[Scalar] = [
                Absent("no such load") if s is None else value_of(s.metrics, ref, s) for s in stages
            ]
            kept = [(r, v.value) for r, v in zip(runs, values, strict=True) if isinstance(v, Measured) and v.value > 0]
            if kept:
                unit = unit_of(values, ref)
                found.append(
                    _trend(
                        [r for r, _ in kept], np.array([v for _, v in kept]), f"{prefix}{load}", ref, unit, magnitude
                    )
                )
    return found


def _trend(
    runs: Sequence[PastRun], values: FloatArray, load: str, ref: MetricRef, unit: str, magnitude: float
) -> Trend:
    slopes: list[Scalar] = [Absent(f"a trend needs {LEAST} runs, there are {len(values)}")] * 4
    direction: Literal["rising", "falling", "none", "unknown"] = "unknown"
    splits: list[Split] = []
    if len(values) >= LEAST:
        middle = float(np.median(values))
        slope = theil_sen(values)
        numbers = (slope.slope / middle, slope.low / middle, slope.high / middle)
        slopes = [*(Measured(n, "fraction") for n in numbers), Measured(slope.p, "")]
        direction = "none" if slope.p >= 0.05 else "rising" if slope.slope > 0 else "falling"
    if len(values) >= 2 * LEAST_RUNS:
        splits = change_points(np.log(values), magnitude=math.log1p(magnitude))
    edges = [0, *(s.index for s in splits), len(values)]
    noise, smallest = _sensitivity(np.log(values), edges, math.log1p(magnitude))
    odd = [start + i for start, end in pairwise(edges) for i, _ in outliers(np.log(values[start:end]))]
    return Trend(
        load=load,
        metric=ref.path,
        unit=unit,
        lower_is_better=ref.lower_is_better,
        runs=[r.result.run_id for r in runs],
        keys=[r.key for r in runs],
        values=[float(v) for v in values],
        slope=slopes[0],
        slope_low=slopes[1],
        slope_high=slopes[2],
        p_value=slopes[3],
        direction=direction,
        noise=noise,
        smallest_change=smallest,
        change_points=[_change(s, values, edges[i], edges[i + 2], ref) for i, s in enumerate(splits)],
        quarantined=odd,
    )


def _sensitivity(logs: FloatArray, edges: Sequence[int], magnitude: float) -> tuple[Scalar, Scalar]:
    """The noise between the runs of one level, and the smallest change that it lets be found soon."""
    levels_ = [logs[start:end] for start, end in pairwise(edges)]
    left = len(logs) - len(levels_)
    if left < LEAST_RUNS:
        return NOT_ENOUGH_RUNS, NOT_ENOUGH_RUNS
    sd = math.sqrt(sum(float(((part - part.mean()) ** 2).sum()) for part in levels_) / left)
    size = found_soon(len(levels_[-1]), sd, magnitude)
    return Measured(sd, "fraction"), NOT_ENOUGH_RUNS if size is None else Measured(math.expm1(size), "fraction")


def _change(split: Split, values: FloatArray, start: int, end: int, ref: MetricRef) -> ChangePoint:
    before, after = float(np.median(values[start : split.index])), float(np.median(values[split.index : end]))
    return ChangePoint(
        index=split.index,
        earliest=split.earliest,
        latest=split.latest,
        change=after / before - 1,
        p_value=split.p,
        worse=(after > before) == ref.lower_is_better,
        before=before,
        after=after,
    )
