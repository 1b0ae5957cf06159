"""Records survive Parquet exactly, whatever is missing in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.domain.errors import StoreError
from llm_d_benchmark.domain.records import RECORD_COLUMNS, Kind, Records
from llm_d_benchmark.store.parquet import read_records, write_records

_VALUES = {
    Kind.INT: st.one_of(st.none(), st.integers(0, 2**62)),
    Kind.BOOL: st.booleans(),
    Kind.LABEL: st.one_of(st.none(), st.sampled_from(["ok", "", "größer", "模型", "a\x00b"])),
    Kind.RAGGED: st.lists(st.integers(0, 2**31 - 1), max_size=4),
}
_ROWS = st.lists(st.fixed_dictionaries({c.name: _VALUES[c.kind] for c in RECORD_COLUMNS}), max_size=6)


def rows_of(records: Records) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for i in range(len(records)):
        row: dict[str, Any] = {}
        for c in RECORD_COLUMNS:
            match c.kind:
                case Kind.RAGGED:
                    row[c.name] = records.ragged(c.name).row(i).tolist()
                case Kind.LABEL:
                    row[c.name] = records.labels(c.name).to_list()[i]
                case Kind.BOOL:
                    row[c.name] = bool(records.bools(c.name)[i])
                case Kind.INT:
                    value = int(records.ints(c.name)[i])
                    row[c.name] = None if value == np.iinfo(np.int64).min else value
        out.append(row)
    return out


@settings(max_examples=60, deadline=None)
@given(_ROWS)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("p") / "x.parquet"
    write_records(Records.from_rows(rows), path)
    assert rows_of(Records.concat(list(read_records(path)))) == rows


def test_a_slice_of_a_larger_batch_round_trips(tmp_path: Path) -> None:
    records = Records.from_rows([{"request_id": i, "chunk_times": range(i), "status": "ok"} for i in range(50)])
    part = records.where(records.ints("request_id") > 40)
    write_records(part, tmp_path / "x.parquet")
    (back,) = read_records(tmp_path / "x.parquet")
    assert rows_of(back) == rows_of(part)


def test_other_readers_see_published_types_and_nulls(tmp_path: Path) -> None:
    write_records(Records.from_rows([{"request_id": 1, "status": "ok"}]), tmp_path / "x.parquet")
    frame = polars.read_parquet(tmp_path / "x.parquet")
    assert frame["sent"].to_list() == [None]
    assert frame["sent"].dtype == polars.Int64
    assert frame["chunk_times"].dtype == polars.List(polars.Int32)
    assert frame["status"].cast(polars.String).to_list() == ["ok"]


def flipped_footer(data: bytes) -> bytes:
    """Whole as a file, but with what no reader expects in its footer."""
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:begin] + bytes(b ^ 0x5A for b in data[begin : begin + 40]) + data[begin + 40 :]


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"", lambda b: b"x" * len(b), flipped_footer])
def test_a_damaged_part_is_an_error_with_its_name(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "x.parquet"
    write_records(Records.from_rows([{"request_id": 1}]), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r"x\.parquet"):
        list(read_records(path))
