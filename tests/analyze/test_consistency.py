"""What contradicts itself in a tool's result is found, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.analyze.consistency import inconsistencies
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Measured, Scalar
from tests.support.records import make_records


def figures(**changes: float) -> dict[str, Scalar]:
    """Of answers of 16 tokens each; ``changes`` by name with __ for the dot."""
    sound = {
        "ttft.mean": 0.05, "tpot.mean": 0.01, "e2e.mean": 0.2, "output_tokens.mean": 16, "output_tokens.min": 16,
        "output_tokens.max": 16, "ttft.min": 0.04, "ttft.p50": 0.05, "ttft.p90": 0.06, "ttft.p99.9": 0.07,
        "ttft.max": 0.08,
    }  # fmt: skip
    found = sound | {k.replace("__", "."): v for k, v in changes.items()}
    return {k: Measured(v, "s") for k, v in found.items()}


def texts(records: Records | None, told: dict[str, Scalar], counts: dict[str, int]) -> list[str]:
    found = inconsistencies(records, told, counts, where="tool, c=1")
    assert all(f.code == "inconsistent_data" and f.message.startswith("tool, c=1: ") for f in found)
    return [f.message for f in found]


def test_sound_data_give_nothing() -> None:
    records = make_records(50, failed=10)
    assert texts(records, figures(), {"sent": 50, "succeeded": 40, "failed": 10}) == []
    assert texts(None, {}, {}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ttft__p90": 0.045}, "percentiles of ttft"),
        ({"ttft__max": 0.06}, "percentiles of ttft"),
        ({"e2e__mean": 0.25}, "ttft + (n - 1) tpot"),
        ({"tpot__mean": 0.005}, "ttft + (n - 1) tpot"),
    ],
)
def test_figures_that_do_not_fit(changes: dict[str, float], expected: str) -> None:
    (text,) = texts(None, figures(**changes), {})
    assert expected in text


def test_answers_of_several_lengths_have_no_such_identity() -> None:
    assert texts(None, figures(e2e__mean=0.3, output_tokens__max=20), {}) == []


def test_counts_and_order_of_times() -> None:
    records = make_records(50, failed=10)
    (text,) = texts(records, {}, {"sent": 50, "succeeded": 50, "failed": 10})
    assert "counts 50 succeeded" in text
    ends = np.where(np.arange(50) < 3, records.ints("last_token") - 1_000_000, records.ints("end"))
    (text,) = texts(Records({**records.columns, "end": ends}), {}, {})
    assert "3 of 50 requests have end before last_token" in text
