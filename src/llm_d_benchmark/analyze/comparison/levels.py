"""Stages of several runs matched by their load, and the values of their metrics: levels are never mixed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ...config.aliases import MetricRef, parse_metric
from ...domain.result import Absent, Distribution, Measured, Metrics, RunResult, Scalar, StageResult

DECIDING = ("ttft.mean", "tpot.mean", "e2e.mean", "output_tokens_per_second")
"""Means and totals of whole runs: what differs between runs the least, so that they need the fewest."""
SHOWN = ("ttft.p50", "ttft.p99", "itl.p99", "e2e.p50", "e2e.p95", "e2e.p99", "requests_per_second", "goodput")

Levels = dict[str, list[StageResult | None]]
"""Label of a load -> the stage of each run at it, None where a run has none."""


def metric_refs(names: Iterable[str]) -> list[MetricRef]:
    """Metrics by name; of a distribution without a statistic, its mean."""
    found = []
    for name in names:
        ref = parse_metric(name)
        found.append(parse_metric(f"{ref.metric}.mean") if ref.unit == "s" and ref.statistic is None else ref)
    return list(dict.fromkeys(found))


def levels(runs: Sequence[RunResult]) -> Levels:
    """The stages of all runs by load: rate, concurrency, arrival process. Equal loads in one run are told apart by
    their order."""
    by_key: dict[tuple[str, int], list[StageResult | None]] = {}
    for i, run in enumerate(runs):
        seen: dict[str, int] = {}
        for stage in run.stages:
            load = _load_key(stage)
            seen[load] = seen.get(load, 0) + 1
            by_key.setdefault((load, seen[load]), [None] * len(runs))[i] = stage
    found: Levels = {}
    for stages in by_key.values():
        label = next(s.label for s in stages if s is not None)
        number, name = 1, label
        while name in found:
            number += 1
            name = f"{label} ({number})"
        found[name] = stages
    return found


def _load_key(stage: StageResult) -> str:
    load = stage.load.get("load")
    if not isinstance(load, dict):
        return stage.label
    return json.dumps({k: v for k, v in load.items() if v not in (None, 0.0)}, sort_keys=True)


def value_of(metrics: Metrics, ref: MetricRef, stage: StageResult | None = None) -> Scalar:
    """One number of a run: a scalar, or a statistic of a distribution (as sampled: the limits come from the runs)."""
    found = getattr(metrics, ref.metric, None)
    if found is None and stage is not None:
        found = stage.resources.get(ref.metric)
    if isinstance(found, Distribution):
        statistic = ref.statistic or "mean"
        number = getattr(found, statistic) if statistic in ("mean", "min", "max") else found.at(statistic)
        return (
            Absent(f"the load generator does not report {ref.path}") if number is None else Measured(number, found.unit)
        )
    if isinstance(found, Measured | Absent):
        return found
    return Absent(f"{ref.metric} was not measured in this run")


def unit_of(values: Iterable[Scalar], ref: MetricRef) -> str:
    return next((v.unit for v in values if isinstance(v, Measured)), ref.unit)
