"""Prometheus histograms that cost a list's append while requests run, and their arithmetic when they are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from prometheus_client.core import HistogramMetricFamily

FOLD_AT = 1024
"""Observations kept before they are counted: memory is bounded between scrapes, and no token waits long for it."""


class Histogram:
    """One histogram with fixed labels. ``observe`` is for the hot path."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], labels: dict[str, str]) -> None:
        self.name, self._documentation, self._labels = name, documentation, labels
        self._limits = [float(b) for b in buckets]
        self._bounds = np.asarray(self._limits)
        self._counts = np.zeros(len(buckets) + 1, dtype=np.int64)
        self._sum = 0.0
        self._pending: list[float] = []
        self.observe = self._pending.append
        """Takes one value."""
        self.observe_all = self._pending.extend
        """Takes a list of them."""

    def fold(self) -> None:
        """Count what was observed since the last time."""
        if not self._pending:
            return
        values = np.asarray(self._pending, dtype=np.float64)
        self._pending.clear()
        places = np.searchsorted(self._bounds, values)  # a value equal to a bound is inside its bucket
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(values.sum())

    @property
    def long(self) -> bool:
        """Enough waits to be counted."""
        return len(self._pending) >= FOLD_AT

    def above(self, bound: float) -> int:
        """How many values were above one of its bounds."""
        self.fold()
        return int(self._counts[self._limits.index(bound) + 1 :].sum())

    def family(self, name: str | None = None) -> HistogramMetricFamily:
        """The histogram as the Prometheus client writes it, under another name where one is given."""
        self.fold()
        family = HistogramMetricFamily(name or self.name, self._documentation, labels=list(self._labels))
        cumulative = self._counts.cumsum().tolist()
        bounds = [*map(str, self._limits), "+Inf"]
        family.add_metric(list(self._labels.values()), list(zip(bounds, cumulative, strict=True)), self._sum)
        return family
