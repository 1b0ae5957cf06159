"""How many runs an answer takes."""

from __future__ import annotations

import math

from .. import quantiles

ALPHA = 0.05
POWER = 0.9
FLOOR = 5
MOST = 1000
"""Beyond so many runs of each arm more of them are no practical advice."""


def runs_needed(
    sd: float, gap: float, *, blocks: bool, alpha: float = ALPHA, power: float = POWER, least: int = 2
) -> int | None:
    """Runs of each arm until a one-sided bound at the level 1 - ``alpha`` clears a limit that lies ``gap`` away, with
    probability ``power``.

    Args:
        sd: standard deviation (log scale) of a run, or of the difference of a pair where ``blocks``.
        gap: distance (log scale) of the true value from the limit.

    Returns:
        None where it is more than 1000.
    """
    if sd <= 0:
        return least
    if gap <= 0:
        return None
    parts = 1 if blocks else 2
    n = least
    while n <= MOST:
        df = parts * (n - 1)
        if (quantiles.student(1 - alpha, df) + quantiles.student(power, df)) * sd * math.sqrt(parts / n) <= gap:
            return n
        n += 1
    return None


def requests_needed(failures: int, limit: float, *, alpha: float = ALPHA) -> int:
    """Requests of which at most ``failures`` fail that show a success share above ``limit`` (Clopper-Pearson)."""
    low, high = failures + 1, max(10, failures + 2)
    while _bound(failures, high, alpha) <= limit:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _bound(failures, middle, alpha) > limit else (middle, high)
    return high


def _bound(failures: int, n: int, alpha: float) -> float:
    return quantiles.beta(alpha, n - failures, failures + 1)
