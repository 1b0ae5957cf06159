"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.report.format import DASH, digits, duration, moment, quantity, scale_of

magnitudes = st.floats(min_value=1e-6, max_value=1e12)


@given(magnitudes, st.booleans())
def test_digits_are_right_to_three_significant_ones(size: float, negative: bool) -> None:
    value = -size if negative else size
    text = digits(value)
    assert math.isclose(float(text.replace(",", "")), value, rel_tol=0.0051)


@given(magnitudes)
def test_whole_digits_are_never_rounded_away(value: float) -> None:
    whole = abs(float(digits(value).replace(",", "")) - value)
    assert whole <= 0.5


def test_digits_of_what_is_no_number() -> None:
    assert digits(float("nan")) == DASH
    assert digits(0.0) == "0"


@given(st.lists(magnitudes, min_size=1))
def test_one_scale_for_a_column_keeps_its_middle_readable(values: list[float]) -> None:
    scale = scale_of("s", values)
    middle = sorted(values)[len(values) // 2] * scale.factor
    assert scale.symbol in ("µs", "ms", "s")
    if 1e-5 < sorted(values)[len(values) // 2] < 900:
        assert 0.1 <= middle < 1001


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0812, "s", "81.2 ms"),
        (0.000012, "s", "12.0 µs"),
        (2.5, "s", "2.50 s"),
        (0.123, "fraction", "12.3 %"),
        (12345.6, "tokens/s", "12,346 tokens/s"),
        (3.0, "", "3.00"),
    ],
)
def test_quantities(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4.2 s"), (59, "59 s"), (59.7, "1 min 0 s"), (750, "12 min 30 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_moments_are_utc() -> None:
    assert moment(1_767_225_600_000_000_000) == "2026-01-01 00:00:00 UTC"
