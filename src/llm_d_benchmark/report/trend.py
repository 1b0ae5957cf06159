"""The history of a benchmark as a page, as CSV and as lines for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from ..domain.comparison import ChangePoint, History, Trend
from ..domain.result import Absent, Scalar
from .format import DASH, Scale, digits, scale_of
from .page import Page, Section, render_page
from .plot import Figure, Json, axis, layout
from .regression import percent
from .tables import Html, HtmlTable, Rows
from .verdict import Tone, Verdict

NEVER_WORSE = "No metric changed its level for the worse."


def responsible(trend: Trend, change: ChangePoint) -> str:
    """Between which keys a change came: ``after A, by B``."""
    return f"after {trend.keys[change.earliest - 1]}, by {trend.keys[change.latest]}"


def describe(trend: Trend, change: ChangePoint) -> str:
    """One change in a sentence."""
    scale = scale_of(trend.unit, [change.before, change.after])
    word = "worse" if change.worse else "better"
    return (
        f"{trend.metric} at {trend.load}: {percent(change.change)} ({word}), from {_number(change.before, scale)} to "
        f"{_number(change.after, scale)}, {responsible(trend, change)}"
    )


def _number(value: float, scale: Scale) -> str:
    return f"{digits(value * scale.factor)} {scale.symbol}".rstrip()


def slope_text(trend: Trend) -> str:
    """Change per run with its limits, of a trend that there is."""
    if isinstance(trend.slope, Absent) or isinstance(trend.slope_low, Absent) or isinstance(trend.slope_high, Absent):
        return DASH
    low, high = trend.slope_low.value, trend.slope_high.value
    return f"{trend.slope.value * 100:+.2f} % ({low * 100:+.2f} to {high * 100:+.2f} %)"


def share(value: Scalar) -> str:
    """A fraction as a percentage."""
    return DASH if isinstance(value, Absent) else f"{value.value * 100:.1f} %"


def direction_text(trend: Trend) -> str:
    """rising (worse), falling (better), none; with the changes of level, of which a trend may be the trace."""
    if trend.direction in ("none", "unknown"):
        return trend.direction
    worse = (trend.direction == "rising") == trend.lower_is_better
    return f"{trend.direction} ({'worse' if worse else 'better'})"


def changes(history: History) -> list[tuple[Trend, ChangePoint]]:
    """Every change of level, the latest first."""
    found = [(t, c) for t in history.trends for c in t.change_points]
    return sorted(found, key=lambda f: f[1].index - len(f[0].values), reverse=True)


def render_html(history: History, command: str = "") -> str:
    """The whole page."""
    found = changes(history)
    worse = [f for f in found if f[1].worse]
    tone: Tone = "warning" if worse else "good"
    verdict = Verdict(
        "CHANGED" if worse else "STEADY",
        tone,
        f"{len(worse)} changes of level for the worse." if worse else NEVER_WORSE,
    )
    sections = [Section("Changes of level", "changes", tables=[_changes(found)])] if found else []
    sections.append(Section("Trends", "trends", tables=[_slopes(history.trends)]))
    for i, load in enumerate(dict.fromkeys(t.load for t in history.trends)):
        figures = [_figure(t, f"history-{i}-{j}") for j, t in enumerate(history.trends) if t.load == load]
        sections.append(Section(f"Load {load}", f"load-{i}", figures=figures))
    if history.notes:
        sections.append(Section("Notes", "notes", items=history.notes))
    runs = max((len(t.values) for t in history.trends), default=0)
    return render_page(Page(f"History by {history.by}", f"{runs} runs", sections, verdict=verdict, command=command))


def _changes(found: Sequence[tuple[Trend, ChangePoint]]) -> HtmlTable:
    rows: Rows = []
    for trend, change in found:
        scale = scale_of(trend.unit, [change.before, change.after])
        mark = '<span class="mark bad">worse</span>' if change.worse else '<span class="mark good">better</span>'
        rows.append(
            [trend.load, trend.metric, Markup(mark), percent(change.change), _number(change.before, scale),
             _number(change.after, scale), f"{change.p_value:.3g}", responsible(trend, change)]
        )  # fmt: skip
    header: list[Html] = ["Load", "Metric", "", "Change", "Before", "After", "p", "When"]
    caption = (
        "Binary segmentation with a permutation test; the interval holds the change with 95 % confidence. Medians."
    )
    return HtmlTable("Where the level changed", caption, header, rows, 3, words=True)


def _slopes(trends: Sequence[Trend]) -> HtmlTable:
    rows: Rows = [
        [
            t.load,
            t.metric,
            str(len(t.values)),
            direction_text(t),
            slope_text(t),
            DASH if isinstance(t.p_value, Absent) else f"{t.p_value.value:.3g}",
            share(t.noise),
            share(t.smallest_change),
        ]
        for t in trends
    ]
    header: list[Html] = ["Load", "Metric", "Runs", "Trend", "Per run", "p", "Noise", "Found within 3 runs"]
    caption = (
        "Theil-Sen slope as a share of the median, with 95 % limits; Mann-Kendall test, dependence of successive runs "
        "taken into account. A change of level shows as a trend, too. Noise: how much runs of one level differ by "
        "chance; found within 3 runs: the smallest change of level that is seen, in 9 of 10 cases, by its third run."
    )
    return HtmlTable("Trends", caption, header, rows, 2)


def _figure(trend: Trend, name: str) -> Figure:
    scale = scale_of(trend.unit, trend.values)
    x = list(range(len(trend.values)))
    odd = set(trend.quarantined)
    points: Json = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": [v * scale.factor for v in trend.values],
        "text": [f"{k} {r}" for k, r in zip(trend.keys, trend.runs, strict=True)],
        "marker": {"size": 6, "color": "@c1", "symbol": ["x" if i in odd else "circle" for i in x]},
        "hovertemplate": "%{text}: %{y:.4g} " + scale.symbol + "<extra></extra>",
    }
    edges = [0, *(c.index for c in trend.change_points), len(trend.values)]
    traces = [points]
    for start, end in pairwise(edges):
        part = sorted(trend.values[start:end])
        middle = part[len(part) // 2] * scale.factor
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [start - 0.4, end - 0.6],
                "y": [middle, middle],
                "line": {"color": "@c2", "width": 2},
                "hoverinfo": "skip",
            }
        )
    shapes = [
        {
            "type": "rect",
            "x0": c.earliest - 0.5 - (c.earliest == c.latest) * 0.1,
            "x1": c.latest - 0.5 + (c.earliest == c.latest) * 0.1,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "fillcolor": "@bad" if c.worse else "@good",
            "opacity": 0.25,
            "line": {"width": 0},
        }
        for c in trend.change_points
    ]
    step = max(1, len(x) // 8)
    return Figure(
        name,
        trend.metric,
        "One point for each run (× quarantined), the median of each level; bars show where a change lies.",
        traces,
        layout(
            xaxis=axis("", rangemode="normal", tickvals=x[::step], ticktext=list(trend.keys[::step])),
            yaxis=axis(scale.symbol, rangemode="normal"),
            shapes=shapes,
            showlegend=False,
        ),
        height=280,
    )


def render_csv(history: History) -> str:
    """One row for each run of each history: load, metric, unit, key, run, value, level (from 1), quarantined."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["load", "metric", "unit", history.by, "run", "value", "level", "quarantined"])
    for t in history.trends:
        for i, (key, run, value) in enumerate(zip(t.keys, t.runs, t.values, strict=True)):
            level = 1 + sum(c.index <= i for c in t.change_points)
            writer.writerow([t.load, t.metric, t.unit, key, run, value, level, "yes" if i in t.quarantined else ""])
    return out.getvalue()


def render_lines(history: History) -> str:
    """For a terminal."""
    lines = []
    rows = [["load", "metric", "runs", "last", "trend", "per run", "noise", "found within 3 runs"]]
    for t in history.trends:
        scale = scale_of(t.unit, t.values)
        last = _number(t.values[-1], scale)
        rows.append(
            [t.load, t.metric, str(len(t.values)), last, direction_text(t), slope_text(t), share(t.noise),
             share(t.smallest_change)]
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    found = changes(history)
    lines += ["", *(describe(t, c) for t, c in found)] if found else ["", "no change of level"]
    return "\n".join([*lines, *history.notes])
