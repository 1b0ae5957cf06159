"""Samples survive the way to disk and back."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.samples import Samples, Series, SeriesKind
from llm_d_benchmark.store.samples import read_samples, write_samples

SERIES = st.builds(
    Series,
    st.sampled_from(["host", "http://a/metrics"]),
    st.text(min_size=1, max_size=4),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(lambda d: tuple(sorted(d.items()))),
    st.sampled_from(list(SeriesKind)),
)
ROWS = st.lists(st.tuples(st.integers(0, 2**62), SERIES, st.floats(allow_nan=False)), max_size=30)


def rows(samples: Samples) -> list[tuple[int, Series, float]]:
    codes = samples.codes.tolist()
    return [
        (t, samples.series[c], v)
        for t, c, v in zip(samples.times.tolist(), codes, samples.values.tolist(), strict=False)
    ]


@given(ROWS)
def test_what_is_written_is_read(tmp_path_factory, data) -> None:  # type: ignore[no-untyped-def]
    path: Path = tmp_path_factory.mktemp("samples") / "part.parquet"
    write_samples(Samples.from_rows(data), path)
    found = rows(Samples.concat(list(read_samples(path))))
    assert found == data
    assert all(math.copysign(1, a[2]) == math.copysign(1, b[2]) for a, b in zip(found, data, strict=True))


@given(st.lists(ROWS, max_size=4))
def test_parts_join_to_the_whole(parts) -> None:  # type: ignore[no-untyped-def]
    whole = Samples.concat([Samples.from_rows(p) for p in parts])
    assert rows(whole) == [r for p in parts for r in p]
    assert len(set(whole.series)) == len(whole.series)
