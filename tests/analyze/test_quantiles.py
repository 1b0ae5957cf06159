"""The quantiles are those of scipy.stats."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from llm_d_benchmark.analyze import quantiles

_Q = st.floats(0.001, 0.999)


@settings(deadline=None)
@given(_Q, st.integers(1, 5000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
@example(0.5, 155, 0.5)
def test_binomial(q: float, n: int, p: float) -> None:
    """By its definition: where P is exactly q, as half of an odd number of fair coins is, scipy's own quantile is one
    off for every second n."""
    k = quantiles.binomial(q, n, p)
    assert stats.binom.cdf(k, n, p) > q - 1e-10
    assert k == 0 or stats.binom.cdf(k - 1, n, p) < q + 1e-10


@settings(deadline=None)
@given(_Q, st.floats(0.5, 500), st.floats(0.5, 500))
def test_continuous(q: float, a: float, b: float) -> None:
    assert quantiles.normal(q) == pytest.approx(stats.norm.ppf(q), abs=1e-9)
    assert quantiles.student(q, a) == pytest.approx(stats.t.ppf(q, a), rel=1e-6)
    assert quantiles.beta(q, a, b) == pytest.approx(stats.beta.ppf(q, a, b), rel=1e-6)
