"""How reliably a server answered: of requests with a confidence bound, and of time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...domain.records import MISSING, ErrorClass, IntArray, Labels, Records
from .. import quantiles
from .effects import FloatArray

NOT_THE_SERVER = (ErrorClass.HTTP_4XX, ErrorClass.HTTP_429)
"""Failures of a server that answered: they count as failed requests, not as time without a server."""
STREAK = 2
"""So many failures in a row make an outage: one failed request says nothing of the time around it."""


def success_bounds(succeeded: int, finished: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """One-sided Clopper-Pearson lower and upper bound of the share of requests that succeed, at the level 1 - alpha."""
    failed = finished - succeeded
    lower = 0.0 if succeeded == 0 else quantiles.beta(alpha, succeeded, failed + 1)
    upper = 1.0 if failed == 0 else quantiles.beta(1 - alpha, succeeded + 1, failed)
    return lower, upper


def downtime(ends: FloatArray, failed: FloatArray) -> tuple[float, float]:
    """Seconds without a working server, and seconds observed.

    An outage lasts from the first of several failures in a row to the next success (or the last failure).

    Args:
        ends: when each request ended (seconds), in any order.
        failed: whether it failed for a reason that is the server's (0 or 1).
    """
    if len(ends) < 2:
        return 0.0, 0.0
    order = np.argsort(ends, kind="stable")
    at, bad = ends[order], failed[order] > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], bad, [False])).astype(np.int8)))
    down = 0.0
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start >= STREAK:
            down += float(at[min(stop, len(at) - 1)] - at[start])
    return down, float(at[-1] - at[0])


def watched(ends: IntArray, status: Labels, error_class: Labels) -> tuple[FloatArray, FloatArray]:
    """``ends`` and ``failed`` of ``downtime``, of requests by their columns; cancelled ones say nothing."""
    known = (ends != MISSING) & ~status.is_("cancelled")
    bad = status.is_("failed")
    for name in NOT_THE_SERVER:
        bad = bad & ~error_class.is_(str(name))
    return ends[known] / 1e9, bad[known].astype(float)


def outages(parts: Iterable[Records]) -> tuple[float, float]:
    """``downtime`` of a run from its records."""
    seen = [watched(p.ints("end"), p.labels("status"), p.labels("error_class")) for p in parts]
    ends, failed = zip(*seen, strict=True) if seen else ((np.zeros(0),), (np.zeros(0),))
    return downtime(np.concatenate(ends), np.concatenate(failed))
