"""The table of a comparison, once for the terminal, the page and the CSV: the same rows and numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from ..domain.comparison import ComparedMetric, ComparedValue, Comparison, Effect
from ..domain.result import Absent, Measured
from .format import DASH, Scale, digits, scale_of
from .regression import limits, slowdown

METHODS = {
    "welch": "between runs",
    "prediction": "between runs of the baseline",
    "paired": "between pairs of runs",
    "within_run": "within one run",
}


def render_csv(comparison: Comparison) -> str:
    """One row for each load and metric, for each column: value, 95 % limits, and of all but the first the slowdown
    against the first with its limits and where they come from. Values are unrounded, in the unit of the row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["load", "metric", "unit"]
    for i, name in enumerate(comparison.columns):
        parts = ("", "low", "high", "slower by", "slower low", "slower high", "limits")
        header += [f"{name} {part}".strip() for part in (parts if i else parts[:3])]
    writer.writerow(header)
    for metric in comparison.metrics:
        row: list[object] = [metric.load, metric.metric, metric.unit]
        for i, value in enumerate(metric.values):
            row += _csv_cells(value)[: 7 if i else 3]
        writer.writerow(row)
    return out.getvalue()


def _csv_cells(value: ComparedValue | None) -> list[object]:
    if value is None:
        return [""] * 7
    number = value.value.value if isinstance(value.value, Measured) else ""
    cells: list[object] = [number, *("" if v is None else v for v in (value.low, value.high))]
    delta = value.delta
    if isinstance(delta, Effect):
        return [*cells, delta.slowdown, delta.low, delta.high, METHODS[delta.method]]
    return [*cells, "", "", "", delta.absent if isinstance(delta, Absent) else ""]


def scale_for(metric: ComparedMetric) -> Scale:
    """One scale for all numbers of a row."""
    return scale_of(
        metric.unit, [v.value.value for v in metric.values if v is not None and isinstance(v.value, Measured)]
    )


def value_text(value: ComparedValue | None, scale: Scale) -> str:
    if value is None or isinstance(value.value, Absent):
        return DASH
    return f"{digits(value.value.value * scale.factor)} {scale.symbol}".rstrip()


def value_limits(value: ComparedValue | None, scale: Scale) -> str:
    """``12.1 to 12.9``; empty where there are none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{digits(value.low * scale.factor)} to {digits(value.high * scale.factor)}"


def delta_text(value: ComparedValue | None) -> str:
    """The slowdown with its limits; ``~`` before limits from within one run."""
    if value is None or value.delta is None:
        return ""
    if isinstance(value.delta, Absent):
        point, _, rest = value.delta.absent.partition(";")
        return point.removeprefix("slower by ") if rest else DASH
    mark = "~" if value.delta.method == "within_run" else ""
    return f"{slowdown(value.delta)} {mark}({limits(value.delta)})"


def parameter(value: object) -> str:
    return DASH if value is None else str(value)


def render_lines(comparison: Comparison) -> str:
    """For a terminal."""
    lines = [f"{name}: {label}" for name, label in zip(comparison.columns, comparison.labels, strict=True)]
    if comparison.differences:
        rows = [["differs in", *comparison.columns]]
        rows += [[d.path, *(parameter(v) for v in d.values)] for d in comparison.differences]
        lines += ["", *_aligned(rows)]
    else:
        lines += ["", "no parameter differs"]
    for load in dict.fromkeys(m.load for m in comparison.metrics):
        mine = [m for m in comparison.metrics if m.load == load]
        lines += ["", *_aligned([[load, *comparison.columns], *(_line(m) for m in mine)])]
    if any("~" in line for line in lines):
        lines += ["", "slower by, with 95 % limits; ~ from within one run"]
    return "\n".join([*lines, *(["", *comparison.notes] if comparison.notes else [])])


def _line(metric: ComparedMetric) -> list[str]:
    scale = scale_for(metric)
    return [metric.metric, *(f"{value_text(v, scale)}  {delta_text(v)}".rstrip() for v in metric.values)]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
