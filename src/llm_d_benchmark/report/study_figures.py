"""Figures of a study: objective over trials, Pareto front, effects, gains."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.result import Measured
from ..domain.study import FactorEffect, Objective, StudyResult, Trial
from .format import scale_of
from .plot import Figure, Json, axis, layout

_COLORS = {"feasible": "@c1", "infeasible": "@warning", "failed": "@bad"}
MOST_EFFECTS = 12


def _value(t: Trial, metric: str) -> float | None:
    found = t.values.get(metric)
    return found.value if isinstance(found, Measured) else None


def _named(t: Trial) -> str:
    return f"{t.number}: " + ", ".join(f"{k}={v}" for k, v in t.settings.items())


def progress_figures(s: StudyResult) -> list[Figure]:
    """Each objective over the trials, with the best feasible one so far."""
    return [f for i, o in enumerate(s.objectives) if (f := _progress(s, o, i)) is not None]


def _progress(s: StudyResult, o: Objective, index: int) -> Figure | None:
    known = [(t, v) for t in s.trials if (v := _value(t, o.metric)) is not None]
    if not known:
        return None
    scale = scale_of(o.unit, [v for _, v in known])
    traces: list[Json] = []
    for state in ("feasible", "infeasible", "failed"):
        mine = [(t, v) for t, v in known if t.state == state]
        if mine:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": {"infeasible": "breaks a limit"}.get(state, state),
                    "x": [t.number for t, _ in mine],
                    "y": [v * scale.factor for _, v in mine],
                    "text": [_named(t) for t, _ in mine],
                    "customdata": [_report(t) for t, _ in mine],
                    "marker": {"color": _COLORS[state], "size": 8},
                    "hovertemplate": "%{y:.4g} " + scale.symbol + "<br>%{text}<extra></extra>",
                }
            )
    best: list[float] = []
    at: list[int] = []
    pick = max if o.direction == "maximize" else min
    for t, v in known:
        if t.state == "feasible":
            best.append(pick([*best[-1:], v * scale.factor]))
            at.append(t.number)
    if best:
        line = {"color": "@c2", "width": 2, "shape": "hv"}
        traces.append({"type": "scatter", "mode": "lines", "name": "best so far", "x": at, "y": best, "line": line})
    return Figure(
        f"progress-{index}",
        f"{o.metric} over the search",
        f"One point for each configuration; to {o.direction}.",
        traces,
        layout(xaxis=axis("configuration", rangemode="normal"), yaxis=axis(scale.symbol, rangemode="normal")),
        wide=len(s.objectives) == 1,
    )


def _report(t: Trial) -> str:
    return f"runs/{t.runs[0]}/report.html" if t.runs and t.runs[0] else ""


def front_figures(s: StudyResult) -> list[Figure]:
    """The first two objectives against each other; of one objective, it against the first limit's metric."""
    metrics = [(o.metric, o.unit) for o in s.objectives]
    metrics += [(c.metric, "") for c in s.limits if c.metric not in {m for m, _ in metrics}]
    if len(metrics) < 2:
        return []
    (one, _), (other, _) = metrics[:2]
    known = [(t, a, b) for t in s.trials if (a := _value(t, one)) is not None and (b := _value(t, other)) is not None]
    if not known:
        return []
    units = [next(v.unit for v in (t.values[m] for t, _, _ in known) if isinstance(v, Measured)) for m in (one, other)]
    across, up = (scale_of(unit, [(a, b)[i] for _, a, b in known]) for i, unit in enumerate(units))
    traces: list[Json] = []
    groups = {
        "breaks a limit": ("@warning", [k for k in known if k[0].state == "infeasible"]),
        "feasible": ("@c1", [k for k in known if k[0].state == "feasible" and not k[0].best]),
        "Pareto front" if len(s.objectives) > 1 else "best": (
            "@good", sorted((k for k in known if k[0].best), key=lambda k: k[1]),
        ),
    }  # fmt: skip
    for name, (color, points) in groups.items():
        if points:
            last = name == "Pareto front"
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if last else "markers",
                    "name": name,
                    "x": [a * across.factor for _, a, _ in points],
                    "y": [b * up.factor for _, _, b in points],
                    "text": [_named(t) for t, _, _ in points],
                    "customdata": [_report(t) for t, _, _ in points],
                    "marker": {"color": color, "size": 9 if last or name == "best" else 7},
                    "line": {"color": color, "dash": "dot", "width": 1},
                    "hovertemplate": "%{x:.4g}, %{y:.4g}<br>%{text}<extra></extra>",
                }
            )
    return [
        Figure(
            "front",
            "Pareto front" if len(s.objectives) > 1 else f"{one} against {other}",
            "One point for each configuration.",
            traces,
            layout(
                xaxis=axis(f"{one}, {across.symbol}", rangemode="normal"),
                yaxis=axis(f"{other}, {up.symbol}", rangemode="normal"),
            ),
            wide=len(s.objectives) == 1,
        )
    ]


