"""The latency distributions of the stages: how large a share of requests (or chunk gaps) was at most so slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from ..analyze.curves import StageCurves
from ..domain.result import RunResult
from .format import Scale, scale_of, stage_title
from .plot import DASHES, Figure, Json, axis, finite, layout, line, log_axis, stage_colors

_SHOWN = (
    ("ttft", "Time to first token", "requests"),
    ("itl", "Inter-token latency", "chunk gaps"),
    ("tpot", "Time per output token", "requests"),
    ("e2e", "End to end", "requests"),
)
MAX_LEGEND = 8
LOG_FROM = 5.0
"""Ratio between the slowest and the fastest stage from which a logarithmic axis shows more."""


def distributions(curves: Sequence[StageCurves], result: RunResult) -> list[Figure]:
    """One figure for each latency that some stage has: a histogram with its ECDF for one stage, ECDFs for several."""
    names = _names(result)
    figures = []
    for name, title, what in _SHOWN:
        stages = [c for c in curves if len(c.quantiles.get(name, ())) > 1]
        if len(stages) == 1:
            figures.append(_histogram(stages[0], name, title, what))
        elif stages:
            figures.append(_ecdfs(stages, names, name, title, what))
    return figures


def _names(result: RunResult) -> dict[int, str]:
    """Stage index to what a legend calls it: its load alone where that tells the stages apart."""
    labels = {stage.label for stage in result.stages}
    short = len(labels) == len(result.stages)
    return {stage.index: stage.label if short else stage_title(stage.name, stage.label) for stage in result.stages}


def _ecdfs(stages: Sequence[StageCurves], names: Mapping[int, str], name: str, title: str, what: str) -> Figure:
    """All distributions on one scale, so that they compare at a glance."""
    scale = scale_of("s", [c.quantiles[name][len(c.quantiles[name]) // 2] for c in stages])
    colors = stage_colors(len(stages))
    few = len(stages) <= len(DASHES)
    traces = [
        _ecdf(c.quantiles[name], scale, names.get(c.stage, str(c.stage)), color, DASHES[i] if few else "solid")
        for i, (c, color) in enumerate(zip(stages, colors, strict=True))
    ]
    ends = [float(c.quantiles[name][_near_end(len(c.quantiles[name]))]) * scale.factor for c in stages]
    order = "" if few else " Colours run from the first stage (indigo) to the last (amber)."
    return Figure(
        f"distribution-{name}",
        title,
        f"Share of {what} at most so slow.{order}",
        traces,
        layout(
            xaxis=_values_axis(scale.symbol, traces, max(ends)),
            yaxis=axis("", tickformat=".0%", range=[0, 1.02]),
            showlegend=len(stages) <= MAX_LEGEND,
        ),
        height=330 if len(stages) <= MAX_LEGEND else 290,
    )


def _ecdf(values: Sequence[float], scale: Scale, label: str, color: str, dash: str) -> Json:
    shares = [i / (len(values) - 1) for i in range(len(values))]
    hover = "%{y:.1%} within %{x:.4g} " + scale.symbol + "<extra>%{fullData.name}</extra>"
    return line([v * scale.factor for v in values], shares, label, color, dash=dash, hovertemplate=hover)


def _near_end(levels: int) -> int:
    """The level a linear axis reaches: the longest tail would squeeze everything else."""
    return min(levels - 1, round(0.995 * (levels - 1)))


def _values_axis(symbol: str, traces: Sequence[Json], end: float) -> Json:
    """A logarithmic axis where the stages differ a lot, else a linear one up to ``end``."""
    middles = [trace["x"][len(trace["x"]) // 2] for trace in traces]
    if min(middles) > 0 and max(middles) / min(middles) > LOG_FROM:
        return log_axis(symbol)
    return axis(symbol, range=[0, end * 1.05])


def _histogram(stage: StageCurves, name: str, title: str, what: str) -> Figure:
    """Of one stage: how many fell where, and the share that was at most so slow."""
    values = stage.quantiles[name]
    scale = scale_of("s", [values[len(values) // 2]])
    edges, counts = stage.histograms[name].edges, stage.histograms[name].counts
    bars = {
        "type": "bar",
        "name": what,
        "x": finite((a + b) / 2 * scale.factor for a, b in pairwise(edges)),
        "width": finite((b - a) * scale.factor for a, b in pairwise(edges)),
        "y": finite(counts),
        "marker": {"color": "@c1", "opacity": 0.45},
        "hovertemplate": "%{y} " + what + " near %{x:.4g} " + scale.symbol + "<extra></extra>",
    }
    share = {**_ecdf(values, scale, "share at most so slow", "@c2", "solid"), "yaxis": "y2"}
    return Figure(
        f"distribution-{name}",
        title,
        f"How many {what} took how long (bars), and the share at most so slow (line).",
        [bars, share],
        layout(
            xaxis=axis(scale.symbol, range=[0, float(values[_near_end(len(values))]) * scale.factor * 1.05]),
            yaxis=axis(what),
            yaxis2={
                "overlaying": "y",
                "side": "right",
                "range": [0, 1.02],
                "tickvals": [0, 0.25, 0.5, 0.75, 1],
                "tickformat": ".0%",
                "showgrid": False,
                "zeroline": False,
            },
            bargap=0,
            showlegend=False,
            margin={"l": 52, "r": 44, "t": 14, "b": 40},
        ),
        height=270,
    )
