"""Load, throughput and latency of several stages against each other, with the knee of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..domain.result import Absent, Distribution, Estimate, Measured, RunResult, Scalar, StageResult
from .format import Scale, scale_of, stage_title
from .plot import Figure, Json, axis, layout, log_axis


def saturation(result: RunResult) -> list[Figure]:
    """Throughput against latency and load against throughput, of each load generator by itself; nothing where fewer
    than two stages measured anything."""
    by_generator: dict[str, list[StageResult]] = {}
    for stage in result.stages:
        by_generator.setdefault(stage.load_generator, []).append(stage)
    found = []
    for name, stages in by_generator.items():
        stages.sort(key=lambda s: (_offered(s) is None, _offered(s) or 0.0))
        drawn = [f for f in (_latency(stages), _throughput(stages, _knee_of(result, name))) if f is not None]
        found += drawn if len(by_generator) == 1 else [_named(f, name) for f in drawn]
    return found


def _named(figure: Figure, generator: str) -> Figure:
    return replace(figure, name=f"{figure.name}-{generator}", title=f"{figure.title}: {generator}")


def _knee_of(result: RunResult, generator: str) -> float | None:
    sweeps = [s for s in result.saturations if s.load_generator == generator]
    sweep = sweeps[0] if sweeps else result.saturation if not result.saturations else None
    return _value(sweep.knee) if sweep else None


def _offered(stage: StageResult) -> float | None:
    """Requests/s of an open loop, users of a closed one."""
    load = stage.load.get("load", stage.load)
    value = load.get("rate") if load.get("rate") is not None else load.get("concurrency")
    return float(value) if isinstance(value, int | float) else _value(stage.metrics.requested_rate)


def _open(stage: StageResult) -> bool:
    """An open loop that the server's speed does not slow down (a cap on its concurrency aside)."""
    load = stage.load.get("load", stage.load)
    return load.get("rate") is not None or load.get("concurrency") is None


def _value(scalar: Scalar) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _latency(stages: Sequence[StageResult]) -> Figure | None:
    name, title = (
        ("e2e", "E2E") if not any(isinstance(s.metrics.ttft, Distribution) for s in stages) else ("ttft", "TTFT")
    )
    tokens = any(_value(s.metrics.output_tokens_per_second) is not None for s in stages)
    points: list[tuple[float, Distribution, str]] = []
    for stage in stages:
        x = _value(stage.metrics.output_tokens_per_second if tokens else stage.metrics.requests_per_second)
        y = getattr(stage.metrics, name)
        if x is not None and isinstance(y, Distribution) and y.at("p50") is not None:
            points.append((x, y, stage_title(stage.name, stage.label)))
    if len(points) < 2:
        return None
    scale = scale_of("s", [y.at("p50") or 0.0 for _, y, _ in points])
    traces = [_percentiles(points, "p50", scale, "@c1", "circle", "solid")]
    traces.append(_percentiles(points, "p99", scale, "@c2", "diamond", "dash"))
    values = [v for trace in traces for v in trace["y"] if v is not None and v > 0]
    y_axis = log_axis if values and max(values) > 30 * min(values) else axis
    x_title = "output tokens/s" if tokens else "requests/s"
    return Figure(
        "throughput-latency",
        "Throughput against latency",
        f"One point for each stage; bars are 95 % limits. {title} in {scale.symbol}.",
        traces,
        layout(xaxis=axis(x_title), yaxis=y_axis(f"{title} ({scale.symbol})")),
    )


def _percentiles(
    points: Sequence[tuple[float, Distribution, str]], key: str, scale: Scale, color: str, symbol: str, dash: str
) -> Json:
    found = [y.percentiles[key] for _, y, _ in points]
    up = [(p.high - p.value) * scale.factor if isinstance(p, Estimate) else 0.0 for p in found]
    down = [(p.value - p.low) * scale.factor if isinstance(p, Estimate) else 0.0 for p in found]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": key,
        "x": [x for x, _, _ in points],
        "y": [None if isinstance(p, Absent) else p.value * scale.factor for p in found],
        "text": [label for _, _, label in points],
        "hovertemplate": "%{text}<br>%{x:.4g}, " + key + " %{y:.4g} " + scale.symbol + "<extra></extra>",
        "line": {"color": color, "width": 2, "dash": dash},
        "marker": {"color": color, "size": 8, "symbol": symbol},
        "error_y": {"type": "data", "array": up, "arrayminus": down, "thickness": 1, "width": 3, "color": color},
    }


def _throughput(stages: Sequence[StageResult], knee: float | None) -> Figure | None:
    loaded = [(x, s) for s in stages if (x := _offered(s)) is not None]
    if len({x for x, _ in loaded}) < 2:
        return None
    x_values = [x for x, _ in loaded]
    is_open, is_closed = all(_open(s) for _, s in loaded), not any(_open(s) for _, s in loaded)
    offered = "requests/s offered" if is_open else "users (concurrency)" if is_closed else "load offered"
    traces: list[Json] = []
    for name, field, color, dash, symbol in (
        ("completed", "requests_per_second", "@c1", "solid", "circle"),
        ("goodput", "goodput", "@c3", "dash", "square"),
    ):
        y = [_value(getattr(s.metrics, field)) for _, s in loaded]
        if any(v is not None for v in y):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name,
                    "x": x_values,
                    "y": y,
                    "hovertemplate": "load %{x:.4g}: %{y:.4g} requests/s<extra>" + name + "</extra>",
                    "line": {"color": color, "width": 2, "dash": dash},
                    "marker": {"color": color, "size": 8, "symbol": symbol},
                }
            )
    if not traces:
        return None
    if is_open:
        ends = [0.0, max(x_values)]
        style = {"color": "@soft", "width": 1, "dash": "dot"}
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "all of it",
                "x": ends,
                "y": ends,
                "line": style,
                "hoverinfo": "skip",
            }
        )
    extra = {} if knee is None else _knee(knee)
    caption = (
        "Requests/s the server completed, and those that met every limit."
        if len(traces) > 1
        else "Completed requests/s."
    )
    return Figure(
        "load-throughput",
        "Load against throughput",
        caption if knee is None else f"{caption} The vertical line is the knee.",
        traces,
        layout(xaxis=axis(offered), yaxis=axis("requests/s"), **extra),
    )


def _knee(at: float) -> Json:
    return {
        "shapes": [
            {
                "type": "line",
                "x0": at,
                "x1": at,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": "@c2", "width": 1.5, "dash": "dashdot"},
            }
        ],
        "annotations": [
            {
                "x": at,
                "yref": "paper",
                "y": 1,
                "yanchor": "top",
                "xanchor": "right",
                "text": "knee ",
                "showarrow": False,
                "font": {"color": "@c2"},
            }
        ],
    }
