"""What is kept of every request: published columns, and column batches of them in numpy.

Times are int64 epoch nanoseconds (the monotonic clock plus one offset fixed at start). A time or a count that was not
observed is ``MISSING`` in memory and null in Parquet, never 0. Chunk times are a ragged column of int32 microseconds
after ``sent``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
MISSING: int = int(np.iinfo(np.int64).min)
"""The value of an integer column where nothing was observed (null in Parquet)."""


class Kind(StrEnum):
    """How a column is held: ``int`` int64 array, ``bool`` bool array, ``label`` Labels, ``ragged`` Ragged."""

    INT = "int"
    BOOL = "bool"
    LABEL = "label"
    RAGGED = "ragged"


class Status(StrEnum):
    """How a request ended. Sent requests are exactly these three: sent = ok + failed + cancelled."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ErrorClass(StrEnum):
    """Why a request failed."""

    CONNECT = "connect"
    TLS = "tls"
    HTTP_4XX = "http_4xx"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    REDIRECT = "redirect"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST_TOKEN = "timeout_first_token"
    TIMEOUT_TOTAL = "timeout_total"
    PROTOCOL = "protocol"
    TRUNCATED = "truncated"
    SERVER_ERROR_EVENT = "server_error_event"
    NO_CONTENT = "no_content"


class TokenSource(StrEnum):
    """Where a token count came from."""

    USAGE = "usage"
    TOKENIZER = "tokenizer"
    CHUNKS = "chunks"


@dataclass(frozen=True, slots=True)
class Column:
    """One published column of the records."""

    name: str
    kind: Kind
    unit: str
    doc: str


RECORD_COLUMNS: tuple[Column, ...] = (
    Column("request_id", Kind.INT, "", "number of the request in the schedule of the run; unique within a run"),
    Column("stage", Kind.INT, "", "index of the stage in events.jsonl and result.json"),
    Column("shard", Kind.INT, "", "machine shard that sent it (0 for an unsharded run)"),
    Column("worker", Kind.INT, "", "worker process that sent it, within its machine"),
    Column("model", Kind.LABEL, "", "model or LoRA name asked for"),
    Column("session", Kind.INT, "", "conversation the request belongs to; a single request is its own session"),
    Column("turn", Kind.INT, "", "turn within the session, from 0"),
    Column("scheduled", Kind.INT, "ns", "intended start; missing in a closed loop"),
    Column(
        "ready",
        Kind.INT,
        "ns",
        "when the request was free to go: scheduled, or later where a concurrency cap, the previous turn "
        "or the set-up of a connection held it back; sent - ready is the client's own delay",
    ),
    Column(
        "sent", Kind.INT, "ns", "first byte of the first attempt written (first attempt to connect where that failed)"
    ),
    Column("first_token", Kind.INT, "ns", "arrival of the first chunk that carries content"),
    Column("last_token", Kind.INT, "ns", "arrival of the last chunk that carries content"),
    Column("end", Kind.INT, "ns", "response complete, or the failure, or the cancellation"),
    Column("connect", Kind.INT, "ns", "duration of connection set-up (TCP and TLS); missing on a reused connection"),
    Column("chunk_times", Kind.RAGGED, "us", "arrival of each content chunk after sent"),
    Column(
        "chunk_tokens",
        Kind.RAGGED,
        "tokens",
        "tokens of each content chunk; empty unless the server sent usage with every chunk",
    ),
    Column("input_tokens", Kind.INT, "tokens", "prompt tokens as counted (see input_source)"),
    Column("input_source", Kind.LABEL, "", "usage or tokenizer"),
    Column("input_asked", Kind.INT, "tokens", "prompt tokens the workload asked for"),
    Column("output_tokens", Kind.INT, "tokens", "output tokens as counted (see output_source)"),
    Column("output_source", Kind.LABEL, "", "usage, tokenizer or chunks (one token a chunk assumed)"),
    Column("output_asked", Kind.INT, "tokens", "output tokens the workload asked for"),
    Column("cached_tokens", Kind.INT, "tokens", "prompt tokens served from a prefix cache, where the server tells"),
    Column("finish_reason", Kind.LABEL, "", "stop, length, tool_calls, ... as the server said"),
    Column("streaming", Kind.BOOL, "", "whether a stream was asked for"),
    Column("status", Kind.LABEL, "", "ok, failed or cancelled"),
    Column("error_class", Kind.LABEL, "", "class of the failure, see ErrorClass"),
    Column("error", Kind.LABEL, "", "short message of the failure; never prompt or response text"),
    Column("http_status", Kind.INT, "", "status code of the last response"),
    Column("attempts", Kind.INT, "", "attempts made; more than 1 only where retries were asked for"),
)

COLUMNS_BY_NAME: Mapping[str, Column] = {c.name: c for c in RECORD_COLUMNS}


