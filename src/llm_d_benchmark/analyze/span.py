"""A window of time series, and which sources were looked at in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .timeseries import Line, Lines

_S = 1e9
EXPORTERS: Mapping[str, str] = MappingProxyType({"container_": "cAdvisor", "node_": "node exporter", "DCGM_": "DCGM"})
"""What a metric's name begins with -> what exports it, which the source alone does not say."""
MOST_NAMED = 2
Keep = Callable[[Line], bool]


def every(_: Line) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Span:
    """The window a resource is looked at in, epoch ns. ``sources``: where what was found in it came from."""

    lines: Lines
    start: int
    end: int
    sources: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / _S

    def named(self, *metrics: str, keep: Keep = every) -> list[Line]:
        """Series of the first of these metrics that is there, of those the ones to ``keep``."""
        found = [line for line in self.lines.named(*metrics) if keep(line)]
        self.sources.update(map(_source, found))
        return found

    def grew(self, *metrics: str, keep: Keep = every) -> float | None:
        """Growth of a counter over the window, all its series together; None where none covers it."""
        grown = [g for line in self.named(*metrics, keep=keep) if (g := line.growth(self.start, self.end)) is not None]
        return sum(grown) if grown else None

    def per_second(self, *metrics: str, keep: Keep = every) -> float | None:
        grown = self.grew(*metrics, keep=keep)
        return None if grown is None or self.seconds <= 0 else grown / self.seconds

    def mean(self, *metrics: str, total: bool = False, keep: Keep = every) -> float | None:
        """Mean of a level over the window: of all its series, or their sum."""
        means = [m for line in self.named(*metrics, keep=keep) if (m := line.mean(self.start, self.end)) is not None]
        return None if not means else sum(means) if total else sum(means) / len(means)

    def max(self, *metrics: str) -> float | None:
        """Greatest sample of a level in the window, over all its series."""
        seen = (line.max(self.start, self.end) for line in self.named(*metrics))
        return max((m for m in seen if m is not None), default=None)

    def told(self) -> str:
        """The sources in a few words."""
        first = sorted(self.sources)
        more = len(first) - MOST_NAMED
        return ", ".join(first[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _source(line: Line) -> str:
    exporter = next((name for begin, name in EXPORTERS.items() if line.series.metric.startswith(begin)), None)
    return line.series.source if exporter is None else f"{line.series.source} ({exporter})"
