"""Rows of records from what tools leave behind."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.domain.records import MISSING, Records
from llm_d_benchmark.domain.result import Measured
from llm_d_benchmark.loadgen.external.rows import counts, failure, statistics, stream, to_records, window

SENT = 1_767_225_600_000_000_000


def test_a_stream_keeps_its_times() -> None:
    row = stream(SENT, np.asarray([SENT + 20_000_400, SENT + 25_000_600], np.int64))
    records = to_records([{"sent": SENT, "status": "ok", "streaming": True, **row}])
    assert records.ints("first_token").tolist() == [SENT + 20_000_400]
    assert records.ragged("chunk_times").row(0).tolist() == [20_000, 25_001]
    assert stream(SENT, np.empty(0, np.int64)) == {}


@pytest.mark.parametrize(
    ("kind", "message", "status", "expected"),
    [
        ("ClientResponseError", "500, message='Internal Server Error'", None, "http_5xx"),
        ("HTTPError", "slow down", 429, "http_429"),
        ("HTTPError", "model not found", 404, "http_4xx"),
        ("ServerDisconnectedError", "Server disconnected", None, "truncated"),
        ("ClientConnectorError", "Cannot connect to host h:1 ssl:default [Connect call failed]", None, "connect"),
        ("TimeoutError", "", None, "timeout_total"),
        ("ConnectionTimeoutError", "Connection timeout to host", None, "timeout_connect"),
        ("Oddity", "took 512 tokens", None, None),
    ],
)  # fmt: skip
def test_failures_are_classified_and_keep_no_text(
    kind: str, message: str, status: int | None, expected: str | None
) -> None:
    row = failure(kind, message, status)
    assert row["error_class"] == expected
    assert row["status"] == "failed"
    assert message not in row["error"] or not message


def test_rows_are_numbered_in_the_order_of_sending() -> None:
    rows = [{"sent": SENT + 5, "end": SENT + 9, "status": "failed"}, {"sent": SENT, "end": SENT + 7, "status": "ok"}]
    records = to_records(rows)
    assert records.ints("sent").tolist() == [SENT, SENT + 5]
    assert records.ints("request_id").tolist() == records.ints("session").tolist() == [0, 1]
    assert records.ints("first_token").tolist() == [MISSING, MISSING]
    assert window(records) == (SENT, SENT + 10)
    assert counts(records) == {"sent": 2, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert window(Records.from_rows([])) is None


def test_figures_get_our_names_and_units() -> None:
    figures = {
        "median": 20.0,
        "P25": 10,
        "p99.9": 30,
        "std": 1.5,
        "avg": 21,
        "unit": "ms",
        "p50": float("nan"),
        "count": 3,
    }
    assert statistics("ttft", figures, 1e-3) == {
        "ttft.p50": Measured(0.02, "s"),
        "ttft.p25": Measured(0.01, "s"),
        "ttft.p99.9": Measured(0.03, "s"),
        "ttft.sd": Measured(0.0015, "s"),
        "ttft.mean": Measured(0.021, "s"),
    }
    assert statistics("ttft", None) == {}
