"""Finished requests as columns; simulated seconds become epoch ns here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...domain.records import MISSING, RECORD_COLUMNS, Kind, Labels, Ragged, Records, TokenSource, offsets_of
from ...simulator.api import FloatArray

_TIMES = ("scheduled", "ready", "sent", "first_token", "last_token", "end")


class Row(NamedTuple):
    """One request; times in seconds of the loop, None where there is none."""

    request_id: int
    stage: int
    model: str
    session: int
    turn: int
    scheduled: float | None
    ready: float
    sent: float
    end: float
    chunks: FloatArray
    input_tokens: int | None
    input_asked: int | None
    output_tokens: int | None
    output_asked: int | None
    cached_tokens: int | None
    finish_reason: str | None
    streaming: bool
    status: str
    error_class: str | None
    error: str | None
    http_status: int | None
    attempts: int


class Recorder:
    """Collects rows and hands them over as ``Records``. ``epoch``: ns of the loop's second 0."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def take(self) -> Records:
        """All rows since the last call."""
        rows, self._rows = self._rows, []
        values: dict[str, Any] = dict(zip(Row._fields, zip(*rows, strict=True), strict=True)) if rows else {}
        times = values.pop("chunks", ())
        sent = self._ns(values.get("sent", ()))
        counts = np.fromiter(map(len, times), np.int64, len(rows))
        chunks = np.concatenate([*times, np.empty(0)]) * 1e9
        after = np.rint(chunks, out=chunks).astype(np.int64) - np.repeat(sent - self._epoch, counts)
        columns: dict[str, Any] = {
            "first_token": self._ns([t[0] if len(t) else None for t in times]),
            "last_token": self._ns([t[-1] if len(t) else None for t in times]),
            "sent": sent,
            "chunk_times": Ragged(offsets_of(counts), (after // 1000).astype(np.int32)),
            "chunk_tokens": Ragged(np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int32)),
            "input_source": _source(values.get("input_tokens", ())),
            "output_source": _source(values.get("output_tokens", ())),
            "shard": np.zeros(len(rows), np.int64),
            "worker": np.zeros(len(rows), np.int64),
            "connect": np.full(len(rows), MISSING),
        }
        for column in RECORD_COLUMNS:
            if column.name not in columns:
                columns[column.name] = self._column(column.name, column.kind, values.get(column.name, ()))
        return Records({c.name: columns[c.name] for c in RECORD_COLUMNS})

    def _column(self, name: str, kind: Kind, values: Sequence[Any]) -> Any:
        if name in _TIMES:
            return self._ns(values)
        if kind is Kind.LABEL:
            return Labels.from_list(values)
        if kind is Kind.BOOL:
            return np.array(values, np.bool_)
        return np.array([MISSING if v is None else v for v in values] if None in values else values, np.int64)

    def _ns(self, seconds: Sequence[float | None]) -> Any:
        """Epoch ns of seconds of the loop."""
        values = np.array(seconds, np.float64)
        known = np.isfinite(values)
        ns = self._epoch + np.rint(np.where(known, values, 0.0) * 1e9).astype(np.int64)
        return np.where(known, ns, MISSING)


def _source(tokens: Sequence[int | None]) -> Labels:
    return Labels.from_list(None if count is None else TokenSource.USAGE for count in tokens)
