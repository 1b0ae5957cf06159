"""Where a tool's own figures are not what its requests give under our definitions, and which definition gives them.

An explanation is a computation: it is given where the tool's records, taken that way, give the tool's figure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..domain.latencies import per_request
from ..domain.records import MISSING
from ..domain.result import Distribution, Measured, OwnFigure, Scalar, Why
from .gather import Table
from .metrics import View
from .percentiles import Ecdf, FloatArray
from .readings import LATENCY_FLOOR_S, Measurement
from .reported import counts, figures

TOLERANCE = 0.02
MATCH = 0.005
"""A definition explains a figure when it gives it to within this fraction."""
OUTSIDE = "it takes in requests that were sent outside the window"
TO_THE_END = "it takes the end of the response, not its last content"
_BASES = ("ttft", "tpot", "itl", "ntpot", "e2e")
_LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_SCALARS = {
    "requests_per_second": "requests_per_second", "output_tokens_per_second": "output_tokens_per_second",
    "input_length": "input_length", "input_tokens.mean": "input_length", "output_length": "output_length",
    "output_tokens.mean": "output_length",
}  # fmt: skip


def own_figures(m: Measurement) -> list[OwnFigure]:
    """The figures of one stage's tool that differ from ours by more than rounding and interpolation can."""
    if not m.data.window.told or m.view is None:
        return []
    found = []
    missing = _missing(m)
    for name, own in figures(m.data.window).items():
        ours = _ours(m, name)
        if isinstance(ours, Measured) and _differs(m.view, name, own.value, ours.value):
            amount = own.value / ours.value - 1 if ours.value else float("inf")
            if np.isfinite(amount):
                whys = missing or _whys(m.view, name, own.value)
                found.append(OwnFigure(m.result.index, name, own, ours, amount, whys))
    return found


def _missing(m: Measurement) -> list[Why]:
    """Where the tool counts more requests than it kept."""
    counted, kept = counts(m.data.window.told), len(m.data.table)
    if counted is None or counted.sent <= kept:
        return []
    return [Why("requests_missing", f"it counts {counted.sent} requests, and kept {kept} of them")]


def _ours(m: Measurement, name: str) -> Scalar | None:
    base, _, statistic = name.partition(".")
    if name in _SCALARS:
        found = getattr(m.metrics, _SCALARS[name])
        achieved: Scalar = getattr(found, "achieved", found)
        return achieved
    d = getattr(m.metrics, base) if base in _BASES else None
    if not isinstance(d, Distribution):
        return None
    if statistic == "mean":
        return Measured(d.mean, d.unit)
    value = d.at(statistic) if statistic in _LEVELS else None
    return None if value is None else Measured(value, d.unit)


def _differs(v: View, name: str, own: float, ours: float) -> bool:
    floor = LATENCY_FLOOR_S if name.partition(".")[0] in _BASES else 0.0
    if abs(own - ours) <= max(floor, TOLERANCE * abs(ours)):
        return False
    return not _interpolated(v, name, own)


def _interpolated(v: View, name: str, own: float) -> bool:
    """Whether a percentile lies between the values next to ours: tools interpolate in several ways."""
    base, _, statistic = name.partition(".")
    if statistic not in _LEVELS:
        return False
    ecdf = v.gaps.ecdf() if base == "itl" else _ecdf(_values(v, base))
    if ecdf is None:
        return False
    step = 1.0 / ecdf.count
    low, high = (ecdf.quantile(min(1.0, max(0.0, _LEVELS[statistic] + s))) for s in (-step, step))
    return low * (1 - MATCH) <= own <= high * (1 + MATCH)


def _values(v: View, base: str) -> FloatArray:
    values = per_request(v.ok)[base]
    return values[np.isfinite(values)]


def _ecdf(values: FloatArray) -> Ecdf | None:
    return Ecdf.of(values) if len(values) else None


def _whys(v: View, name: str, own: float) -> list[Why]:
    """The first definition that gives the figure."""
    for code, value, text in _definitions(v, name):
        if np.isfinite(value) and abs(value - own) <= MATCH * abs(own):
            return [Why(code, text)]
    return []


def _definitions(v: View, name: str) -> Iterator[tuple[str, float, str]]:
    """Other definitions of a figure with what each gives: code, value, what it is."""
    base, _, statistic = name.partition(".")
    if base in _BASES and base not in ("itl",):
        yield from _latencies(v, base, statistic)
    if base in ("tpot", "itl"):
        yield from _per_token(v, base, statistic)
    if name in ("requests_per_second", "output_tokens_per_second"):
        yield from _rates(v, name)


