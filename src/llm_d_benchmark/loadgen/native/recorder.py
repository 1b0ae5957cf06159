"""Finished requests as columns, built in small batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...domain.records import MISSING, RECORD_COLUMNS, ErrorClass, Kind, Labels, Ragged, Records, Status, offsets_of
from .decode import Decoded
from .exchange import Exchange, Outcome

_TIMES = ("scheduled", "ready", "sent", "first_token", "last_token", "end")
_LISTS = tuple(c for c in RECORD_COLUMNS if c.kind is not Kind.RAGGED and c.name not in ("shard", "worker"))


class Recorder:
    """Collects rows and hands them over as ``Records`` with epoch times."""

    def __init__(self, shard: int, worker: int, clock_offset: int) -> None:
        self._shard = shard
        self._worker = worker
        self._offset = clock_offset
        self._columns: dict[str, list[Any]] = {}
        self._chunks: list[int] = []
        self._chunk_counts: list[int] = []
        self._tokens: list[int] = []
        self._token_counts: list[int] = []
        self._clear()

    def _clear(self) -> None:
        self._columns = {c.name: [] for c in _LISTS}
        self._chunks, self._chunk_counts, self._tokens, self._token_counts = [], [], [], []

    def __len__(self) -> int:
        return len(self._chunk_counts)

    def add(
        self,
        exchange: Exchange,
        decoded: Decoded,
        *,
        stage: int,
        model: str,
        session: int,
        asked: tuple[int | None, int | None],
    ) -> tuple[Status, ErrorClass | None, int | None]:
        """Add one finished exchange; its status, error class and output tokens."""
        status, error, message = _verdict(exchange, decoded)
        chunks = decoded.chunks
        output, source = decoded.output_tokens, "usage"
        if output is None and exchange.streaming and status is Status.OK:
            output, source = len(chunks), "chunks"
        row = {
            "request_id": exchange.request_id,
            "stage": stage,
            "model": model,
            "session": session,
            "turn": exchange.turn,
            "scheduled": exchange.scheduled,
            "ready": exchange.ready,
            "sent": exchange.sent,
            "first_token": chunks[0] if chunks else None,
            "last_token": chunks[-1] if chunks else None,
            "end": exchange.end,
            "connect": exchange.connect,
            "input_tokens": decoded.input_tokens,
            "input_source": None if decoded.input_tokens is None else "usage",
            "input_asked": asked[0],
            "output_tokens": output,
            "output_source": None if output is None else source,
            "output_asked": asked[1],
            "cached_tokens": decoded.cached_tokens,
            "finish_reason": decoded.finish_reason,
            "streaming": exchange.streaming,
            "status": status,
            "error_class": error,
            "error": message,
            "http_status": exchange.http_status,
            "attempts": exchange.attempts,
        }
        for name, values in self._columns.items():
            values.append(row[name])
        self._chunks += chunks
        self._chunk_counts.append(len(chunks))
        self._tokens += decoded.chunk_tokens
        self._token_counts.append(len(decoded.chunk_tokens))
        return status, error, output

    def take(self) -> Records:
        """All rows since the last call."""
        n = len(self)
        columns: dict[str, Any] = {}
        for column in _LISTS:
            columns[column.name] = _array(column.kind, self._columns[column.name])
        for name in _TIMES:
            times = columns[name]
            times[times != MISSING] += self._offset
        columns["shard"] = np.full(n, self._shard, np.int64)
        columns["worker"] = np.full(n, self._worker, np.int64)
        counts = np.asarray(self._chunk_counts, np.int64)
        stamps = np.asarray(self._chunks, np.int64) + self._offset
        after = (stamps - np.repeat(columns["sent"], counts)) // 1000
        columns["chunk_times"] = Ragged(offsets_of(counts), after.astype(np.int32))
        columns["chunk_tokens"] = Ragged(
            offsets_of(np.asarray(self._token_counts, np.int64)), np.asarray(self._tokens, np.int32)
        )
        self._clear()
        return Records({c.name: columns[c.name] for c in RECORD_COLUMNS})


def _array(kind: Kind, values: list[Any]) -> Any:
    if kind is Kind.LABEL:
        return Labels.from_list(values)
    if kind is Kind.BOOL:
        return np.asarray(values, np.bool_)
    return np.asarray([MISSING if v is None else v for v in values], np.int64)


def _verdict(exchange: Exchange, decoded: Decoded) -> tuple[Status, ErrorClass | None, str | None]:
    if exchange.outcome is Outcome.CANCELLED:
        return Status.CANCELLED, None, None
    if exchange.outcome is Outcome.FAILED:
        return Status.FAILED, exchange.error, exchange.message
    if decoded.error is not None:
        return Status.FAILED, decoded.error, decoded.message
    return Status.OK, None, None
