"""What a sweep found: the knee and the goodput curve, from the measured stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..config.load import Sweep
from ..config.model import LoadGeneratorSpec
from ..domain.result import Absent, Distribution, DistributionOrAbsent, Measured, Saturation, Scalar, StageResult
from ..domain.saturation import Level, chance, edge, knee
from .windows import StageWindow


def saturations(
    generators: Sequence[LoadGeneratorSpec],
    windows: Sequence[StageWindow],
    stages: Sequence[StageResult],
    turns: Sequence[float],
) -> list[Saturation]:
    """Of every load generator that swept, over its own stages. ``turns``: of each stage the requests of a session, on
    average."""
    found = []
    for position, spec in enumerate(generators):
        own = [
            (w, s, t)
            for w, s, t in zip(windows, stages, turns, strict=True)
            if w.position == position or (w.position is None and (w.generator == spec.type or len(generators) == 1))
        ]
        knee = saturation(spec.config.sweep, own)
        if knee is not None:
            found.append(replace(knee, load_generator=spec.type, stages=[s.index for _, s, _ in own]))
    return found


def saturation(sweep: Sweep | None, levels: Sequence[tuple[StageWindow, StageResult, float]]) -> Saturation | None:
    """The curve, and the highest load that the server still carried. None where nothing was swept."""
    if sweep is None or not levels:
        return None
    over: Literal["rate", "concurrency"] = sweep.over
    known = [(x, w, s, t) for w, s, t in levels if (x := _load(w, over)) is not None]
    measured = sorted(known, key=lambda level: level[0])
    curve = [_point(x, s) for x, _, s, _ in measured]
    found = knee([_level(*level) for level in measured], over)
    if found.load is None:
        why = f"the server did not carry the lowest load measured: {found.reason}; start lower"
        return Saturation(over, Absent(why), None, why, curve)
    at = next(s.index for x, _, s, _ in measured if x == found.load)
    reason = found.reason if found.beyond is None else f"at {found.beyond:g}, {found.reason}"
    offered = "conversations/s" if any(t > 1 for *_, t in measured) else "requests/s"
    return Saturation(over, Measured(found.load, offered if over == "rate" else "requests"), at, reason, curve)


def _level(load: float, window: StageWindow, stage: StageResult, turns: float) -> Level:
    m = stage.metrics
    errors = _value(m.error_rate)
    arrival = stage.load.get("load", {}).get("arrival", {})
    return Level(
        load=load,
        requests_per_second=_value(m.requests_per_second) or 0.0,
        failed_fraction=1.0 if errors is None else errors,
        ttft_p50=_percentile(m.ttft, "p50"),
        goodput=_value(m.goodput),
        chance=chance(str(arrival.get("type")), m.requests.sent / turns, float(arrival.get("burstiness", 1.0))),
        edge=edge(_percentile(m.e2e, "p50"), float(stage.load.get("warmup") or 0.0), window.seconds, turns),
        turns=turns,
    )


def _load(window: StageWindow, over: str) -> float | None:
    value = window.rate if over == "rate" else window.concurrency
    return None if value is None else float(value)


def _value(scalar: Scalar) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _percentile(found: DistributionOrAbsent, name: str) -> float | None:
    return found.at(name) if isinstance(found, Distribution) else None


def _point(load: float, stage: StageResult) -> Mapping[str, float | None]:
    m = stage.metrics
    return {
        "load": load,
        "stage": float(stage.index),
        "requests_per_second": _value(m.requests_per_second),
        "output_tokens_per_second": _value(m.output_tokens_per_second),
        "goodput": _value(m.goodput),
        "concurrency": _value(m.concurrency),
        "ttft_p50": _percentile(m.ttft, "p50"),
        "ttft_p99": _percentile(m.ttft, "p99"),
        "e2e_p50": _percentile(m.e2e, "p50"),
    }
