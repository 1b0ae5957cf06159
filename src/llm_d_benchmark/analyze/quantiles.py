"""Quantiles of the distributions that confidence limits need, from scipy.special alone.

scipy.stats has them too, but importing it takes 0.7 s, which is half of all the time a short run may cost.
"""

from __future__ import annotations

import math

from scipy import special


def normal(q: float) -> float:
    """Quantile of the standard normal distribution."""
    return float(special.ndtri(q))


def student(q: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom."""
    return float(special.stdtrit(df, q))


def beta(q: float, a: float, b: float) -> float:
    """Quantile of the beta distribution."""
    return float(special.betaincinv(a, b, q))


def binomial(q: float, n: int, p: float) -> int:
    """Quantile of the binomial distribution: the least k with P(X <= k) >= q."""
    k = max(0, math.ceil(float(special.bdtrik(q, n, p))))
    return k - 1 if k > 0 and float(special.bdtr(k - 1, n, p)) >= q else k
