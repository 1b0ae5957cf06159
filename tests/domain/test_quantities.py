"""Quantities as users write them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.quantities import (
    AlertExpression,
    Threshold,
    parse_alert,
    parse_bytes,
    parse_duration,
    parse_quantity,
    parse_resource,
    parse_threshold,
)

UNITS = [
    "s",
    "tokens/s",
    "requests/s",
    "batches/s",
    "fraction",
    "USD",
    "USD/token",
    "USD/request",
    "USD/s",
    "bytes/s",
    "",
]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("500ms", 0.5),
        ("1h30m", 5400),
        (1800, 1800),
        ("1800", 1800),
        ("2.5s", 2.5),
        ("1d", 86400),
        (0, 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 apples", "5m!", True, None, "1h-30m", "٣m"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("256Gi", 256 * 2**30), ("512MB", 512 * 10**6), (1024, 1024), ("1.5G", 1.5e9)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2000ms", 2.0, "s"),
        ("50 tokens/s", 50, "tokens/s"),
        ("3000 tokens/min", 50, "tokens/s"),
        ("10 rps", 10, "requests/s"),
        ("10 requests per second", 10, "requests/s"),
        ("$0.001/token", 0.001, "USD/token"),
        ("$2/1M tokens", 2e-6, "USD/token"),
        ("$3.60/hour", 0.001, "USD/s"),
        ("0.5 USD", 0.5, "USD"),
        ("5%", 0.05, "fraction"),
        ("256Gi", 256 * 2**30, "bytes"),
        ("10 MB/s", 1e7, "bytes/s"),
        ("3", 3, ""),
        (7, 7, ""),
        ("1e3", 1000, ""),
    ],
)
def test_quantities_are_held_in_si_units(text: object, value: float, unit: str) -> None:
    quantity = parse_quantity(text)
    assert quantity.value == pytest.approx(value)
    assert quantity.unit == unit
    assert str(quantity) == str(text)


@pytest.mark.parametrize(
    "text", ["", "fast", "5 apples", "5 tokens/apple", "$/token", "$5/apple", True, "1e999", "nan"]
)
def test_what_is_no_quantity_teaches_the_forms(text: object) -> None:
    with pytest.raises(ValueError, match=r"2000ms, 50 tokens/s"):
        parse_quantity(text)


def test_a_threshold_knows_its_side() -> None:
    limit = parse_threshold("<2000ms")
    assert (limit.op, limit.value, limit.unit) == ("<", 2.0, "s")
    assert limit.holds(1.999)
    assert not limit.holds(2.0)
    assert limit.is_upper
    assert parse_threshold("≥ 2 s").holds(2.0)
    assert not parse_threshold(">50 tokens/s").is_upper


def test_a_subject_follows_only_where_it_is_allowed() -> None:
    limit = parse_threshold(">99.9% uptime", subjects=("uptime",))
    assert (limit.value, limit.subject) == (pytest.approx(0.999), "uptime")
    with pytest.raises(ValueError, match="not a quantity"):
        parse_threshold(">99.9% uptime")


@given(
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e12),
    st.sampled_from(UNITS),
)
def test_a_threshold_is_read_back_from_what_it_prints(op: str, value: float, unit: str) -> None:
    limit = Threshold(op, value, unit)  # type: ignore[arg-type]
    again = parse_threshold(str(limit))
    assert (again.op, again.unit) == (op, unit)
    assert math.isclose(again.value, value, rel_tol=1e-12, abs_tol=1e-300)


@given(st.sampled_from(["p95_latency", "error_rate", "ttft.p99"]), st.floats(0, 1e6), st.floats(0, 1e6))
def test_an_alert_is_read_back_from_what_it_prints(metric: str, value: float, lasting: float) -> None:
    alert = AlertExpression(metric, Threshold(">", value, "s"), lasting)
    assert parse_alert(str(alert)) == alert


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_quantity, parse_threshold, parse_alert, parse_duration, parse_bytes, parse_resource):
        with contextlib.suppress(ValueError):
            parse(text)


def test_alerts() -> None:
    alert = parse_alert("error_rate > 1% for 30s")
    assert (alert.metric, alert.threshold.value, alert.for_s) == ("error_rate", 0.01, 30)
    assert alert.fires(0.02)
    assert not alert.fires(0.01)
    assert parse_alert("p95_latency > 5s").for_s == 0
    with pytest.raises(ValueError, match="METRIC > LIMIT"):
        parse_alert("error_rate")


@pytest.mark.parametrize(("text", "value"), [(8, 8), ("500m", 0.5), ("256Gi", 256 * 2**30), ("1k", 1000)])
def test_kubernetes_quantities(text: object, value: float) -> None:
    assert parse_resource(text).value == value
    assert str(parse_resource(text)) == str(text)
