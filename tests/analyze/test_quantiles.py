"""The quantiles are those of scipy.stats."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llm_d_benchmark.analyze import quantiles

_Q = st.floats(0.001, 0.999)


@settings(deadline=None)
@given(_Q, st.integers(1, 5000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_binomial(q: float, n: int, p: float) -> None:
    assert quantiles.binomial(q, n, p) == int(stats.binom.ppf(q, n, p))


@settings(deadline=None)
@given(_Q, st.floats(0.5, 500), st.floats(0.5, 500))
def test_continuous(q: float, a: float, b: float) -> None:
    assert quantiles.normal(q) == pytest.approx(stats.norm.ppf(q), abs=1e-9)
    assert quantiles.student(q, a) == pytest.approx(stats.t.ppf(q, a), rel=1e-6)
    assert quantiles.beta(q, a, b) == pytest.approx(stats.beta.ppf(q, a, b), rel=1e-6)
