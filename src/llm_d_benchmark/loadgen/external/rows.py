"""What every parser needs: rows of records from a tool's times and errors, its figures under our names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...domain.records import (
    MISSING,
    RECORD_COLUMNS,
    AnyColumn,
    ErrorClass,
    IntArray,
    Kind,
    Labels,
    Ragged,
    Records,
    Status,
)
from ...domain.result import Measured, Scalar

Row = dict[str, Any]
"""Columns of one request by name; what is absent or None is missing."""

_STATISTICS = {
    "mean": "mean", "avg": "mean", "median": "p50", "std": "sd", "std_dev": "sd", "stddev": "sd", "min": "min",
    "max": "max",
}  # fmt: skip
_PERCENTILE = re.compile(r"[pP](\d+(?:\.\d+)?)")
_HTTP = re.compile(r"(?:(?:http(?:/\d\.\d)?|status|code)\D{0,12}|^)([45]\d\d)(?!\d)", re.IGNORECASE)
_LIKELY = (
    (r"connect.{0,12}time ?out|time ?out.{0,24}connect", ErrorClass.TIMEOUT_CONNECT),
    (r"time ?d? ?out|time ?out|deadline", ErrorClass.TIMEOUT_TOTAL),
    (r"certificate|sslerror|handshake", ErrorClass.TLS),
    (r"disconnected|payload|incomplete|reset by peer|connection lost|eof|truncated", ErrorClass.TRUNCATED),
    (r"connect|refused|unreachable|name or service|dns", ErrorClass.CONNECT),
    (r"no content|no response|never received|empty|no output|no token", ErrorClass.NO_CONTENT),
    (r"json|decode|parse|protocol", ErrorClass.PROTOCOL),
)


def epoch_ns(seconds: float) -> int:
    """Epoch seconds as whole ns; a double resolves about 0.2 us there."""
    return round(seconds * 1e9)


def stream(sent: int, chunks: npt.NDArray[np.int64]) -> Row:
    """The columns of a stream whose content chunks arrived at ``chunks`` (same clock as ``sent``, ns, n >= 0)."""
    if not len(chunks):
        return {}
    after = np.rint((chunks - sent) / 1e3).astype(np.int32)
    return {"first_token": int(chunks[0]), "last_token": int(chunks[-1]), "chunk_times": after}


def failure(kind: str | None, message: str | None, http_status: int | None = None) -> Row:
    """The columns of a failed request.

    ``kind`` is the tool's name of the error (its exception or type). ``message`` only helps to classify: it may quote
    the prompt or the response, so it is never stored.
    """
    text = f"{kind or ''} {message or ''}"
    if http_status is None or not 100 <= http_status < 600:
        found = _HTTP.search(message or "") or _HTTP.search(kind or "")
        http_status = int(found[1]) if found else None
    error_class = _class(text, http_status)
    parts = [kind or "error", *([f"HTTP {http_status}"] if http_status else [])]
    return {
        "status": Status.FAILED,
        "error_class": error_class,
        "error": ", ".join(parts)[:120],
        "http_status": http_status,
    }


def _class(text: str, http_status: int | None) -> ErrorClass | None:
    """The likeliest class; None where the text gives no hint (the counts then say ``unknown``)."""
    if http_status == 429:
        return ErrorClass.HTTP_429
    if http_status is not None and http_status >= 400:
        return ErrorClass.HTTP_5XX if http_status >= 500 else ErrorClass.HTTP_4XX
    return next((c for pattern, c in _LIKELY if re.search(pattern, text, re.IGNORECASE)), None)


def to_records(rows: Sequence[Row]) -> Records:
    """Records in the order of sending, numbered from 0; a row without a session is one of its own."""
    ordered = sorted(rows, key=lambda row: -1 if row.get("sent") is None else row["sent"])
    taken = max((row["session"] for row in ordered if row.get("session") is not None), default=-1) + 1
    full = []
    for number, row in enumerate(ordered):
        own = {"request_id": number, "stage": 0, "shard": 0, "worker": 0, "turn": 0, "attempts": 1}
        session = row.get("session")
        own["session"] = taken + number if session is None else session
        full.append(own | {k: v for k, v in row.items() if v is not None})
    return Records.from_rows(full)


def window(records: Records) -> tuple[int, int] | None:
    """From the first request to the last answer, epoch ns (the end is exclusive); None where no time is known."""
    times = np.concatenate([_known(records.ints("sent")), _known(records.ints("end"))])
    return (int(times.min()), int(times.max()) + 1) if len(times) else None


def counts(records: Records) -> dict[str, int]:
    """Requests by outcome: sent, succeeded, failed, cancelled."""
    by = records.labels("status").counts()
    outcome = {"succeeded": Status.OK, "failed": Status.FAILED, "cancelled": Status.CANCELLED}
    return {"sent": len(records), **{name: by.get(status, 0) for name, status in outcome.items()}}


def statistics(name: str, figures: object, factor: float = 1.0, unit: str = "s") -> dict[str, Scalar]:
    """A tool's figures of one metric as ``name.mean``, ``name.sd``, ``name.p50``, ... times ``factor``.

    ``median`` is p50, ``P25`` is p25; what is not a finite number, and keys that are no statistic, are left out.
    """
    out: dict[str, Scalar] = {}
    for key, value in figures.items() if isinstance(figures, Mapping) else ():
        own = statistic(str(key))
        if own is not None and is_number(value):
            out[f"{name}.{own}"] = Measured(float(value) * factor, unit)
    return out


def statistic(key: str) -> str | None:
    """Our name of a statistic as tools spell it; None where it is none."""
    found = _PERCENTILE.fullmatch(key)
    return f"p{float(found[1]):g}" if found else _STATISTICS.get(key.lower())


def is_number(value: object) -> bool:
    """A finite number (NaN is how some tools write that there was nothing to measure)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def measured(name: str, value: object, unit: str, factor: float = 1.0) -> dict[str, Scalar]:
    """``{name: value}``, or nothing where the value is no number."""
    return {name: Measured(float(value) * factor, unit)} if is_number(value) else {}  # type: ignore[arg-type]


def _known(values: IntArray) -> IntArray:
    known: IntArray = values[values != MISSING]
    return known


def records_of(n: int, columns: Mapping[str, AnyColumn]) -> Records:
    """``n`` records of these columns; every other one is missing.

    Raises:
        KeyError: a column that records do not have.
    """
    known = {c.name for c in RECORD_COLUMNS}
    if not columns.keys() <= known:
        raise KeyError(f"no such record column: {sorted(columns.keys() - known)}")
    return Records({c.name: columns[c.name] if c.name in columns else _missing(c.kind, n) for c in RECORD_COLUMNS})


def _missing(kind: Kind, n: int) -> AnyColumn:
    match kind:
        case Kind.INT:
            return np.full(n, MISSING, np.int64)
        case Kind.BOOL:
            return np.zeros(n, np.bool_)
        case Kind.LABEL:
            return Labels(np.full(n, -1, np.int32), ())
        case Kind.RAGGED:
            return Ragged(np.zeros(n + 1, np.int64), np.empty(0, np.int32))
