"""Compared runs as a page: parameters that differ, curves on shared axes, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..domain.comparison import ComparedValue, Comparison, Effect
from ..domain.result import Absent, Measured
from .comparison_table import METHODS, delta_text, parameter, scale_for, value_limits, value_text
from .format import scale_of
from .page import Page, Section, render_page
from .plot import DASHES, Figure, Json, axis, finite, layout, line, log_axis, stage_colors
from .tables import Html, HtmlTable, Rows

Overlay = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
"""Load -> metric -> for each column the quantiles at evenly spaced levels from 0 to 1 (empty where it has none)."""
TITLES = {
    "ttft": "Time to first token",
    "itl": "Inter-token latency",
    "tpot": "Time per output token",
    "e2e": "End to end",
}
MOST_LOADS = 6


def render_html(comparison: Comparison, overlay: Overlay, command: str = "") -> str:
    """The whole page."""
    sections = [Section("What differs", "differences", tables=[_runs(comparison), *_differences(comparison)])]
    across = _across(comparison)
    if across:
        sections.append(Section("Over the loads", "loads", figures=across))
    for i, load in enumerate(dict.fromkeys(m.load for m in comparison.metrics)):
        figures = _overlays(comparison.columns, overlay.get(load, {}), i) if i < MOST_LOADS else []
        sections.append(Section(f"Load {load}", f"load-{i}", figures=figures, tables=[_table(comparison, load)]))
    if comparison.notes:
        sections.append(Section("Notes", "notes", items=comparison.notes))
    return render_page(
        Page(
            title=f"Comparison of {', '.join(comparison.columns)}",
            subtitle=f"Against {comparison.columns[0]}. Positive is slower, of latencies and of rates alike.",
            sections=sections,
            command=command,
        )
    )


def _runs(comparison: Comparison) -> HtmlTable:
    rows: Rows = [
        [name, label, ", ".join(runs)]
        for name, label, runs in zip(comparison.columns, comparison.labels, comparison.runs, strict=True)
    ]
    return HtmlTable(
        "Runs", "Those that differ in nothing but their seed are one column.", ["Column", "Target", "Runs"], rows, 3
    )


def _differences(comparison: Comparison) -> list[HtmlTable]:
    if not comparison.differences:
        return []
    rows: Rows = [[d.path, *(parameter(v) for v in d.values)] for d in comparison.differences]
    header: list[Html] = ["Parameter", *comparison.columns]
    return [HtmlTable("Parameters", "Only those that differ.", header, rows, len(header))]


def _table(comparison: Comparison, load: str) -> HtmlTable:
    rows: Rows = []
    for m in comparison.metrics:
        if m.load == load:
            scale = scale_for(m)
            rows.append([m.metric, *(_cell(v, value_text(v, scale), value_limits(v, scale)) for v in m.values)])
    caption = (
        "Under each value: its two-sided 95 % limits, and how much slower it is than the first column, with limits."
    )
    return HtmlTable("Metrics", caption, ["Metric", *comparison.columns], rows)


def _cell(value: ComparedValue | None, text: str, limits: str) -> Html:
    raw = value.value.value if value is not None and isinstance(value.value, Measured) else None
    if value is None or raw is None:
        reason = value.value.absent if value is not None and isinstance(value.value, Absent) else "no such load"
        return Markup('<span class="absent" title="{}">{}</span>').format(reason, text)
    html = Markup('<data class="n" value="{0}" title="{0}">{1}</data>').format(repr(raw), text)
    if limits:
        html += Markup('<small class="limits">{}</small>').format(limits)
    delta = value.delta
    if delta is not None:
        why = METHODS[delta.method] if isinstance(delta, Effect) else delta.absent
        html += Markup('<small class="limits {}" title="{}">{}</small>').format(_tone(delta), why, delta_text(value))
    return html


def _tone(delta: Effect | Absent) -> str:
    """Coloured only where the limits exclude no change."""
    if isinstance(delta, Absent) or delta.low <= 0 <= delta.high:
        return ""
    return "mark bad" if delta.slowdown > 0 else "mark good"


def _overlays(columns: Sequence[str], metrics: Mapping[str, Sequence[Sequence[float]]], number: int) -> list[Figure]:
    """The distributions of every column on shared axes."""
    colors = stage_colors(len(columns))
    figures = []
    for name, title in TITLES.items():
        curves = [(c, q) for c, q in enumerate(metrics.get(name, ())) if len(q) > 1]
        if len(curves) < 2:
            continue
        scale = scale_of("s", [q[len(q) // 2] for _, q in curves])
        traces = [
            line(
                [v * scale.factor for v in q],
                [i / (len(q) - 1) for i in range(len(q))],
                columns[c],
                colors[c],
                dash=DASHES[c % len(DASHES)],
                hovertemplate="%{y:.1%} within %{x:.4g} " + scale.symbol + "<extra>%{fullData.name}</extra>",
            )
            for c, q in curves
        ]
        end = max(q[round(0.995 * (len(q) - 1))] for _, q in curves) * scale.factor
        figures.append(
            Figure(
                f"overlay-{number}-{name}",
                title,
                "Share at most so slow.",
                traces,
                layout(
                    xaxis=axis(scale.symbol, range=[0, end * 1.05]), yaxis=axis("", tickformat=".0%", range=[0, 1.02])
                ),
                height=300,
            )
        )
    return figures


def _across(comparison: Comparison) -> list[Figure]:
    """Throughput against latency with a line for each column, where there are several loads."""
    by = {(m.load, m.metric): m.values for m in comparison.metrics}
    loads = list(dict.fromkeys(m.load for m in comparison.metrics))
    latency = next((n for n in ("ttft.p50", "e2e.p50") if any(m == n for _, m in by)), None)
    if len(loads) < 2 or latency is None:
        return []
    colors = stage_colors(len(comparison.columns))
    scale = scale_of("s", [p[1] for c in range(len(colors)) for p in _points(by, loads, latency, c)])
    traces: list[Json] = []
    for c, name in enumerate(comparison.columns):
        points = _points(by, loads, latency, c)
        traces.append(
            {
                **line([p[0] for p in points], [p[1] * scale.factor for p in points], name, colors[c]),
                "mode": "lines+markers",
                "text": [p[2] for p in points],
                "hovertemplate": "%{text}: %{x:.4g} tokens/s, %{y:.4g} "
                + scale.symbol
                + "<extra>%{fullData.name}</extra>",
            }
        )
    values = [v for t in traces for v in finite(t["y"]) if v]
    wide = bool(values) and max(values) / min(values) > 5
    title = latency.split(".")[0].upper() + " " + latency.split(".")[1]
    return [
        Figure(
            "across-loads",
            f"Output throughput against {title}",
            "One point for each load, one line for each column.",
            traces,
            layout(xaxis=axis("output tokens/s"), yaxis=log_axis(scale.symbol) if wide else axis(scale.symbol)),
            height=360,
            wide=True,
        )
    ]


def _points(
    by: Mapping[tuple[str, str], Sequence[ComparedValue | None]], loads: Sequence[str], latency: str, column: int
) -> list[tuple[float, float, str]]:
    found = []
    for load in loads:
        both = [by.get((load, name)) for name in ("output_tokens_per_second", latency)]
        values = [v[column].value for v in both if v is not None and v[column] is not None]  # type: ignore[union-attr]
        numbers = [v.value for v in values if isinstance(v, Measured)]
        if len(numbers) == 2:
            found.append((numbers[0], numbers[1], load))
    return found
