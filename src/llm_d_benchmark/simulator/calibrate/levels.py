"""What calibration takes from a run: for each stage the requests in order, and what the client saw of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
        prompt: prompt tokens, shape (n,).
        cached: those of them that were in the KV cache already, shape (n,); at least one is always computed.
        output: output tokens, shape (n,).
        chunks: arrival of each content chunk of each request.
        session: number of the conversation that a request is a turn of, shape (n,).
        counted: its load ended when all its requests were sent, and its window when they were answered.
        cache_told: the server said how many prompt tokens were cached.
    """

    label: str
    run_id: str
    concurrency: int | None
    window: tuple[float, float]
    sent: FloatArray
    prompt: IntArray
    cached: IntArray
    output: IntArray
    chunks: Sequence[FloatArray]
    session: IntArray
    counted: bool = False
    cache_told: bool = True

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def in_flight(self) -> float:
        """Requests at the server, on average over the time from the first one sent to the last one answered."""
        last = self.last
        return float(np.sum(last - self.sent) / (last.max() - self.sent[0]))

    @property
    def last(self) -> FloatArray:
        """Arrival of each request's last token, shape (n,)."""
        return np.array([c[-1] for c in self.chunks])

    @property
    def computed(self) -> IntArray:
        """Prompt tokens that had to be computed, shape (n,)."""
        return self.prompt - self.cached

    @property
    def sessions(self) -> list[IntArray]:
        """The requests of each session in order, by the session's first one."""
        _, number = np.unique(self.session, return_inverse=True)
        order = np.argsort(number, kind="stable")
        rows = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
        return sorted(rows, key=lambda of_session: int(of_session[0]))

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
        ConfigError: a stage was not streamed, or of less than nine tenths of its requests the answer, its tokens and
            their times are known.
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
    kept = records.where(_usable(f"run {run_id}, stage {label}", window.generator, records))
    order = np.argsort(kept.ints("sent"), kind="stable")
    origin = int(kept.ints("sent")[order[0]])
    sent = (kept.ints("sent")[order] - origin) / _S
    times = kept.ragged("chunk_times")
    prompt = np.maximum(kept.ints("input_tokens")[order], 1)
    cached = kept.ints("cached_tokens")[order]
    session = kept.ints("session")[order]
    return Level(
        label=label,
        run_id=run_id,
        concurrency=None if window.open_loop else window.concurrency,
        window=((window.start - origin) / _S, (window.end - origin) / _S),
        sent=sent,
        prompt=prompt,
        cached=np.clip(cached, 0, prompt - 1),  # what was not told is below 0
        output=kept.ints("output_tokens")[order],
        chunks=[at + times.row(i) / 1e6 for at, i in zip(sent, order, strict=True)],
        session=np.where(session == MISSING, -1 - np.arange(len(session)), session),
        counted=window.reason in ("requests", "exhausted"),
        cache_told=bool((cached != MISSING).any()),
    )


def _usable(where: str, generator: str, records: Records) -> npt.NDArray[np.bool_]:
    """The requests of which everything that is needed is known; an error where these are too few."""
    if not records.bools("streaming").all():
        raise ConfigError(
            f"{where}: its answers were not streamed, so no token but the last has a time",
            advice="measure again with streaming: true",
        )
    needs = (
        (
            records.labels("status").is_("ok"),
            "were answered; what the others cost the server is unknown",
            "leave the run out, or measure again with a load that the server answers",
        ),
        (
            (records.ints("input_tokens") != MISSING) & (records.ints("output_tokens") > 0),
            "were answered with counted tokens",
            "measure a server that sends usage, or give the load generator its tokenizer",
        ),
        (
            records.ragged("chunk_times").lengths > 0,
            f"have the times at which their tokens arrived: {generator} did not tell them",
            "measure with a load generator that keeps them, such as native",
        ),
    )
    usable = np.ones(len(records), np.bool_)
    for known, what, advice in needs:
        usable &= known
        if usable.sum() < 0.9 * len(records):
            raise ConfigError(f"{where}: only {usable.sum()} of {len(records)} requests {what}", advice=advice)
    return usable


def grouped(levels: Iterable[Level]) -> dict[str, list[Level]]:
    """Levels by label, in order."""
    groups: dict[str, list[Level]] = {}
    for level in levels:
        groups.setdefault(level.label, []).append(level)
    return groups
