"""What every figure has in common, as Plotly's JSON.

Built as plain dicts: importing plotly's graph objects would take longer than everything else a report does.
Colours are names such as ``@c1``; the page's style sheet says what they are in light and dark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
PALETTE = ("@c1", "@c2", "@c3", "@c4", "@c5", "@c6")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_RAMP = ((75, 91, 214), (26, 156, 140), (217, 142, 4))
"""Indigo, teal, amber: told apart by lightness and hue, legible on white and on black."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: ``name`` is its id in the page, ``height`` in CSS pixels, ``wide`` spans both columns."""

    name: str
    title: str
    caption: str
    data: Sequence[Json]
    layout: Mapping[str, Any]
    height: int = 300
    wide: bool = False

    def plot(self) -> Json:
        """What the page's script hands to Plotly."""
        return {"name": self.name, "data": list(self.data), "layout": dict(self.layout)}


def stage_colors(stages: int) -> list[str]:
    """One colour for each stage: distinct for a few, a ramp from the first to the last for many."""
    if stages <= len(PALETTE):
        return list(PALETTE[:stages])
    return [_ramp(i / (stages - 1)) for i in range(stages)]


def _ramp(at: float) -> str:
    first, second = (_RAMP[0], _RAMP[1]) if at < 0.5 else (_RAMP[1], _RAMP[2])
    part = at * 2 if at < 0.5 else at * 2 - 1
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return f"rgb({red},{green},{blue})"


def axis(title: str, **more: Any) -> Json:
    return {
        "title": {"text": title, "standoff": 6, "font": {"size": 12}},
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zeroline": False,
        "automargin": True,
        "rangemode": "tozero",
        **more,
    }


def log_axis(title: str, **more: Any) -> Json:
    """A logarithmic axis with ticks at 1, 2 and 5 of each decade, written out."""
    ticks = [digit * 10.0**decade for decade in range(-4, 8) for digit in (1, 2, 5)]
    texts = [f"{tick:,.10g}" for tick in ticks]
    return axis(title, type="log", rangemode="normal", tickvals=ticks, ticktext=texts, **more)


def layout(**more: Any) -> Json:
    return {
        "font": {
            "family": "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif",
            "size": 12,
            "color": "@soft",
        },
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 52, "r": 14, "t": 14, "b": 40},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@line", "font": {"color": "@ink"}},
        "legend": {"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top", "font": {"size": 11}},
        "autosize": True,
        "dragmode": False,
        **more,
    }


def wrapped(text: str, width: int = 16) -> str:
    """A name in lines of about ``width`` characters, as a label has them: a phone has no room for a long one."""
    lines = [""]
    for part in re.findall(r"[^\s_/,-]*[\s_/,-]|[^\s_/,-]+", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "<br>".join(line.strip() for line in lines)


def finite(values: Iterable[float | None]) -> list[float | None]:
    """Plain floats for JSON; what is missing or not a number is a gap."""
    return [None if v is None or not math.isfinite(v) else float(v) for v in values]


def line(
    x: Iterable[float | None], y: Iterable[float | None], name: str, color: str, *, dash: str = "solid", **more: Any
) -> Json:
    style = {"color": color, "width": 2, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": finite(x), "y": finite(y), "name": name, "line": style, **more}
