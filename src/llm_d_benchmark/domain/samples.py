"""Time series of a run, as collectors saw them: batches of samples in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class SeriesKind(StrEnum):
    """What a series' values are: a level, or a total that only grows until its process starts anew."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Series:
    """One series.

    Attributes:
        source: who was asked: ``host``, or the URL of a metrics endpoint without secrets.
        metric: name as the source has it; a histogram is ``NAME_bucket`` (label ``le``), ``NAME_sum``, ``NAME_count``.
        labels: sorted by name.
    """

    source: str
    metric: str
    labels: tuple[tuple[str, str], ...] = ()
    kind: SeriesKind = SeriesKind.GAUGE


@dataclass(frozen=True, slots=True)
class Samples:
    """n samples: ``times`` (n,) int64 epoch ns by this machine's clock, ``values`` (n,) float64, ``codes`` (n,) int32
    into ``series``."""

    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int32]
    series: tuple[Series, ...]

    def __len__(self) -> int:
        return len(self.times)

    def of(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Times and values of one series, by time."""
        mine = np.flatnonzero(self.codes == index)
        order = mine[np.argsort(self.times[mine], kind="stable")]
        return self.times[order], self.values[order]

    @staticmethod
    def from_rows(rows: Iterable[tuple[int, Series, float]]) -> Samples:
        """From (time, series, value)."""
        index: dict[Series, int] = {}
        data = [(time, value, index.setdefault(series, len(index))) for time, series, value in rows]
        times, values, codes = zip(*data, strict=True) if data else ((), (), ())
        return Samples(
            np.asarray(times, np.int64), np.asarray(values, np.float64), np.asarray(codes, np.int32), tuple(index)
        )

    @staticmethod
    def concat(parts: Sequence[Samples]) -> Samples:
        """All samples, each series once."""
        index: dict[Series, int] = {}
        codes = []
        for part in parts:
            table = np.asarray([index.setdefault(s, len(index)) for s in part.series], np.int32)
            codes.append(table[part.codes] if len(part) else part.codes)
        if not parts:
            return Samples.from_rows([])
        return Samples(
            np.concatenate([p.times for p in parts]),
            np.concatenate([p.values for p in parts]),
            np.concatenate(codes),
            tuple(index),
        )
