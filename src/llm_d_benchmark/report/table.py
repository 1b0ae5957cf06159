"""The stage table that console and Markdown share: a few columns that say most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..domain.result import Absent, Distribution, DistributionOrAbsent, Estimate, Measured, Metrics, RunResult, Scalar
from .format import DASH, TOO_FEW, digits, scale_of

UNSURE = "*"
"""Follows a percentile of too few requests for confidence limits."""


Getter = Callable[[Metrics], tuple[float, bool] | Absent]
"""A metric's value and whether it is sure, or why it is absent."""


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of the stage table; ``rank`` says how soon it is dropped where space is short (high first)."""

    title: str
    unit: str
    get: Getter
    rank: int = 0


def _scalar(name: str) -> Getter:
    def get(metrics: Metrics) -> tuple[float, bool] | Absent:
        value: Scalar = getattr(metrics, name)
        return (value.value, True) if isinstance(value, Measured) else value

    return get


def _percentile(name: str, key: str) -> Getter:
    def get(metrics: Metrics) -> tuple[float, bool] | Absent:
        value: DistributionOrAbsent = getattr(metrics, name)
        if isinstance(value, Absent):
            return value
        found = value.percentiles[key]
        return found if isinstance(found, Absent) else (found.value, isinstance(found, Estimate))

    return get


COLUMNS: tuple[Column, ...] = (
    Column("req/s", "requests/s", _scalar("requests_per_second")),
    Column("out tok/s", "tokens/s", _scalar("output_tokens_per_second")),
    Column("TTFT p50", "s", _percentile("ttft", "p50")),
    Column("TTFT p99", "s", _percentile("ttft", "p99")),
    Column("TPOT p50", "s", _percentile("tpot", "p50"), 1),
    Column("ITL p99", "s", _percentile("itl", "p99"), 3),
    Column("E2E p50", "s", _percentile("e2e", "p50"), 2),
    Column("E2E p99", "s", _percentile("e2e", "p99"), 4),
    Column("errors", "fraction", _scalar("error_rate")),
    Column("goodput", "requests/s", _scalar("goodput"), 5),
)


def unsure_means(result: RunResult) -> str:
    """What the ``UNSURE`` mark says in this result."""
    found = [d for stage in result.stages for d in (stage.metrics.ttft, stage.metrics.tpot, stage.metrics.e2e)]
    others = any(isinstance(d, Distribution) and d.limits == "reported" for d in found)
    return f"{TOO_FEW}, or another tool's own figure" if others else TOO_FEW


@dataclass(frozen=True, slots=True)
class StageTable:
    """``header`` and ``rows`` of text; ``unsure`` where some percentile carries the ``UNSURE`` mark."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    unsure: bool
    absent: Sequence[str]


def stage_table(result: RunResult, *, drop_above: int = 9) -> StageTable:
    """The stages as text. Columns absent in every stage, or ranked above ``drop_above``, are left out.

    Returns:
        the table; ``absent`` holds "metrics: reason" for the columns left out because no stage has them.
    """
    header, columns, unsure = ["stage", "load"], [], False
    absent: dict[str, list[str]] = {}
    for column in COLUMNS:
        cells = [column.get(stage.metrics) for stage in result.stages]
        values = [c[0] for c in cells if not isinstance(c, Absent)]
        if not values:
            reasons = sorted({c.absent for c in cells if isinstance(c, Absent)})
            absent.setdefault("; ".join(reasons), []).append(column.title)
            continue
        if column.rank > drop_above:
            continue
        scale = scale_of(column.unit, values)
        symbol = scale.symbol if column.unit in ("s", "fraction") else ""
        header.append(f"{column.title} {symbol}".strip())
        columns.append(
            [DASH if isinstance(c, Absent) else digits(c[0] * scale.factor) + ("" if c[1] else UNSURE) for c in cells]
        )
        unsure = unsure or any(not isinstance(c, Absent) and not c[1] for c in cells)
    several = len({stage.load_generator for stage in result.stages}) > 1
    names = [
        [f"{stage.load_generator} {stage.name}" if several else stage.name, stage.label] for stage in result.stages
    ]
    rows = [[*name, *(column[i] for column in columns)] for i, name in enumerate(names)]
    said = [f"{', '.join(titles)}: {reason}" for reason, titles in absent.items() if reason]
    return StageTable(header, rows, unsure, said)
