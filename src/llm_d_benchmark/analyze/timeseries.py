"""Time series over a window: totals are differenced, levels averaged; gaps and restarts are seen, not smoothed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..domain.samples import Samples, Series

GAP_FACTOR = 3.0
"""A pause of so many usual intervals is a gap."""
Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """One series by time: ``times`` (n,) epoch ns ascending, ``values`` (n,)."""

    series: Series
    times: Times
    values: Values

    def label(self, name: str) -> str | None:
        return dict(self.series.labels).get(name)

    def growth(self, start: int, end: int) -> float | None:
        """How much a counter grew from ``start`` to ``end`` (epoch ns), interpolated at both; None where the samples do
        not cover half of the window. A fall is a restart from 0: what came before it in its interval is lost.
        """
        if len(self.times) < 2 or self.covered(start, end) < 0.5:
            return None
        steps = np.diff(self.values)
        grown = np.where(steps < 0, self.values[1:], steps)
        total = np.concatenate([[0.0], np.cumsum(grown)])
        edges = np.interp(np.asarray([start, end], np.float64), self.times.astype(np.float64), total)
        return float(edges[1] - edges[0])

    def resets(self, start: int, end: int) -> int:
        """Restarts of a counter inside the window."""
        falls = np.flatnonzero(np.diff(self.values) < 0) + 1
        return int(((self.times[falls] > start) & (self.times[falls] <= end)).sum())

    def mean(self, start: int, end: int) -> float | None:
        """Mean of a level over the window; None without a sample in it."""
        inside = self.values[self._inside(start, end)]
        return float(inside.mean()) if len(inside) else None

    def max(self, start: int, end: int) -> float | None:
        """Greatest sample of a level in the window; None without one."""
        inside = self.values[self._inside(start, end)]
        return float(inside.max()) if len(inside) else None

    def covered(self, start: int, end: int) -> float:
        """Share of the window that lies between the first and the last sample."""
        if end <= start or not len(self.times):
            return 0.0
        low, high = max(start, int(self.times[0])), min(end, int(self.times[-1]))
        return max(0.0, (high - low) / (end - start))

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Pauses inside the window that are much longer than this series' usual interval."""
        if len(self.times) < 3:
            return []
        steps = np.diff(self.times)
        long = np.flatnonzero(steps > GAP_FACTOR * np.median(steps))
        found = ((int(self.times[i]), int(self.times[i + 1])) for i in long)
        return [(a, b) for a, b in found if b > start and a < end]

    def _inside(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        return (self.times >= start) & (self.times < end)


class Lines:
    """All series of a run, by metric."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._by_metric: dict[str, list[Line]] = {}
        for line in lines:
            self._by_metric.setdefault(line.series.metric, []).append(line)

    @staticmethod
    def of(samples: Samples) -> Lines:
        """Every series sorted by time, in one pass."""
        order = np.lexsort((samples.times, samples.codes))
        times, values = samples.times[order], samples.values[order]
        ends = np.cumsum(np.bincount(samples.codes, minlength=len(samples.series)))
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        return Lines(
            [
                Line(series, times[a:b], values[a:b])
                for series, a, b in zip(samples.series, starts.tolist(), ends.tolist(), strict=True)
            ]
        )

    def __bool__(self) -> bool:
        return bool(self._by_metric)

    def __iter__(self) -> Iterator[Line]:
        return (line for lines in self._by_metric.values() for line in lines)

    def named(self, *metrics: str) -> list[Line]:
        """The series of the first of these metrics that is there."""
        return next((self._by_metric[m] for m in metrics if m in self._by_metric), [])
