"""What a sweep found: the knee and the goodput curve, from the measured stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ..config.load import Sweep
from ..domain.result import Absent, Distribution, DistributionOrAbsent, Measured, Saturation, Scalar, StageResult
from .windows import StageWindow

FOLLOWS = 0.95
"""Completed over offered rate from which the server still follows."""
_ERRORS = 0.01
_OF_BEST = 0.95


def saturation(sweep: Sweep | None, windows: Sequence[StageWindow], stages: Sequence[StageResult]) -> Saturation | None:
    """The curve, and the highest load that the server still carried. None where nothing was swept."""
    if sweep is None or not stages:
        return None
    over: Literal["rate", "concurrency"] = sweep.over
    loads = [_load(w, over) for w in windows]
    pairs = sorted(((x, s) for x, s in zip(loads, stages, strict=True) if x is not None), key=lambda p: p[0])
    curve = [_point(x, s) for x, s in pairs]
    best = max((_value(s.metrics.output_tokens_per_second) or 0.0 for _, s in pairs), default=0.0)
    knee: tuple[float, StageResult] | None = None
    limit = None
    for x, stage in pairs:
        if not (_follows(x, stage) if over == "rate" else _carries(stage, best, knee)):
            limit = x
            break
        knee = (x, stage)
    unit = "requests/s" if over == "rate" else "requests"
    if knee is None:
        why = f"the server did not carry the lowest load measured ({limit or 0:g}); start lower"
        return Saturation(over, Absent(why), None, why, curve)
    reached = (
        f"at {limit:g} it no longer followed"
        if limit is not None
        else "no higher load was measured: the knee lies at or above it"
    )
    return Saturation(over, Measured(knee[0], unit), knee[1].index, reached, curve)


def _load(window: StageWindow, over: str) -> float | None:
    value = window.rate if over == "rate" else window.concurrency
    return None if value is None else float(value)


def _follows(rate: float, stage: StageResult) -> bool:
    """Completions keep up with the offered rate (as far as chance allows) and requests do not fail."""
    m = stage.metrics
    done, errors = _value(m.requests_per_second) or 0.0, _value(m.error_rate)
    chance = (
        2 / max(1.0, m.requests.sent) ** 0.5
        if stage.load.get("load", {}).get("arrival", {}).get("type") != "constant"
        else 0.0
    )
    return done >= (FOLLOWS - chance) * rate and errors is not None and errors <= _ERRORS


def _carries(stage: StageResult, best: float, knee: tuple[float, StageResult] | None) -> bool:
    """More streams still bring more tokens: the stage before was under 95 % of the best."""
    errors = _value(stage.metrics.error_rate)
    if errors is None or errors > _ERRORS:
        return False
    return knee is None or (_value(knee[1].metrics.output_tokens_per_second) or 0.0) < _OF_BEST * best


def _value(scalar: Scalar) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _percentile(found: DistributionOrAbsent, name: str) -> float | None:
    return found.percentiles[name].value if isinstance(found, Distribution) else None


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
