"""What calibration takes from a run: for each stage the requests in order, and what the client saw of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ...analyze.api import RunInput
from ...analyze.windows import StageWindow, stage_windows
from ...domain.errors import ConfigError
from ...domain.records import MISSING, IntArray, Records
from ..api import FloatArray

_S = 1e9


@dataclass(frozen=True, slots=True)
class Performance:
    """What is predicted of a level.

    Attributes:
        throughput: output tokens per second that arrived in the window.
        ttft: median seconds from sent to first token, of requests sent in the window.
        tpot: median seconds per further token, likewise.
    """

    throughput: float
    ttft: float
    tpot: float


@dataclass(frozen=True, slots=True)
class Level:
    """One stage of one run: its n requests that were answered, in the order they were sent. Times in s after its start.

    Attributes:
        label: the offered load; stages with the same label are one level.
        concurrency: users of a closed loop; None for an open loop.
        window: the measured window.
        sent: shape (n,).
        prompt: prompt tokens that had to be computed, shape (n,).
        output: output tokens, shape (n,).
        chunks: arrival of each content chunk of each request.
    """

    label: str
    run_id: str
    concurrency: int | None
    window: tuple[float, float]
    sent: FloatArray
    prompt: IntArray
    output: IntArray
    chunks: Sequence[FloatArray]

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def in_flight(self) -> float:
        """Requests at the server, on average over the time from the first one sent to the last one answered."""
        last = np.array([c[-1] for c in self.chunks])
        return float(np.sum(last - self.sent) / (last.max() - self.sent[0]))

    @property
    def measured(self) -> Performance | None:
        return performance(self.sent, self.output, self.chunks, self.window)


def performance(
    sent: FloatArray, output: IntArray, chunks: Sequence[FloatArray], window: tuple[float, float]
) -> Performance | None:
    """Throughput and latencies by the definitions of docs/metrics.md; None where the window holds none."""
    start, end = window
    inside = [i for i in range(len(sent)) if start <= sent[i] < end]
    more = [i for i in inside if output[i] > 1 and chunks[i][-1] > chunks[i][0]]
    tokens = sum(
        output[i] * (np.searchsorted(c, end) - np.searchsorted(c, start)) / len(c) for i, c in enumerate(chunks)
    )
    if not more or not tokens:
        return None
    return Performance(
        throughput=float(tokens / (end - start)),
        ttft=float(np.median([chunks[i][0] - sent[i] for i in inside])),
        tpot=float(np.median([(chunks[i][-1] - chunks[i][0]) / (output[i] - 1) for i in more])),
    )


def levels_of(run: RunInput) -> list[Level]:
    """The stages of a run that were streamed and answered.

    Raises:
        ConfigError: a stage was not streamed, or less than nine tenths of its requests were answered.
    """
    records = Records.concat(list(run.parts()))
    levels = []
    for window in stage_windows(run):
        of_stage = records.where(records.ints("stage") == window.index)
        if len(of_stage):
            levels.append(_level(run.run_id, window, of_stage))
    return levels


def _level(run_id: str, window: StageWindow, records: Records) -> Level:
    label = str(window.plan.get("label") or window.plan.get("name") or f"stage {window.index}")
    if not records.bools("streaming").all():
        raise ConfigError(
            f"run {run_id}, stage {label}: its answers were not streamed, so no token but the last has a time",
            advice="measure again with streaming: true",
        )
    answered = _answered(records)
    if answered.sum() < 0.9 * len(records):
        raise ConfigError(
            f"run {run_id}, stage {label}: only {answered.sum()} of {len(records)} requests were answered with counted "
            "tokens; what the others cost the server is unknown",
            advice="leave the run out, or measure again with a load that the server answers",
        )
    kept = records.where(answered)
    order = np.argsort(kept.ints("sent"), kind="stable")
    origin = int(kept.ints("sent")[order[0]])
    sent = (kept.ints("sent")[order] - origin) / _S
    times = kept.ragged("chunk_times")
    cached = kept.ints("cached_tokens")[order]
    prompt = kept.ints("input_tokens")[order] - np.where(cached == MISSING, 0, cached)
    return Level(
        label=label,
        run_id=run_id,
        concurrency=None if window.open_loop else window.concurrency,
        window=((window.start - origin) / _S, (window.end - origin) / _S),
        sent=sent,
        prompt=np.maximum(prompt, 1),
        output=kept.ints("output_tokens")[order],
        chunks=[at + times.row(i) / 1e6 for at, i in zip(sent, order, strict=True)],
    )


def _answered(records: Records) -> npt.NDArray[np.bool_]:
    counted = (records.ints("input_tokens") != MISSING) & (records.ints("output_tokens") > 0)
    timed = records.ragged("chunk_times").lengths > 0
    return cast(npt.NDArray[np.bool_], records.labels("status").is_("ok") & counted & timed)


def grouped(levels: Iterable[Level]) -> dict[str, list[Level]]:
    """Levels by label, in order."""
    groups: dict[str, list[Level]] = {}
    for level in levels:
        groups.setdefault(level.label, []).append(level)
    return groups
