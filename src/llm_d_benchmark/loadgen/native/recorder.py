"""Finished requests as columns, built in small batches.

Rows are packed into flat buffers as they come, so that ``take`` is a handful of array copies: it runs on the loop,
between two reads.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import Any

import numpy as np

from ...domain.records import MISSING, RECORD_COLUMNS, ErrorClass, Labels, Ragged, Records, Status, offsets_of
from .decode import Decoded
from .exchange import Exchange, Outcome

_TIMES = ("scheduled", "ready", "sent", "first_token", "last_token", "end")
_INTS = (
    "request_id", "stage", "session", "turn", *_TIMES, "connect", "input_tokens", "input_asked", "output_tokens",
    "output_asked", "cached_tokens", "http_status", "attempts",
)  # fmt: skip
_INTS_ROW = Struct(f"{len(_INTS)}q")
_LABELS = ("model", "input_source", "output_source", "finish_reason", "status", "error_class", "error")
_LABELS_ROW = Struct(f"{len(_LABELS)}i")


class Recorder:
    """Collects rows and hands them over as ``Records`` with epoch times."""

    def __init__(self, shard: int, worker: int, clock_offset: int) -> None:
        self._shard = shard
        self._worker = worker
        self._offset = clock_offset
        self._clear()

    def _clear(self) -> None:
        self._ints = bytearray()
        self._codes = bytearray()
        self._names: list[dict[str, int]] = [{} for _ in _LABELS]
        self._streaming: list[bool] = []
        self._chunks, self._chunk_counts = bytearray(), list[int]()
        self._tokens, self._token_counts = bytearray(), list[int]()

    def __len__(self) -> int:
        return len(self._streaming)

    def add(
        self,
        exchange: Exchange,
        decoded: Decoded,
        *,
        stage: int,
        model: str,
        session: int,
        asked: tuple[int | None, int | None],
        counted: int | None = None,
    ) -> tuple[Status, ErrorClass | None, int | None]:
        """Add one finished exchange; its status, error class and output tokens.

        Args:
            counted: output tokens by a tokenizer, for an answer without usage.
        """
        status, error, message = _verdict(exchange, decoded)
        chunks = decoded.chunks
        output, source = decoded.output_tokens, "usage"
        if output is None and counted is not None:
            output, source = counted, "tokenizer"
        elif output is None and exchange.streaming and status is Status.OK:
            output, source = len(chunks), "chunks"
        row = (
            exchange.request_id, stage, session, exchange.turn, exchange.scheduled, exchange.ready, exchange.sent,
            chunks[0] if chunks else None, chunks[-1] if chunks else None, exchange.end, exchange.connect,
            decoded.input_tokens, asked[0], output, asked[1], decoded.cached_tokens, exchange.http_status,
            exchange.attempts,
        )  # fmt: skip
        self._ints += _INTS_ROW.pack(*[MISSING if value is None else value for value in row])
        labels = (
            model, None if decoded.input_tokens is None else "usage", None if output is None else source,
            decoded.finish_reason, status, error, message,
        )  # fmt: skip
        self._codes += _LABELS_ROW.pack(
            *[
                -1 if label is None else names.setdefault(label, len(names))
                for label, names in zip(labels, self._names, strict=True)
            ]
        )
        self._streaming.append(exchange.streaming)
        self._chunks += chunks.tobytes()
        self._chunk_counts.append(len(chunks))
        self._tokens += pack(f"{len(decoded.chunk_tokens)}i", *decoded.chunk_tokens)
        self._token_counts.append(len(decoded.chunk_tokens))
        return status, error, output

    def take(self) -> Records:
        """All rows since the last call."""
        n = len(self)
        ints = np.frombuffer(self._ints, np.int64).reshape(n, len(_INTS)).T.copy()
        codes = np.frombuffer(self._codes, np.int32).reshape(n, len(_LABELS)).T.copy()
        columns: dict[str, Any] = dict(zip(_INTS, ints, strict=True))
        for name in _TIMES:
            times = columns[name]
            times[times != MISSING] += self._offset
        for name, column, names in zip(_LABELS, codes, self._names, strict=True):
            columns[name] = Labels(column, tuple(str(value) for value in names))
        columns["streaming"] = np.asarray(self._streaming, np.bool_)
        columns["shard"] = np.full(n, self._shard, np.int64)
        columns["worker"] = np.full(n, self._worker, np.int64)
        counts = np.asarray(self._chunk_counts, np.int64)
        after = np.frombuffer(self._chunks, np.int64) + self._offset - np.repeat(columns["sent"], counts)
        columns["chunk_times"] = Ragged(offsets_of(counts), (after // 1000).astype(np.int32))
        columns["chunk_tokens"] = Ragged(
            offsets_of(np.asarray(self._token_counts, np.int64)), np.frombuffer(self._tokens, np.int32).copy()
        )
        self._clear()
        return Records({c.name: columns[c.name] for c in RECORD_COLUMNS})


def _verdict(exchange: Exchange, decoded: Decoded) -> tuple[Status, ErrorClass | None, str | None]:
    if exchange.outcome is Outcome.CANCELLED:
        return Status.CANCELLED, None, None
    if exchange.outcome is Outcome.FAILED:
        return Status.FAILED, exchange.error, exchange.message
    if decoded.error is not None:
        return Status.FAILED, decoded.error, decoded.message
    return Status.OK, None, None
