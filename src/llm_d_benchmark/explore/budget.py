"""Time for a study: how many further runs fit, by how long runs took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SPARE = 1.1
"""Further runs are taken to last this many times as long as those so far."""


class Budget:
    """Counts from when it is made. Without a limit everything fits.

    Args:
        limit: seconds.
        clock: seconds, monotonic.
    """

    def __init__(self, limit: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._start = clock()
        self._runs, self._took, self._longest = 0, 0.0, 0.0

    @property
    def limited(self) -> bool:
        return self._limit is not None

    def now(self) -> float:
        return self._clock()

    def ran(self, since: float) -> None:
        """Note a run that began at ``since`` and has just ended."""
        took = self._clock() - since
        self._runs += 1
        self._took += took
        self._longest = max(self._longest, took)

    def fits(self, runs: int) -> bool:
        """Whether so many further runs end in time, the last as long as the longest so far."""
        return self.left() >= runs

    def left(self) -> float:
        """Further runs that end in time; infinite before any run is known, and without a limit."""
        if self._limit is None or not self._runs:
            return math.inf
        left = self._start + self._limit - self._clock()
        typical = SPARE * self._took / self._runs
        return (left - max(0.0, self._longest - typical)) / typical if typical > 0 else math.inf
