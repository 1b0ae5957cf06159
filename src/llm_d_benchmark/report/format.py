"""Numbers and times as people read them. Tables scale a whole column alike, so that its numbers compare at a glance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

DASH = "—"
TOO_FEW = "too few requests for 95 % confidence limits"


@dataclass(frozen=True, slots=True)
class Scale:
    """How a unit is shown: ``shown = value * factor``, followed by ``symbol``."""

    factor: float
    symbol: str


_SECONDS = (Scale(1e6, "µs"), Scale(1e3, "ms"), Scale(1.0, "s"))
PERCENT = Scale(100.0, "%")


def scale_of(unit: str, values: Iterable[float]) -> Scale:
    """The scale in which the middle of ``values`` (in ``unit``) reads best: 0.0123 s as 12.3 ms."""
    if unit == "fraction":
        return PERCENT
    if unit != "s":
        return Scale(1.0, unit)
    sizes = sorted(abs(v) for v in values if v and math.isfinite(v))
    middle = sizes[len(sizes) // 2] if sizes else 1e-3
    micro, milli, plain = _SECONDS
    return micro if middle < 2e-4 else milli if middle < 1 else plain


def digits(value: float, significant: int = 3) -> str:
    """``value`` with at least ``significant`` significant digits and separators: 1,234 and 12.3 and 0.0123.

    Digits before the decimal point are never rounded away.
    """
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    places = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 9)}f}"


def count(value: int) -> str:
    return f"{value:,}"


def quantity(value: float, unit: str) -> str:
    """One number on its own: 81.2 ms, 99.5 %, 1,234 tokens/s."""
    scale = scale_of(unit, [value])
    return f"{digits(value * scale.factor)} {scale.symbol}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as 45 s, 12 min 30 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"


def moment(epoch_ns: int) -> str:
    """A time of day in UTC: 2026-01-31 12:34:56 UTC."""
    return datetime.fromtimestamp(epoch_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(epoch_ns: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(epoch_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stage_title(name: str, label: str) -> str:
    """A stage by its name and load; a stage without a name of its own is named by its load."""
    return name if name == label or not label else f"{name} {label}"
