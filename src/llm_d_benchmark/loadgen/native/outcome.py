"""A stage's window, and what a stage source is told of the stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...domain.latencies import BoolArray, met, per_request, turns_a_session, unseen
from ...domain.records import MISSING, IntArray, Records, Status
from ...domain.schedule import Stage, StageOutcome
from .wire import StageDone


@dataclass(frozen=True, slots=True)
class StageTimes:
    """When a stage's load and window began and ended (one clock, ns), and why the load ended."""

    start: int
    load_end: int
    end: int
    window_start: int
    window_end: int
    reason: str

    def shifted(self, offset: int) -> StageTimes:
        return StageTimes(*(getattr(self, f) + offset for f in self.__slots__[:-1]), reason=self.reason)  # type: ignore[misc]

    def to_dict(self) -> dict[str, int | str]:
        return {f: getattr(self, f) for f in self.__slots__}


def stage_times(stage: Stage, start: int, done: Sequence[StageDone]) -> StageTimes:
    """The window starts after the warm-up and ends before the cool-down. The load of a stage that a number of requests
    bounds, or whose workload runs out, ends just after its last completion, which is inside; but a workload that runs
    out makes no window longer than planned."""
    load_end, end = max(d.load_end for d in done), max(d.end for d in done)
    reasons = {d.reason for d in done}
    reason = "interrupted" if "interrupted" in reasons else "exhausted" if "exhausted" in reasons else "duration"
    window_start = start + int(stage.warmup_s * 1e9)
    cooldown = int(stage.cooldown_s * 1e9)
    planned = None if stage.duration_s is None else window_start + int(stage.duration_s * 1e9)
    if reason == "duration" and planned is not None:
        window_end = planned
    elif reason == "interrupted":
        window_end = load_end if planned is None else min(planned, load_end)
    else:
        completed = max((d.last_end + 1 for d in done if d.last_end is not None), default=load_end)
        end = max(end, completed)
        window_end = completed - cooldown
        if planned is not None and stage.num_requests is None:
            window_end = min(planned, window_end)
    if reason == "exhausted" and stage.num_requests is not None:
        reason = "requests"
    return StageTimes(start, load_end, end, window_start, max(window_start, window_end), reason)


@dataclass(frozen=True, slots=True)
class _Requests:
    """What is kept of some requests (``domain.latencies.Requests``)."""

    ints: Mapping[str, IntArray]
    streaming: BoolArray
    chunks: IntArray
    ok: BoolArray
    failed: BoolArray

    def __getitem__(self, name: str) -> IntArray:
        return self.ints[name]


class OutcomeMeter:
    """Keeps what an adaptive stage source needs of a stage's records: a few numbers a request."""

    _COLUMNS = ("scheduled", "sent", "ready", "first_token", "last_token", "end", "output_tokens", "turn")

    def __init__(self) -> None:
        self._parts = [_kept(Records.from_rows([]), self._COLUMNS)]

    def add(self, records: Records) -> None:
        self._parts.append(_kept(records, self._COLUMNS))

    def outcome(
        self, stage: Stage, times: StageTimes, limits: Mapping[str, float], *, delay_limit_s: float
    ) -> StageOutcome:
        """The outcome over the window. ``times`` on the clock of the records."""
        r = _joined(self._parts)
        seconds = max(1, times.window_end - times.window_start) / 1e9
        ended = r.ok & _inside(r["end"], times)
        sent = _inside(r["sent"], times)
        latency = per_request(r)
        ttft, e2e = latency["ttft"][r.ok & sent], latency["e2e"][r.ok & sent]
        tokens = np.where(r["output_tokens"] == MISSING, 0, r["output_tokens"])
        return StageOutcome(
            stage=stage,
            sent=int(sent.sum()),
            succeeded=int((r.ok & sent).sum()),
            failed=int((r.failed & sent).sum()),
            seconds=seconds,
            requests_per_second=float(ended.sum()) / seconds,
            output_tokens_per_second=float(tokens[ended].sum()) / seconds,
            goodput=float((ended & met(r, limits)).sum()) / seconds if limits and not unseen(r, limits) else None,
            ttft_p50=_quantile(ttft, 0.5),
            ttft_p99=_quantile(ttft, 0.99),
            e2e_p50=_quantile(e2e, 0.5),
            turns=turns_a_session(r["turn"]),
            client_limited=_client_limited((r["sent"] - r["ready"])[sent] / 1e9, delay_limit_s),
        )


def _kept(records: Records, columns: Sequence[str]) -> _Requests:
    return _Requests(
        {name: records.ints(name) for name in columns},
        records.bools("streaming"),
        records.ragged("chunk_times").lengths,
        records.labels("status").is_(Status.OK),
        records.labels("status").is_(Status.FAILED),
    )


def _joined(parts: Sequence[_Requests]) -> _Requests:
    return _Requests(
        {name: np.concatenate([p[name] for p in parts]) for name in parts[0].ints},
        np.concatenate([p.streaming for p in parts]),
        np.concatenate([p.chunks for p in parts]),
        np.concatenate([p.ok for p in parts]),
        np.concatenate([p.failed for p in parts]),
    )


def _client_limited(delays: np.ndarray, limit_s: float) -> bool:
    """Whether more than 1 % of the requests left late, beyond what three standard errors and one straggler explain."""
    allowed: float = 0.01 * len(delays)
    late = int((delays > limit_s).sum())
    return late > allowed + 3.0 * math.sqrt(allowed) + 1


def _inside(times: IntArray, window: StageTimes) -> np.ndarray:
    return (times >= window.window_start) & (times < window.window_end)


def _quantile(values: np.ndarray, q: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, q)) if len(known) else None
