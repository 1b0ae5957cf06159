"""What replicas cost, where the price of a GPU is known."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.capacity import Cost, HourNeed
from ..domain.result import Absent, Measured, Scalar

DAYS = 30
HOURS = 24


def times(price: Scalar, many: float, unit: str = "USD/hour") -> Scalar:
    return price if isinstance(price, Absent) else Measured(price.value * many, unit)


def cost(replica_hour: Scalar, replicas: int, fewest: int, tokens_per_second: float, hours: Sequence[HourNeed]) -> Cost:
    """Of a scenario.

    Args:
        replicas: planned for the peak; ``fewest``: needed without any margin.
        tokens_per_second: output tokens at the peak.
        hours: of a day that follows a profile; empty: a constant load.
    """
    per_day = sum(h.replicas for h in hours) if hours else HOURS * replicas
    peak = max((h.rate for h in hours), default=0.0)
    share = sum(h.rate for h in hours) / (peak * HOURS) if hours else 1.0  # of the peak's tokens, over the day
    tokens = tokens_per_second * share * HOURS * 3600

    def per_million(replica_hours: float) -> Scalar:
        return times(replica_hour, replica_hours / tokens * 1e6, "USD/10^6 tokens")

    return Cost(
        hour=times(replica_hour, replicas),
        day=times(replica_hour, per_day, "USD/day"),
        month=times(replica_hour, per_day * DAYS, "USD/month"),
        constant_day=times(replica_hour, HOURS * replicas, "USD/day"),
        per_million_tokens=per_million(per_day),
        per_million_low=per_million(per_day * fewest / replicas),
        per_million_high=per_million(per_day * (replicas + 1) / replicas),
    )
