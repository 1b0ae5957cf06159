"""Chunk gaps as counts: exact at 1 us, however many there are, and coarse ones by block of time for their limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..domain.records import Ragged
from ..domain.result import PERCENTILES, Absent, Distribution
from .percentiles import BLOCKS, TAIL, Ecdf, FloatArray, Ints, beyond, dependent, design_effect

BOUND_US = 1 << 20
"""Gaps under this (1.05 s) are counted in one array; longer ones, which are few, are kept by value."""
_EDGES = np.unique(np.concatenate([np.arange(1, 64), np.geomspace(64, BOUND_US, 1000).astype(np.int64)]))
_COARSE = np.searchsorted(_EDGES, np.arange(BOUND_US + 1), side="right").astype(np.int32)
_BINS = len(_EDGES) + 1


class GapCounts:
    """Counts of gaps in microseconds. Adding is commutative: the order of the parts does not matter.

    A request lies wholly in one block of time, so that a bootstrap of blocks respects dependence within a request and
    between requests that were near in time.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)
        self._long: list[Ints] = []
        self._blocks = np.zeros(BLOCKS * _BINS, np.int64)

    def add(self, gaps: npt.NDArray[np.int32], blocks: npt.NDArray[np.int32]) -> None:
        """Counts ``gaps`` (us, not negative), each in a block of time (0 to BLOCKS - 1)."""
        if not len(gaps):
            return
        clipped = gaps
        if int(gaps.max()) >= BOUND_US:
            self._long.append(gaps[gaps >= BOUND_US].astype(np.int64))
            clipped = np.minimum(gaps, BOUND_US)
        counts = np.bincount(clipped)[:BOUND_US]
        if len(counts) > len(self._counts):
            self._counts, counts = counts.astype(np.int64), self._counts
        self._counts[: len(counts)] += counts
        self._blocks += np.bincount(blocks * np.int32(_BINS) + _COARSE[clipped], minlength=len(self._blocks))

    def plus(self, other: GapCounts) -> GapCounts:
        """Both together; neither is changed."""
        both = GapCounts()
        both._counts = np.zeros(max(len(self._counts), len(other._counts)), np.int64)
        for part in (self, other):
            both._counts[: len(part._counts)] += part._counts
            both._long += part._long
            both._blocks += part._blocks
        return both

    def ecdf(self) -> Ecdf | None:
        """In seconds; None where nothing was counted."""
        used = np.flatnonzero(self._counts)
        long, many = np.unique(np.concatenate([np.zeros(0, np.int64), *self._long]), return_counts=True)
        values = np.concatenate([used, long]) / 1e6
        counts = np.concatenate([self._counts[used], many])
        return Ecdf(values, np.cumsum(counts)) if len(values) else None

    def distribution(self, absent: str) -> Distribution | Absent:
        ecdf = self.ecdf()
        if ecdf is None:
            return Absent(absent)
        counts = np.diff(ecdf.upto, prepend=0)
        n = ecdf.count
        mean = float(ecdf.values @ counts) / n
        sd = float(np.sqrt(((ecdf.values - mean) ** 2) @ counts / (n - 1))) if n > 1 else None
        effects = {name: self._effect(ecdf.quantile(level)) for name, level in PERCENTILES}
        limits = dependent(ecdf, effects)
        return Distribution("s", n, mean, sd, float(ecdf.values[0]), float(ecdf.values[-1]), limits, "block_bootstrap")

    def limits(self, level: float, tail: float) -> tuple[float, float] | None:
        """Limits of one percentile (seconds) that each miss it with probability ``tail``."""
        ecdf = self.ecdf()
        return None if ecdf is None else beyond(ecdf, level, self._effect(ecdf.quantile(level), tail), tail)

    def _effect(self, at: float, tail: float = TAIL) -> float:
        """Design effect at the coarse edge nearest above ``at`` (seconds) that some value is beyond."""
        table = self._blocks.reshape(BLOCKS, _BINS)
        upto: FloatArray = np.cumsum(table, axis=1).astype(float)
        sizes = upto[:, -1]
        column = int(_COARSE[min(round(at * 1e6), BOUND_US)])
        while column > 0 and upto[:, column].sum() == sizes.sum():
            column -= 1
        return design_effect(upto[:, column], sizes, tail)


def add_rows(
    counts: GapCounts, per_token: GapCounts, times: Ragged, tokens: Ragged, blocks: npt.NDArray[np.int32]
) -> None:
    """Counts the gaps of rows of chunk times; ``per_token``: divided by the later chunk's tokens, once a token."""
    lengths = times.lengths
    many = np.maximum(lengths - 1, 0)
    inside = _not_first(times)
    values = times.values[times.offsets[0] : times.offsets[-1]]
    gaps = np.maximum(np.diff(values, prepend=values[:1]), 0)[inside]
    counts.add(gaps, np.repeat(blocks, many))
    told = (tokens.lengths == lengths) & (lengths > 1)
    if not told.any():
        return
    rows = np.flatnonzero(told)
    each = np.maximum(tokens.take(rows).values[_not_first(tokens.take(rows))], 1)
    own = gaps[np.repeat(told, many)]
    per_token.add(
        np.repeat(np.rint(own / each).astype(np.int32), each), np.repeat(np.repeat(blocks[rows], many[rows]), each)
    )


def _not_first(rows: Ragged) -> npt.NDArray[np.bool_]:
    """Of every value, whether it is not the first of its row."""
    inside = np.ones(int(rows.offsets[-1] - rows.offsets[0]), np.bool_)
    inside[(rows.offsets[:-1] - rows.offsets[0])[rows.lengths > 0]] = False
    return inside
