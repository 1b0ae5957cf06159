"""One pass over the records: request columns kept whole, chunk times reduced to counts at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..domain.latencies import seconds_between, turns_a_session
from ..domain.records import MISSING, IntArray, Labels, Records
from .api import RunInput
from .gaps import GapCounts, add_rows
from .percentiles import BLOCKS, FloatArray
from .windows import StageWindow, stage_windows

BoolArray = npt.NDArray[np.bool_]
_INTS = (
    "request_id", "scheduled", "ready", "sent", "first_token", "last_token", "end", "connect", "input_tokens",
    "input_asked", "output_tokens", "output_asked", "cached_tokens", "turn",
)  # fmt: skip
_LABELS = ("model", "status", "error_class", "input_source", "output_source")


@dataclass(frozen=True, slots=True)
class Table:
    """Requests in the order of sending. ``chunks``: content chunks of each; ``tokens_inside``: its output tokens
    inside the window (one a chunk where the server did not count them)."""

    ints: Mapping[str, IntArray]
    labels: Mapping[str, Labels]
    streaming: BoolArray
    chunks: IntArray
    tokens_inside: FloatArray

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, name: str) -> IntArray:
        return self.ints[name]

    def known(self, name: str) -> BoolArray:
        found: BoolArray = self.ints[name] != MISSING
        return found

    def status(self, name: str) -> BoolArray:
        return self.labels["status"].is_(name)

    def seconds(self, later: str, earlier: str) -> FloatArray:
        """``later - earlier`` in seconds, NaN where either was not observed."""
        return seconds_between(self.ints[later], self.ints[earlier])

    def within(self, name: str, start: int, end: int) -> BoolArray:
        """Where the time ``name`` was observed and is in [start, end)."""
        found: BoolArray = (self.ints[name] >= start) & (self.ints[name] < end)
        return found

    def take(self, index: IntArray) -> Table:
        return Table(
            {k: v[index] for k, v in self.ints.items()},
            {k: v.take(index) for k, v in self.labels.items()},
            self.streaming[index],
            self.chunks[index],
            self.tokens_inside[index],
        )

    def where(self, mask: BoolArray) -> Table:
        return self.take(np.flatnonzero(mask))

    @staticmethod
    def concat(parts: list[Table]) -> Table:
        none = [np.zeros(0, np.int64)]
        return Table(
            {n: np.concatenate([p.ints[n] for p in parts] or none) for n in _INTS},
            {n: Labels.concat([p.labels[n] for p in parts]) for n in _LABELS},
            np.concatenate([p.streaming for p in parts] or [np.zeros(0, np.bool_)]),
            np.concatenate([p.chunks for p in parts] or none),
            np.concatenate([p.tokens_inside for p in parts] or [np.zeros(0)]),
        )


@dataclass(slots=True)
class StageData:
    """Everything the metrics of one stage need. ``gaps`` and ``gaps_per_token`` are by model."""

    window: StageWindow
    table: Table
    gaps: dict[str, GapCounts] = field(default_factory=dict)
    gaps_per_token: dict[str, GapCounts] = field(default_factory=dict)

    @property
    def turns(self) -> float:
        """Requests of a session, on average."""
        return turns_a_session(self.table["turn"])


def gather(run: RunInput) -> list[StageData]:
    """The data of every stage, in order. Reads the records once (twice where a stage has no end)."""
    windows = stage_windows(run)
    stages = {w.index: StageData(w, Table.concat([])) for w in windows}
    tables: dict[int, list[Table]] = {w.index: [] for w in windows}
    for part in run.parts():
        index = part.ints("stage")
        for number in np.unique(index).tolist():
            if number not in stages:
                continue
            mine = index == number
            rows = part if mine.all() else part.where(mine)
            _count_gaps(rows, stages[number])
            tables[number].append(_table(rows, stages[number].window))
    for number, data in stages.items():
        table = Table.concat(tables.pop(number))
        data.table = table.take(np.lexsort((table["request_id"], table["sent"])))
    return list(stages.values())


def _table(rows: Records, window: StageWindow) -> Table:
    chunks = rows.ragged("chunk_times").lengths
    return Table(
        {n: rows.ints(n) for n in _INTS},
        {n: rows.labels(n) for n in _LABELS},
        rows.bools("streaming"),
        chunks,
        _tokens_inside(rows, chunks, window),
    )


def _count_gaps(rows: Records, data: StageData) -> None:
    """Counts the gaps of successful requests sent inside the window."""
    w, sent = data.window, rows.ints("sent")
    good = (sent >= w.start) & (sent < w.end) & rows.labels("status").is_("ok") & rows.bools("streaming")
    models = rows.labels("model")
    for code in np.unique(models.codes[good]).tolist():
        name = models.names[code] if code >= 0 else ""
        mask = good & (models.codes == code)
        index = np.flatnonzero(mask)
        times, tokens = rows.ragged("chunk_times"), rows.ragged("chunk_tokens")
        if not mask.all():
            times, tokens = times.take(index), tokens.take(index)
        blocks = ((sent[index] - w.start) / (w.end - w.start) * BLOCKS).astype(np.int32)
        add_rows(
            data.gaps.setdefault(name, GapCounts()),
            data.gaps_per_token.setdefault(name, GapCounts()),
            times,
            tokens,
            np.minimum(blocks, BLOCKS - 1),
        )


def _tokens_inside(rows: Records, chunks: IntArray, window: StageWindow) -> FloatArray:
    """Output tokens of each request inside the window: of a stream by its chunks, or evenly from its first token to its
    last where a tool kept only those; else all at its end."""
    counted = rows.ints("output_tokens")
    total = np.where(counted == MISSING, chunks, counted).astype(float)
    sent, last, end = rows.ints("sent"), rows.ints("last_token"), rows.ints("end")
    first = rows.ints("first_token")
    spread = rows.bools("streaming") & (chunks == 0) & (first != MISSING) & (last > first)
    streamed = spread | (rows.bools("streaming") & (chunks > 0))
    whole = streamed & (sent >= window.start) & (last != MISSING) & (last < window.end)
    whole |= ~streamed & (end >= window.start) & (end < window.end)
    inside = np.where(whole, total, 0.0)
    part = np.minimum(last, window.end) - np.maximum(first, window.start)
    some = spread & ~whole & (part > 0)
    inside[some] = (total * part)[some] / (last - first)[some]
    touches = streamed & ~spread & ~whole & (sent < window.end) & ((last == MISSING) | (last >= window.start))
    index = np.flatnonzero(touches)
    if len(index):
        inside[index] = total[index] * _share_inside(rows, index, window)
    return inside


def _share_inside(rows: Records, index: IntArray, window: StageWindow) -> FloatArray:
    """Of these rows, the share of their tokens (or chunks) that arrived inside the window."""
    times, tokens = rows.ragged("chunk_times").take(index), rows.ragged("chunk_tokens").take(index)
    owner = np.repeat(np.arange(len(index)), times.lengths)
    at = np.repeat(rows.ints("sent")[index], times.lengths) + times.values.astype(np.int64) * 1000
    weights = np.ones(len(at))
    told = tokens.lengths == times.lengths
    weights[np.repeat(told, times.lengths)] = tokens.values[np.repeat(told, tokens.lengths)]
    hit = (at >= window.start) & (at < window.end)
    total = np.bincount(owner, weights, len(index))
    return np.bincount(owner, weights * hit, len(index)) / np.where(total > 0, total, 1.0)
