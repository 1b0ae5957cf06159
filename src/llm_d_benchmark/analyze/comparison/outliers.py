"""Runs that differ from the others of their arm so much that something else must have happened to them."""

from __future__ import annotations

import numpy as np

from .effects import FloatArray

LEAST_RUNS = 5
LIMIT = 8.0
"""Of 100 arms of five normal values 2 have one beyond it, of ten values 0.4 (of the usual 3.5: 19 and 12)."""
FLOOR = 0.005
"""Runs closer than this (log scale) to the median are never outliers, however much the others agree."""


def robust_z(logs: FloatArray) -> FloatArray:
    """Distance of each value (..., n) from the median, in standard deviations as the median distance estimates them."""
    away = np.abs(logs - np.median(logs, -1, keepdims=True))
    scale = np.maximum(1.4826 * np.median(away, -1, keepdims=True), FLOOR)
    found: FloatArray = away / scale
    return found


def outliers(logs: FloatArray) -> list[tuple[int, float]]:
    """Positions of the outlying runs with their robust z; none where there are fewer than five runs."""
    if len(logs) < LEAST_RUNS:
        return []
    z = robust_z(logs)
    return [(int(i), float(z[i])) for i in np.flatnonzero(z > LIMIT)]
