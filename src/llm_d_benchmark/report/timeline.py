"""The run second by second: rate, concurrency, latency and failures, with the measured windows shaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..analyze.curves import StageCurves
from ..domain.result import RunResult
from .plot import Figure, Json, axis, layout, line

GAP = 0.07
"""Space between two panels, as a share of the figure."""


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    traces: Sequence[Json]


def timeline(curves: Sequence[StageCurves], result: RunResult) -> list[Figure]:
    """One wide figure of panels that share their time axis; none where there is no timeline."""
    present = [c for c in curves if len(c.timeline.sent)]
    if not present:
        return []
    origin = min(c.timeline.start for c in present)
    panels = [p for p in _panels(present, origin) if p.traces]
    axes, traces = _stack(panels)
    failed = any(any(c.timeline.failed) for c in present)
    caption = "Shaded: the measured windows." + ("" if failed else " No request failed.")
    return [
        Figure(
            "timeline",
            "Timeline",
            caption,
            traces,
            layout(
                xaxis=axis("seconds since the load began", anchor=f"y{len(panels)}" if len(panels) > 1 else "y"),
                shapes=[_shade(w.window.start, w.window.end, origin) for w in result.stages],
                hovermode="x unified",
                legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
                margin={"l": 58, "r": 14, "t": 30, "b": 40},
                **axes,
            ),
            height=130 * len(panels) + 90,
            wide=True,
        )
    ]


def _panels(curves: Sequence[StageCurves], origin: int) -> list[_Panel]:
    rates = [
        _series(curves, origin, "sent", "sent", "@c1", "solid"),
        _series(curves, origin, "succeeded", "succeeded", "@c3", "dot"),
    ]
    panels = [
        _Panel("requests/s", rates),
        _Panel("in flight", [_series(curves, origin, "in_flight", "in flight", "@c4")]),
    ]
    failed = _series(curves, origin, "failed", "failed", "@c2")
    if any(failed["y"]):
        panels.append(_Panel("failed/s", [failed]))
    return panels


def _series(curves: Sequence[StageCurves], origin: int, field: str, name: str, color: str, dash: str = "solid") -> Json:
    """One series over all stages, broken between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    for c in curves:
        values = getattr(c.timeline, field)
        x += [*((c.timeline.start - origin) / 1e9 + i + 0.5 for i in range(len(values))), None]
        y += [*values, None]
    return line(x, y, name, color, dash=dash, hovertemplate="%{y:,.4g}")


def _stack(panels: Sequence[_Panel]) -> tuple[Json, list[Json]]:
    """The vertical axes of the panels, top to bottom, and all traces bound to them."""
    height = (1 - GAP * (len(panels) - 1)) / len(panels)
    axes: Json = {}
    traces: list[Json] = []
    for i, panel in enumerate(panels):
        top = 1 - i * (height + GAP)
        name = "" if i == 0 else str(i + 1)
        axes[f"yaxis{name}"] = axis(panel.title, domain=[max(0.0, top - height), top])
        traces += [{**trace, "yaxis": f"y{name}"} for trace in panel.traces]
    return axes, traces


def _shade(start: int, end: int, origin: int) -> Json:
    ends = {"x0": (start - origin) / 1e9, "x1": (end - origin) / 1e9}
    style = {"fillcolor": "@shade", "line": {"width": 0}, "layer": "below"}
    return {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, **ends, **style}
