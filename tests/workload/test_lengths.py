"""Lengths have the means that were asked for and keep to their bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.load import Length
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.workload.lengths import draw


def drawn(count: int = 20_000, **options: Any) -> np.ndarray[Any, Any]:
    length, rng = Length(**options), np.random.default_rng(5)
    return np.array([draw(length, rng) for _ in range(count)])


def test_fixed_is_always_the_same() -> None:
    assert set(drawn(50, distribution="fixed", value=77)) == {77}


def test_uniform_takes_both_ends_and_all_between() -> None:
    values, counts = np.unique(drawn(distribution="uniform", min=3, max=7), return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7]
    assert counts.min() > 3700


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_mean_and_deviation_are_those_of_the_length_itself(kind: str) -> None:
    got = drawn(distribution=kind, mean=500, std_dev=100)
    assert got.mean() == pytest.approx(500, rel=0.01)
    assert got.std() == pytest.approx(100, rel=0.05)


def test_lognormal_has_a_tail() -> None:
    got = drawn(distribution="lognormal", mean=500, std_dev=400)
    assert np.median(got) == pytest.approx(500 / np.sqrt(1 + 0.64), rel=0.03)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["normal", "lognormal"]), mean=st.floats(0.5, 5000), deviation=st.floats(0, 5000),
    bounds=st.tuples(st.integers(1, 500), st.integers(1, 500)).map(sorted), seed=st.integers(0, 99),
)  # fmt: skip
def test_bounds_hold(kind: Any, mean: float, deviation: float, bounds: list[int], seed: int) -> None:
    length = Length(distribution=kind, mean=mean, std_dev=deviation, min=bounds[0], max=bounds[1])
    assert bounds[0] <= draw(length, np.random.default_rng(seed)) <= bounds[1]
    assert draw(Length(distribution=kind, mean=mean, std_dev=deviation), np.random.default_rng(seed)) >= 1


def test_a_file_gives_its_own_lengths_with_or_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("tokens,other\n5,x\n\n9,y\n9,z\n")
    values, counts = np.unique(drawn(3000, distribution="file", path=str(path)), return_counts=True)
    assert values.tolist() == [5, 9]
    assert counts[1] / 3000 == pytest.approx(2 / 3, abs=0.04)


@pytest.mark.parametrize(
    ("text", "message"),
    [("5\nfive\n", r"bad.txt:2: 'five' is not a length"), ("5\n0\n", r"bad.txt:2"), ("", "holds no lengths")],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        drawn(1, distribution="file", path=str(path))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the lengths"):
        drawn(1, distribution="file", path=str(tmp_path / "none.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        drawn(1, distribution="file", path=str(tmp_path / "binary"))
