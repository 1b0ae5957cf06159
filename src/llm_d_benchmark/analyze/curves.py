"""What the figures need: quantiles, histograms and the timeline of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.latencies import per_request
from .api import RunInput
from .gather import StageData, Table, gather
from .metrics import view
from .percentiles import Ecdf, FloatArray

LEVELS = 201
BINS = 60


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts[i]`` values fell between ``edges[i]`` and ``edges[i + 1]`` (seconds); the last 0.5 % are left out."""

    edges: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Counts of consecutive seconds from ``start`` (epoch ns); ``in_flight`` is the mean over each second."""

    start: int
    sent: Sequence[float]
    succeeded: Sequence[float]
    failed: Sequence[float]
    in_flight: Sequence[float]


@dataclass(frozen=True, slots=True)
class StageCurves:
    """The curves of one stage. ``quantiles`` and ``histograms`` are by metric (ttft, tpot, itl, e2e) in seconds;
    quantiles at 201 evenly spaced levels from 0 to 1. A metric without values is left out."""

    stage: int
    quantiles: Mapping[str, Sequence[float]]
    histograms: Mapping[str, Histogram]
    timeline: Timeline


def curves(run: RunInput) -> list[StageCurves]:
    """The curves of every stage, in order."""
    return [curves_of(data) for data in gather(run)]


def curves_of(data: StageData) -> StageCurves:
    """The curves of one stage."""
    v = view(data, {})
    found: dict[str, Ecdf] = {}
    for name, values in per_request(v.ok).items():
        finite = values[np.isfinite(values)]
        if name in ("ttft", "tpot", "e2e") and len(finite):
            found[name] = Ecdf.of(finite)
    gaps = v.gaps.ecdf()
    if gaps:
        found["itl"] = gaps
    levels = np.linspace(0, 1, LEVELS)
    return StageCurves(
        data.window.index,
        {name: ecdf.quantiles(levels) for name, ecdf in found.items()},
        {name: _histogram(ecdf) for name, ecdf in found.items()},
        _timeline(data.table),
    )


def _histogram(ecdf: Ecdf) -> Histogram:
    low, high = float(ecdf.values[0]), ecdf.quantile(0.995)
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    counts, _ = np.histogram(ecdf.values, edges, weights=np.diff(ecdf.upto, prepend=0))
    return Histogram([float(e) for e in edges], [int(c) for c in counts])


def _timeline(table: Table) -> Timeline:
    known = table.known("sent")
    if not known.any():
        return Timeline(0, [], [], [], [])
    sent = table["sent"][known]
    start = int(sent.min())
    ends = np.where(table.known("end"), table["end"], sent.max() if len(sent) else 0)[known]
    seconds = int((max(int(ends.max()), int(sent.max())) - start) // 1_000_000_000) + 1
    begun, ended = (sent - start) / 1e9, (ends - start) / 1e9

    def per_second(times: FloatArray) -> list[float]:
        return [float(c) for c in np.bincount(times.astype(np.int64), minlength=seconds)]

    edges = np.arange(seconds + 1, dtype=float)
    area = _area(begun, edges) - _area(ended, edges)
    ok, failed = table.status("ok")[known], table.status("failed")[known]
    in_flight = [float(x) for x in np.maximum(np.diff(area), 0)]
    return Timeline(start, per_second(begun), per_second(ended[ok]), per_second(ended[failed]), in_flight)


def _area(times: FloatArray, edges: FloatArray) -> FloatArray:
    """For each edge, the time since every one of ``times`` before it, summed."""
    ordered = np.sort(times)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    n = np.searchsorted(ordered, edges)
    found: FloatArray = n * edges - sums[n]
    return found
