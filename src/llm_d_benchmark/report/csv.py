"""result.csv: tidy, one row for each stage, model, metric and statistic."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator

from ..domain.result import (
    Absent,
    Distribution,
    Estimate,
    Insufficient,
    Lengths,
    Measured,
    Metrics,
    RequestCounts,
    RunResult,
)

HEADER = (
    "stage",
    "name",
    "load_generator",
    "load",
    "model",
    "metric",
    "statistic",
    "value",
    "unit",
    "low",
    "high",
    "note",
)
ALL_MODELS = "all"

Row = tuple[str, str, str | int | float, str, str | float, str | float, str]
"""metric, statistic, value, unit, low, high, note; empty where there is nothing."""


def render_csv(result: RunResult) -> str:
    """The metrics of every stage, of all models together (model ``all``) and of each. Values are unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for stage in result.stages:
        for model, metrics in {ALL_MODELS: stage.metrics, **stage.by_model}.items():
            lead = (stage.index, stage.name, stage.load_generator, stage.label, model)
            writer.writerows((*lead, *row) for row in _rows(metrics))
    return out.getvalue()


def _rows(metrics: Metrics) -> Iterator[Row]:
    for field in dataclasses.fields(metrics):
        value = getattr(metrics, field.name)
        match value:
            case Measured() | Absent():
                yield _scalar(field.name, "value", value)
            case Distribution():
                yield from _distribution(field.name, value)
            case RequestCounts():
                yield from _counts(field.name, value)
            case Lengths():
                note = f"counted by {value.source}" if value.source else ""
                for part in ("asked", "achieved", "deviation"):
                    row = _scalar(field.name, part, getattr(value, part))
                    yield (*row[:-1], row[-1] or note)


def _scalar(metric: str, statistic: str, value: Measured | Absent) -> Row:
    if isinstance(value, Absent):
        return (metric, statistic, "", "", "", "", f"absent: {value.absent}")
    return (metric, statistic, value.value, value.unit, "", "", "")


def _distribution(metric: str, value: Distribution) -> Iterator[Row]:
    yield (metric, "count", value.count, "count", "", "", "")
    for name in ("mean", "sd", "min", "max"):
        number = getattr(value, name)
        if number is not None:
            yield (metric, name, number, value.unit, "", "", "")
    for key, percentile in value.percentiles.items():
        if isinstance(percentile, Estimate):
            note = f"95 % limits: {value.limits}"
            yield (metric, key, percentile.value, value.unit, percentile.low, percentile.high, note)
        elif isinstance(percentile, Absent):
            yield (metric, key, "", "", "", "", f"absent: {percentile.absent}")
        else:
            note = "insufficient" if isinstance(percentile, Insufficient) else "reported by the tool, without limits"
            yield (metric, key, percentile.value, value.unit, "", "", note)


def _counts(metric: str, value: RequestCounts) -> Iterator[Row]:
    for name in ("sent", "succeeded", "failed", "cancelled"):
        yield (metric, name, getattr(value, name), "count", "", "", "")
    for name, number in value.errors.items():
        yield (metric, f"errors.{name}", number, "count", "", "", "")