def effect_figures(s: StudyResult) -> list[Figure]:
    """The metric by the levels of each factor, those of the objectives first."""
    wanted = [o.metric for o in s.objectives]
    chosen = sorted(s.effects, key=lambda e: (e.metric not in wanted, e.verdict == "inert"))[:MOST_EFFECTS]
    return [_effect(e, i) for i, e in enumerate(chosen)]


def _effect(e: FactorEffect, index: int) -> Figure:
    scale = scale_of(e.unit, [m.value for m in e.levels])
    values = [m.value * scale.factor for m in e.levels]
    trace: Json = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [m.level for m in e.levels],
        "y": values,
        "line": {"color": "@c1" if e.verdict == "matters" else "@soft", "width": 1, "dash": "dot"},
        "marker": {"size": 8},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [m.high * scale.factor - v for m, v in zip(e.levels, values, strict=True)],
            "arrayminus": [v - m.low * scale.factor for m, v in zip(e.levels, values, strict=True)],
            "color": "@soft",
        },
        "hovertemplate": "%{x}: %{y:.4g} " + scale.symbol + "<extra></extra>",
    }
    return Figure(
        f"effect-{index}",
        f"{e.metric} by {e.factor}",
        f"{e.verdict}; averaged over the other factors, with 95 % limits.",
        [trace],
        layout(
            xaxis=axis(e.factor, type="category", rangemode="normal"),
            yaxis=axis(scale.symbol, rangemode="tozero"),
            showlegend=False,
        ),
        height=250,
    )


def gain_figure(s: StudyResult) -> Sequence[Figure]:
    """Gains of the finalists over the present configuration."""
    rows = [(f, g) for f in s.finalists for g in f.gains][::-1]
    if not rows:
        return []
    several = len(s.objectives) > 1
    names = ["<br>".join([*([g.metric] if several else []), *(f"{k}={v}" for k, v in f.settings.items())])
             for f, g in rows]  # fmt: skip
    lines = max(name.count("<br>") + 1 for name in names)
    trace: Json = {
        "type": "scatter",
        "mode": "markers",
        "x": [g.gain * 100 for _, g in rows],
        "y": names,
        "marker": {
            "size": 9,
            "color": ["@good" if g.low > 0 else "@bad" if g.high < 0 else "@warning" for _, g in rows],
        },
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [(g.high - g.gain) * 100 for _, g in rows],
            "arrayminus": [(g.gain - g.low) * 100 for _, g in rows],
            "color": "@soft",
        },
        "hovertemplate": "%{y}: %{x:+.2f} %<extra></extra>",
    }
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 0,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": "@line", "dash": "dot"},
    }
    return [
        Figure(
            "gains",
            "Better than the present configuration",
            "With simultaneous 95 % limits; right of the line is better.",
            [trace],
            layout(
                xaxis=axis("better by, %", rangemode="normal"), yaxis=axis("", type="category"), shapes=[zero],
                showlegend=False,
            ),
            height=110 + (20 + 14 * lines) * len(rows),
            wide=True,
        )
    ]  # fmt: skip
