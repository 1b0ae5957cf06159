"""Records to and from Parquet, by way of Arrow buffers: no Python object per row."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import arro3.core as arrow
import arro3.io
import nanoarrow as na
import numpy as np
import numpy.typing as npt

from ..domain.errors import StoreError
from ..domain.records import MISSING, RECORD_COLUMNS, AnyColumn, Column, Kind, Labels, Ragged, Records, offsets_of
from .files import write_bytes

SCHEMA_VERSION = "1"
READ_ROWS = 16_384


def write_records(records: Records, path: Path) -> None:
    """Write one Parquet file, complete or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    arrays = [_to_arrow(c, records.columns[c.name]) for c in RECORD_COLUMNS]
    fields = [
        arrow.Field(c.name, a.type, nullable=True, metadata={"unit": c.unit, "doc": c.doc})
        for c, a in zip(RECORD_COLUMNS, arrays, strict=True)
    ]
    table = arrow.Table.from_arrays(arrays, schema=arrow.Schema(fields, metadata={"records_schema": SCHEMA_VERSION}))
    encoded = io.BytesIO()
    # Times hardly ever repeat: a dictionary of them takes several times as long and makes the file larger.
    lists: dict[str | Sequence[str], bool] = {
        (c.name, "list", ""): False for c in RECORD_COLUMNS if c.kind is Kind.RAGGED
    }
    arro3.io.write_parquet(table, encoded, compression="zstd(1)", column_dictionary_enabled=lists)
    write_bytes(path, encoded.getbuffer())


def read_records(path: Path) -> Iterator[Records]:
    """The records of one Parquet file in batches of bounded size.

    Raises:
        StoreError: it is no Parquet file of records, or it is damaged.
    """
    for batch in batches(path):
        yield Records({c.name: _from_arrow(c, batch.column(c.name)) for c in RECORD_COLUMNS})


def batches(path: Path) -> Iterator[Any]:
    """The Arrow batches of one Parquet file.

    Raises:
        StoreError: it is no Parquet file, or it is damaged.
    """
    check_whole(path)
    with path.open("rb") as file:
        try:
            yield from arro3.io.read_parquet(file, batch_size=READ_ROWS)
        except BaseException as error:
            if not _is_readers(error):
                raise
            raise StoreError(
                f"{path} is damaged: {error}", advice="move it away; the other parts still count"
            ) from error


def _is_readers(error: BaseException) -> bool:
    """The reader raises a bare Exception for damaged pages, and a panic, which is none, for a damaged footer."""
    return type(error) is Exception or type(error).__name__ == "PanicException"


def check_whole(path: Path) -> None:
    """Whether it is all there, without reading it: a part that was cut off is left out, and the others count.

    Raises:
        StoreError: it is no whole Parquet file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            tail = file.read(8)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    footer = int.from_bytes(tail[:4], "little")
    if size < 12 or head != b"PAR1" or tail[4:] != b"PAR1" or footer > size - 12:
        raise StoreError(
            f"{path} is damaged: it is no whole Parquet file", advice="move it away; the other parts still count"
        )


def _to_arrow(column: Column, values: AnyColumn) -> Any:
    if isinstance(values, Labels):
        return labels_to_arrow(values)
    if isinstance(values, Ragged):
        values = values.take(np.arange(len(values))) if values.offsets[0] else values
        return arrow.list_array(
            arrow.Array.from_numpy(values.offsets.astype(np.int32)), arrow.Array.from_numpy(values.values)
        )
    if column.kind is Kind.BOOL:
        return arrow.Array.from_numpy(values)
    missing = values == MISSING
    return _nullable(na.int64(), values, missing)


def _nullable(type_: Any, values: npt.NDArray[Any], missing: npt.NDArray[Any], *more: bytes) -> Any:
    validity = np.packbits(~missing, bitorder="little") if missing.any() else None
    return arrow.Array.from_arrow(
        na.c_array_from_buffers(type_, len(missing), [validity, values, *more], null_count=int(missing.sum()))
    )


def labels_from_arrow(array: Any) -> Labels:
    """A column of few distinct strings, from an Arrow dictionary array."""
    codes, missing = _values(arrow.dictionary_indices(array))
    return Labels(np.where(missing, -1, codes).astype(np.int32), tuple(arrow.dictionary_dictionary(array).to_pylist()))


def labels_to_arrow(labels: Labels) -> Any:
    """An Arrow dictionary array of a column of few distinct strings."""
    names = [n.encode() for n in labels.names]
    missing = labels.codes < 0
    lengths = np.asarray([*map(len, names), 0], np.int64)[labels.codes]
    data = b"".join([names[c] for c in labels.codes.tolist() if c >= 0])
    text = _nullable(na.string(), offsets_of(lengths).astype(np.int32), missing, data)
    return text.cast(arrow.DataType.dictionary(arrow.DataType.int32(), arrow.DataType.utf8()))


def _from_arrow(column: Column, array: Any) -> AnyColumn:
    match column.kind:
        case Kind.LABEL:
            return labels_from_arrow(array)
        case Kind.RAGGED:
            offsets = arrow.list_offsets(array).to_numpy().astype(np.int64)
            flat = np.asarray(arrow.list_flatten(array).to_numpy(), np.int32)
            return Ragged(offsets - offsets[0], flat[: offsets[-1] - offsets[0]])
        case Kind.BOOL:
            return np.asarray(array.to_numpy(), np.bool_)
        case Kind.INT:
            values, missing = _values(array)
            return np.where(missing, MISSING, values) if missing.any() else values


def _values(array: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Values of a primitive array and where they are null."""
    n = len(array)
    view = na.c_array(array).view()
    values = np.asarray(view.buffer(1))[view.offset : view.offset + n]
    if not view.null_count:
        return values, np.zeros(n, np.bool_)
    bits = np.unpackbits(np.frombuffer(view.buffer(0), np.uint8), bitorder="little")
    return values, bits[view.offset : view.offset + n] == 0
