"""How far a source's clock is from ours: bounds that every answer narrows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..domain.samples import Series
from .fetch import Answer

OFFSET, UNCERTAINTY = "clock_offset_seconds", "clock_offset_uncertainty_seconds"
DATE_S = 2.0
"""A Date header is cut to the second, and servers that renew it once a second may be another one late."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The source's clock minus ours lies between ``low`` and ``high`` (seconds)."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def uncertainty(self) -> float:
        return (self.high - self.low) / 2

    def and_(self, other: ClockOffset | None) -> ClockOffset:
        """What both allow; where they exclude each other a clock was set meanwhile, and this one, the newer, holds."""
        if other is None:
            return self
        low, high = max(self.low, other.low), min(self.high, other.high)
        return ClockOffset(low, high) if low <= high else self

    def rows(self, source: str, now: int) -> Iterator[tuple[int, Series, float]]:
        """As samples, so that the offset is kept with what it explains."""
        yield now, Series(source, OFFSET), self.middle
        yield now, Series(source, UNCERTAINTY), self.uncertainty


def by_date(answer: Answer, clock_offset: int) -> ClockOffset | None:
    """What the Date header of an answer tells; None without one."""
    if answer.date is None:
        return None
    began, ended = ((t + clock_offset) / 1e9 for t in (answer.began, answer.ended))
    return ClockOffset(answer.date - ended, answer.date + DATE_S - began)


def by_time(value: float, answer: Answer, clock_offset: int) -> ClockOffset:
    """What a source's exact time (epoch seconds), read while it answered, tells."""
    began, ended = ((t + clock_offset) / 1e9 for t in (answer.began, answer.ended))
    return ClockOffset(value - ended, value - began)
