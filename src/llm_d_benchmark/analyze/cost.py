"""What a window cost, at the utilisation it had: prices x time, over the tokens and requests that came out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..config.prices import PricesConfig
from ..domain.result import Absent, Measured, Scalar, StageResult, TargetInfo

HOUR = 3600.0
PER_HOUR: Mapping[str, str] = MappingProxyType(
    {
        "host_cost": "host_hour",
        "storage_cost": "storage_hour",
        "monitoring_cost": "monitoring_hour",
        "maintenance_cost": "maintenance_hour",
        "engineering_effort": "engineering_hour",
    }
)
"""Part of the cost -> its price by the hour."""
_USD_HOUR = "USD/hour"


@dataclass(frozen=True, slots=True)
class Bill:
    """A window's cost: ``parts`` in USD/hour by name, each absent with its reason; ``hour``: the sum of those known."""

    parts: Mapping[str, Scalar]
    hour: Scalar


def bill(stage: StageResult, prices: PricesConfig, gpus: Scalar, down: Scalar) -> Bill:
    """The cost of an hour like this window.

    Args:
        gpus: how many are paid for.
        down: share of the time without a working server (``stability.downtime``).
    """
    parts: dict[str, Scalar] = {"gpu_cost": _gpu(prices, gpus)}
    for name, key in PER_HOUR.items():
        price = getattr(prices, key)
        parts[name] = Absent(f"spec.prices.{key} is not given") if price is None else Measured(price, _USD_HOUR)
    parts["network_cost"] = _network(stage, prices)
    parts["downtime_cost"] = _downtime(prices, down)
    known = [p.value for p in parts.values() if isinstance(p, Measured)]
    return Bill(parts, Measured(sum(known), _USD_HOUR) if known else Absent("no price is given that applies"))


def gpus_paid_for(prices: PricesConfig, stage: StageResult, target: TargetInfo) -> Scalar:
    """As the prices say; else as the target says; else as the collectors saw."""
    if prices.gpus is not None:
        return Measured(float(prices.gpus), "")
    said = target.info.get("gpus")
    if isinstance(said, int) and said > 0:
        return Measured(float(said), "")
    seen = stage.resources.get("gpus")
    return seen if isinstance(seen, Measured) else Absent("spec.prices.gpus is not given, and no collector saw a GPU")


def with_cost(stage: StageResult, its_bill: Bill) -> StageResult:
    """The stage with ``cost_per_token`` (of output), ``cost_per_request`` and ``cost_per_hour`` among its resources."""
    hour = its_bill.hour
    found = {
        "cost_per_hour": hour,
        "cost_per_token": _per(hour, stage.metrics.output_tokens_per_second, "USD/token", "no output token"),
        "cost_per_request": _per(hour, stage.metrics.requests_per_second, "USD/request", "no request ended"),
    }
    return replace(stage, resources={**stage.resources, **found})


def run_cost(stages: Sequence[StageResult], bills: Sequence[Bill]) -> dict[str, Scalar]:
    """Cost over all windows together: each part by the hour, and the whole by a million tokens and by request.

    The whole cost is put on output tokens alone, on input tokens alone, and on both: these are three views of one sum,
    not parts of it.
    """
    if not bills:
        return {}
    hours = [s.window.seconds / HOUR for s in stages]
    found: dict[str, Scalar] = {name: _mean([b.parts[name] for b in bills], hours) for name in bills[0].parts}
    found["cost_per_hour"] = _mean([b.hour for b in bills], hours)
    for kind in ("output", "input", "total"):
        rate = _mean([getattr(s.metrics, f"{kind}_tokens_per_second") for s in stages], hours)
        found[f"cost_per_million_{kind}_tokens"] = _per(
            found["cost_per_hour"], rate, "USD/10^6 tokens", f"no {kind} token", 1e6
        )
    requests = _mean([s.metrics.requests_per_second for s in stages], hours)
    found["cost_per_request"] = _per(found["cost_per_hour"], requests, "USD/request", "no request ended")
    return found


def _gpu(prices: PricesConfig, gpus: Scalar) -> Scalar:
    if prices.gpu_hour is None:
        return Absent("spec.prices.gpu_hour is not given")
    return gpus if isinstance(gpus, Absent) else Measured(prices.gpu_hour * gpus.value, _USD_HOUR)


def _network(stage: StageResult, prices: PricesConfig) -> Scalar:
    if prices.network_gb is None:
        return Absent("spec.prices.network_gb is not given")
    rate = stage.resources.get("network_io_rate", Absent("no collector saw the network"))
    return rate if isinstance(rate, Absent) else Measured(rate.value * HOUR / 1e9 * prices.network_gb, _USD_HOUR)


def _downtime(prices: PricesConfig, down: Scalar) -> Scalar:
    if prices.downtime_hour is None:
        return Absent("spec.prices.downtime_hour is not given")
    return down if isinstance(down, Absent) else Measured(down.value * prices.downtime_hour, _USD_HOUR)


def _per(hour: Scalar, rate: Scalar, unit: str, none: str, scale: float = 1.0) -> Scalar:
    """Cost by the hour over things per second."""
    if isinstance(hour, Absent):
        return hour
    if isinstance(rate, Absent):
        return rate
    return Measured(hour.value / HOUR / rate.value * scale, unit) if rate.value else Absent(f"{none} in the window")


def _mean(values: Sequence[Scalar], weights: Sequence[float]) -> Scalar:
    """Mean by time; absent where any is, so that a sum never leaves a stage out in silence."""
    missing = next((v for v in values if isinstance(v, Absent)), None)
    if missing is not None:
        return missing
    if not sum(weights):
        return Absent("the windows are empty")
    total = sum(v.value * w for v, w in zip(values, weights, strict=True) if isinstance(v, Measured))
    return Measured(total / sum(weights), next(v.unit for v in values if isinstance(v, Measured)))
