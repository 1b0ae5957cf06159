"""The one offset between the clocks of a run."""

from __future__ import annotations

import time

READINGS = 9


def wall_clock_offset() -> int:
    """Epoch ns less monotonic ns: the reading of several with the least time between the two clocks, because a process
    that is put aside between them would be off by as much."""
    readings = []
    for _ in range(READINGS):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]
