"""Records built column by column, for results of millions of rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...domain.records import MISSING, RECORD_COLUMNS, AnyColumn, Kind, Labels, Ragged, Records


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
