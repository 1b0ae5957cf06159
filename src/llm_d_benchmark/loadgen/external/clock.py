"""From a tool's own clock, which counts from the machine's start, to epoch time."""

from __future__ import annotations

import time
from pathlib import Path

from ...domain.events import Finding
from . import plan

WRITTEN_S = 600.0
"""How long after the last answer a result may be written and still be of this machine."""
BEFORE_S, AFTER_S = 0.1, 120.0
"""How far from the stage's start its first request may be sent, if both are told by the same clock."""
ZONES_S = 26 * 3600.0
"""How far apart the same local time is in two time zones: the end is told in local time, of the container perhaps."""
_S = 1_000_000_000


def to_epoch(
    first: int, last: int, file: Path, *, start: int | None = None, end: int | None = None
) -> tuple[int, Finding | None]:
    """What to add to times of the tool's clock (ns), and what the user should know about it.

    Exact on the machine of the run, until it is started anew: its monotonic clock is everybody's. Elsewhere another
    time that the tool tells has to do, else the time of the file. Latencies do not depend on it.

    Args:
        first, last: first request sent and last answer, on the tool's clock.
        file: the result; when it was written tells whether it is of this machine.
        start, end: epoch ns of ``first`` and ``last`` to about a second, where the tool tells; ``end`` of a local time.
    """
    written = file.stat().st_mtime_ns
    here = time.time_ns() - time.perf_counter_ns()
    same = last + here <= written + _S and written - last - here < WRITTEN_S * _S
    if start is not None:
        same &= -(BEFORE_S + 1) * _S < first + here - start < AFTER_S * _S
    if end is not None:  # a copy written just now, of a machine started about when this one was, is not of this one
        same &= abs(end - last - here) < (ZONES_S + WRITTEN_S) * _S
    if same:
        return here, None
    if start is not None or end is not None:
        text = "absolute times are known to about a second; latencies are exact"
        offset = start - first if start is not None else (end or 0) - last
        return offset, plan.info("clock_estimated", text)
    text = "absolute times are guessed from the time of the file; latencies are exact"
    return written - last, plan.warning("clock_unknown", text, "keep everything that the tool wrote beside its results")
