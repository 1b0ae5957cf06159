"""Whether a window was in steady state, by MSER-5. It never cuts; it says what it saw."""

from __future__ import annotations

import numpy as np

from ..domain.result import SteadyState
from .percentiles import FloatArray

BATCH = 5
_LEAST = 50
_MATERIAL = 0.05


def mser5(values: FloatArray) -> float:
    """The fraction (0 to 0.5) that MSER-5 would cut from the front of the series."""
    means = values[: len(values) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    centred = means - means.mean()
    m = len(centred)
    left = m - np.arange(m // 2 + 1)
    sums = np.cumsum(centred[::-1])[::-1][: len(left)]
    squares = np.cumsum(centred[::-1] ** 2)[::-1][: len(left)]
    return int(np.argmin((squares - sums**2 / left) / left**2)) / m


def steady_state(values: FloatArray, series: str) -> SteadyState:
    """Judges a series in the order of sending.

    Not steady: what MSER-5 would cut (or, where it cuts nothing, the first half) differs from the rest by more than 5 %
    and by more than chance allows, dependence between neighbours included.
    """
    if len(values) < _LEAST:
        return SteadyState(None, None, series, f"{len(values)} requests are too few to judge; {_LEAST} are needed")
    cut = mser5(values)
    for share in sorted({cut, 0.5} - {0.0}):
        split = max(BATCH * 2, round(len(values) * share))
        head, rest = values[:split], values[split:]
        change = float(head.mean() / rest.mean() - 1) if rest.mean() else 0.0
        if abs(change) > _MATERIAL and abs(head.mean() - rest.mean()) > 4 * _error(head, rest):
            more = "higher" if change > 0 else "lower"
            part = f"the first {share:.0%} of the window was {abs(change):.0%} {more} than the rest"
            return SteadyState(False, cut, series, f"not steady: {series} of {part}; MSER-5 would drop {cut:.0%}")
    return SteadyState(True, cut, series, f"steady: MSER-5 would drop {cut:.0%}, which differs little from the rest")


def _error(head: FloatArray, rest: FloatArray) -> float:
    """Standard error of the means' difference. The rest gives the spread, as a transient inflates the head's."""
    batches = min(10, len(rest) // 2)
    means = [part.mean() for part in np.array_split(rest, batches)]
    variance = float(np.var(means, ddof=1)) / batches
    return float(np.sqrt(variance * (1 + len(rest) / len(head))))