def _take(values: FloatArray, statistic: str) -> float:
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan")
    return float(values.mean()) if statistic == "mean" else float(np.quantile(values, _LEVELS[statistic]))


def _latencies(v: View, base: str, statistic: str) -> Iterator[tuple[str, float, str]]:
    whole = v.table.where(v.table.status("ok"))
    if len(whole) != len(v.ok):
        yield "whole_stage", _take(per_request(whole)[base], statistic), OUTSIDE
    if base in ("e2e", "tpot", "ntpot"):
        yield "until_end", _take(_until_end(v.ok, base), statistic), TO_THE_END
        if len(whole) != len(v.ok):
            both = _take(_until_end(whole, base), statistic)
            yield "whole_stage_until_end", both, f"{OUTSIDE}, and {TO_THE_END.removeprefix('it ')}"
    if base in ("ttft", "e2e"):
        scheduled = per_request(v.ok)[f"{base}_scheduled"]
        connect = np.where(v.ok.known("connect"), v.ok["connect"], 0) / 1e9
        yield "with_connect", _take(per_request(v.ok)[base] + connect, statistic), "it counts setting up connections in"
        yield "from_schedule", _take(scheduled, statistic), "it starts at the intended time, not when it was sent"
    failed = int(v.sent.status("failed").sum())
    if failed and statistic == "mean":
        values = _values(v, base)
        if len(values):
            mean = float(values.sum()) / (len(values) + failed)
            yield "failed_as_zero", mean, "it counts failed requests with a latency of 0"


def _until_end(t: Table, base: str) -> FloatArray:
    ended, tokens = t.seconds("end", "sent"), np.maximum(t["output_tokens"], 1).astype(float)
    if base == "tpot":
        return (ended - per_request(t)["ttft"]) / np.where(tokens > 1, tokens - 1, np.nan)
    return ended / tokens if base == "ntpot" else ended


def _per_token(v: View, base: str, statistic: str) -> Iterator[tuple[str, float, str]]:
    latency = per_request(v.ok)
    other = "itl" if base == "tpot" else "tpot"
    if statistic == "mean":
        tokens = np.where(v.ok["output_tokens"] == MISSING, 0, v.ok["output_tokens"])
        after = latency["e2e"] - latency["ttft"]
        good = np.isfinite(after) & (tokens > 1)
        if good.any():
            weighted = float(after[good].sum() / (tokens[good] - 1).sum())
            yield "token_weighted", weighted, "it weights by tokens, not by requests"
    gaps = v.gaps.ecdf()
    if other == "itl" and gaps is not None:
        counts = np.diff(gaps.upto, prepend=0)
        mean = float(gaps.values @ counts) / gaps.count
        yield "chunk_gaps", mean if statistic == "mean" else gaps.quantile(_LEVELS[statistic]), "it means chunk gaps"
    if other == "tpot":
        yield "per_token", _take(latency["tpot"], statistic), "it means the time per output token of each request"
    yield "e2e_per_token", _take(latency["ntpot"], statistic), "it divides the whole latency by all tokens"


def _rates(v: View, name: str) -> Iterator[tuple[str, float, str]]:
    """Totals over other stretches of time, and with other requests in them."""
    t = v.table
    good = t.status("ok")
    tokens = np.where(t["output_tokens"] == MISSING, t.chunks, t["output_tokens"]).astype(float)
    amount = tokens if name.startswith("output") else np.ones(len(t))
    sent, end = t["sent"][t.known("sent")], t["end"][t.known("end")]
    begun = (t["sent"] - np.where(t.known("connect"), t["connect"], 0))[t.known("sent")]
    if not len(sent) or not len(end):
        return
    span = (int(end.max()) - int(sent.min())) / 1e9
    sending = (int(sent.max()) - int(sent.min())) / 1e9
    whole = (int(end.max()) - int(begun.min())) / 1e9
    if span > 0:
        yield "whole_span", float(amount[good].sum()) / span, "it divides by the time from first request to last answer"
        yield "with_connect", float(amount[good].sum()) / whole, "it counts setting up the first connection in"
        yield "with_failed", float(amount.sum()) / span, "it counts failed requests, too"
    if sending > 0:
        yield "sending_span", float(amount[good].sum()) / sending, "it divides by the time in which requests were sent"
    seconds = (t["end"] - t["sent"])[good & t.known("end")] / 1e9
    own = amount[good & t.known("end")] / np.maximum(seconds, 1e-9)
    if name.startswith("output") and len(own):
        yield "per_request", float(own.mean()), "it is the mean of each request's own rate"