@dataclass(frozen=True, slots=True)
class Ragged:
    """Lists of int32, one per row: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: IntArray
    values: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        return cast(IntArray, np.diff(self.offsets))

    def row(self, i: int) -> npt.NDArray[np.int32]:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def take(self, index: IntArray) -> Ragged:
        """Rows ``index`` in that order."""
        lengths = self.lengths[index]
        offsets = offsets_of(lengths)
        # position of every value: its row's start in self, plus its rank within the row
        starts = np.repeat(self.offsets[:-1][index] - offsets[:-1], lengths)
        return Ragged(offsets, self.values[starts + np.arange(offsets[-1])])

    @staticmethod
    def from_lists(rows: Sequence[Sequence[int] | npt.NDArray[Any]]) -> Ragged:
        offsets = offsets_of(np.fromiter((len(r) for r in rows), np.int64, len(rows)))
        values = np.concatenate([np.asarray(r, np.int32) for r in rows]) if rows else np.empty(0, np.int32)
        return Ragged(offsets, values.astype(np.int32, copy=False))

    @staticmethod
    def concat(parts: Sequence[Ragged]) -> Ragged:
        lengths = np.concatenate([p.lengths for p in parts]) if parts else np.empty(0, np.int64)
        values = [p.values[p.offsets[0] : p.offsets[-1]] for p in parts]
        return Ragged(offsets_of(lengths), np.concatenate(values) if values else np.empty(0, np.int32))


def offsets_of(lengths: npt.NDArray[Any]) -> IntArray:
    """Row offsets (n + 1) of rows with these lengths (n)."""
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of few distinct strings: ``names[codes[i]]``, code -1 where there is none."""

    codes: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def is_(self, name: str) -> npt.NDArray[np.bool_]:
        """Where the column equals ``name``."""
        code = self.names.index(name) if name in self.names else -2
        return cast(npt.NDArray[np.bool_], self.codes == code)

    def take(self, index: IntArray) -> Labels:
        return Labels(self.codes[index], self.names)

    def to_list(self) -> list[str | None]:
        return [self.names[c] if c >= 0 else None for c in self.codes.tolist()]

    def counts(self) -> dict[str, int]:
        """How often each name occurs (names that do not occur are left out)."""
        n = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return {name: int(k) for name, k in zip(self.names, n, strict=True) if k}

    @staticmethod
    def from_list(values: Iterable[str | None]) -> Labels:
        index: dict[str, int] = {}
        codes = [-1 if v is None else index.setdefault(v, len(index)) for v in values]
        return Labels(np.asarray(codes, np.int32), tuple(str(k) for k in index))

    @staticmethod
    def concat(parts: Sequence[Labels]) -> Labels:
        index: dict[str, int] = {}
        codes = []
        for p in parts:
            # one extra slot at the end so that code -1 maps to itself
            table = np.asarray([index.setdefault(n, len(index)) for n in p.names] + [-1], np.int32)
            codes.append(table[p.codes])
        return Labels(np.concatenate(codes) if codes else np.empty(0, np.int32), tuple(index))


AnyColumn = npt.NDArray[Any] | Labels | Ragged


@dataclass(frozen=True, slots=True)
class Records:
    """A batch of records: every column of RECORD_COLUMNS, all of one length."""

    columns: Mapping[str, AnyColumn]

    def __len__(self) -> int:
        return len(self.columns["request_id"])

    def ints(self, name: str) -> IntArray:
        """An int column; ``MISSING`` where nothing was observed."""
        return cast(IntArray, self.columns[name])

    def bools(self, name: str) -> npt.NDArray[np.bool_]:
        return cast(npt.NDArray[np.bool_], self.columns[name])

    def labels(self, name: str) -> Labels:
        return cast(Labels, self.columns[name])

    def ragged(self, name: str) -> Ragged:
        return cast(Ragged, self.columns[name])

    def where(self, mask: npt.NDArray[np.bool_]) -> Records:
        """The rows where ``mask`` holds, in order."""
        index = np.flatnonzero(mask)
        return Records(
            {k: v.take(index) if isinstance(v, Labels | Ragged) else v[index] for k, v in self.columns.items()}
        )

    @staticmethod
    def concat(parts: Sequence[Records]) -> Records:
        if not parts:
            return Records.from_rows([])
        if len(parts) == 1:
            return parts[0]
        return Records({c.name: _concat(c.kind, [p.columns[c.name] for p in parts]) for c in RECORD_COLUMNS})

    @staticmethod
    def from_rows(rows: Sequence[Mapping[str, Any]]) -> Records:
        """Records from one mapping per request; a key that is absent or None is missing.

        Raises:
            KeyError: a row has a key that is no column.
        """
        for row in rows:
            if not row.keys() <= COLUMNS_BY_NAME.keys():
                raise KeyError(f"no such record column: {sorted(row.keys() - COLUMNS_BY_NAME.keys())}")
        return Records({c.name: _column(c.kind, [r.get(c.name) for r in rows]) for c in RECORD_COLUMNS})


def _column(kind: Kind, values: list[Any]) -> AnyColumn:
    match kind:
        case Kind.INT:
            return np.asarray([MISSING if v is None else v for v in values], np.int64)
        case Kind.BOOL:
            return np.asarray([bool(v) for v in values], np.bool_)
        case Kind.LABEL:
            return Labels.from_list(values)
        case Kind.RAGGED:
            return Ragged.from_lists([() if v is None else v for v in values])


def _concat(kind: Kind, parts: list[Any]) -> AnyColumn:
    match kind:
        case Kind.LABEL:
            return Labels.concat(parts)
        case Kind.RAGGED:
            return Ragged.concat(parts)
        case _:
            return np.concatenate(parts)
