"""A stage's window, and what a stage source is told of the stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    """The window starts after the warm-up and ends before the cool-down; of a stage that a number of requests
    bounds, the load ends just after its last completion, which is inside."""
    load_end, end = max(d.load_end for d in done), max(d.end for d in done)
    reasons = {d.reason for d in done}
    reason = "interrupted" if "interrupted" in reasons else "exhausted" if "exhausted" in reasons else "duration"
    window_start = start + int(stage.warmup_s * 1e9)
    cooldown = int(stage.cooldown_s * 1e9)
    if reason == "duration" and stage.duration_s is not None:
        window_end = window_start + int(stage.duration_s * 1e9)
    elif reason == "interrupted":
        planned = start + int((stage.warmup_s + stage.duration_s) * 1e9) if stage.duration_s else load_end
        window_end = min(planned, load_end)
    else:
        completed = max((d.last_end + 1 for d in done if d.last_end is not None), default=load_end)
        end = max(end, completed)
        window_end = completed - cooldown
    if reason == "exhausted" and stage.num_requests is not None:
        reason = "requests"
    return StageTimes(start, load_end, end, window_start, max(window_start, window_end), reason)


class OutcomeMeter:
    """Keeps what an adaptive stage source needs of a stage's records: a few numbers a request."""

    _COLUMNS = ("sent", "ready", "first_token", "last_token", "end", "output_tokens", "turn")

    def __init__(self) -> None:
        self._parts: list[dict[str, IntArray]] = []
        self._ok: list[np.ndarray] = []

    def add(self, records: Records) -> None:
        self._parts.append({name: records.ints(name) for name in self._COLUMNS})
        self._ok.append(records.labels("status").is_(Status.OK))

    def outcome(
        self, stage: Stage, times: StageTimes, limits: Mapping[str, float], *, delay_limit_s: float
    ) -> StageOutcome:
        """The outcome over the window. ``times`` on the clock of the records."""
        column = {n: np.concatenate([p[n] for p in self._parts] or [np.empty(0, np.int64)]) for n in self._COLUMNS}
        ok = np.concatenate(self._ok or [np.empty(0, np.bool_)])
        seconds = max(1, times.window_end - times.window_start) / 1e9
        ended = ok & _inside(column["end"], times)
        sent = _inside(column["sent"], times)
        good = ok & sent
        ttft = _seconds(column["first_token"], column["sent"])
        e2e = _seconds(column["last_token"], column["sent"])
        delay = (column["sent"] - column["ready"]) / 1e9
        tokens = np.where(column["output_tokens"] == MISSING, 0, column["output_tokens"])
        return StageOutcome(
            stage=stage,
            sent=len(ok),
            succeeded=int(ok.sum()),
            failed=int((~ok).sum()),
            seconds=seconds,
            requests_per_second=float(ended.sum()) / seconds,
            output_tokens_per_second=float(tokens[ended].sum()) / seconds,
            goodput=float((ended & _meets(column, ttft, e2e, limits)).sum()) / seconds if limits else None,
            ttft_p50=_quantile(ttft[good], 0.5),
            ttft_p99=_quantile(ttft[good], 0.99),
            e2e_p50=_quantile(e2e[good], 0.5),
            turns=len(ok) / max(1, int((column["turn"] == 0).sum())),
            client_limited=_client_limited(delay[sent], delay_limit_s),
        )


def _client_limited(delays: np.ndarray, limit_s: float) -> bool:
    """Whether more than 1 % of the requests left late, beyond what three standard errors and one straggler explain."""
    allowed: float = 0.01 * len(delays)
    late = int((delays > limit_s).sum())
    return late > allowed + 3.0 * math.sqrt(allowed) + 1


def _inside(times: IntArray, window: StageTimes) -> np.ndarray:
    return (times >= window.window_start) & (times < window.window_end)


def _seconds(later: IntArray, earlier: IntArray) -> np.ndarray:
    return np.where((later == MISSING) | (earlier == MISSING), np.nan, (later - earlier) / 1e9)


def _quantile(values: np.ndarray, q: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, q)) if len(known) else None


def _meets(
    column: Mapping[str, IntArray],
    ttft: np.ndarray,
    e2e: np.ndarray,
    limits: Mapping[str, float],
) -> np.ndarray:
    """Which requests met every limit; one that lacks a limited metric did not."""
    tokens = np.where(column["output_tokens"] > 0, column["output_tokens"], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {"ttft": ttft, "e2e": e2e, "ntpot": e2e / tokens, "tpot": (e2e - ttft) / (tokens - 1)}
        values["itl"] = values["tpot"]
        met = np.ones(len(ttft), np.bool_)
        for name, limit in limits.items():
            met &= values[name] <= limit
    return met
