"""Samples to and from Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import arro3.core as arrow
import arro3.io
import numpy as np

from ..domain.errors import StoreError
from ..domain.records import Labels
from ..domain.samples import Samples, Series, SeriesKind
from .files import write_bytes
from .parquet import batches, labels_from_arrow, labels_to_arrow

SCHEMA_VERSION = "1"
COLUMNS = {
    "time": "epoch ns by the client's clock",
    "value": "SI units as the source has them",
    "source": "host, or the metrics endpoint",
    "metric": "name as the source has it",
    "labels": "JSON object, keys sorted",
    "kind": "gauge or counter",
}


def write_samples(samples: Samples, path: Path) -> None:
    """Write one Parquet file, complete or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    series = samples.series
    texts = {
        "source": [s.source for s in series],
        "metric": [s.metric for s in series],
        "labels": [json.dumps(dict(s.labels), separators=(",", ":")) for s in series],
        "kind": [str(s.kind) for s in series],
    }
    arrays = [arrow.Array.from_numpy(samples.times), arrow.Array.from_numpy(samples.values)]
    arrays += [labels_to_arrow(_labels(samples, values)) for values in texts.values()]
    fields = [
        arrow.Field(name, array.type, nullable=True, metadata={"doc": doc})
        for (name, doc), array in zip(COLUMNS.items(), arrays, strict=True)
    ]
    table = arrow.Table.from_arrays(arrays, schema=arrow.Schema(fields, metadata={"samples_schema": SCHEMA_VERSION}))
    encoded = io.BytesIO()
    arro3.io.write_parquet(table, encoded, compression="zstd(1)")
    write_bytes(path, encoded.getbuffer())


def read_samples(path: Path) -> Iterator[Samples]:
    """The samples of one Parquet file in batches of bounded size.

    Raises:
        StoreError: it is no Parquet file of samples, or it is damaged.
    """
    for batch in batches(path):
        text = [labels_from_arrow(batch.column(name)) for name in ("source", "metric", "labels", "kind")]
        keys = np.stack([t.codes for t in text], axis=1)
        unique, codes = np.unique(keys, axis=0, return_inverse=True)
        try:
            series = tuple(_series(*(t.names[c] for t, c in zip(text, row, strict=True))) for row in unique.tolist())
        except (ValueError, AttributeError) as error:
            raise StoreError(f"{path} holds no samples: {error}") from None
        yield Samples(
            np.asarray(batch.column("time").to_numpy(), np.int64),
            np.asarray(batch.column("value").to_numpy(), np.float64),
            codes.reshape(-1).astype(np.int32),
            series,
        )


def _labels(samples: Samples, values: Sequence[str]) -> Labels:
    index: dict[str, int] = {}
    table = np.asarray([index.setdefault(v, len(index)) for v in values], np.int32)
    return Labels(table[samples.codes] if len(samples) else samples.codes, tuple(index))


def _series(source: str, metric: str, labels: str, kind: str) -> Series:
    return Series(source, metric, tuple(sorted(json.loads(labels).items())), SeriesKind(kind))
