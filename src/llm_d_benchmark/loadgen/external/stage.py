"""From what a tool left of a stage to the run's numbering, times and events, and to what was not as asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...config.load import Length
from ...domain.events import Event, EventType, Finding, Severity
from ...domain.records import MISSING, IntArray, Labels, Records, Status
from ...domain.schedule import Load, Shard, Stage
from ...workload.lengths import moments
from ...workload.replay import STAGE_IDS
from ..native.feeder import streams
from ..native.outcome import StageTimes
from .api import NativeStage
from .plan import label

_S = 1_000_000_000
BATCH = 50_000
ENOUGH = 0.9
"""Part of the requests or of the time asked for below which a stage counts as cut short."""

CHANCE = 4.0
"""Standard errors that chance does not reach."""
AS_ASKED = 0.05
"""Part of a length by which its mean may be off for the run to be as asked for."""


def share(stage: Stage, shard: Shard) -> Stage:
    """This machine's part of a stage: its streams, its part of the rate and of the requests.

    Raises:
        ConfigError: it would have no stream.
    """
    if shard.count == 1:
        return stage
    load = stage.load
    part = replace(
        load,
        rate=None if load.rate is None else load.rate * shard.fraction(load.concurrency),
        concurrency=streams(load, shard),
    )
    count = None if stage.num_requests is None else max(1, shard.sessions(stage.num_requests, load.concurrency))
    return replace(stage, load=part, num_requests=count)


def numbered(records: Records, stage: Stage, shard: Shard, model: str | None) -> Records:
    """Records in order of sending, with the numbers of this run: request ids unique over stages and shards."""
    order = np.argsort(records.ints("sent"), kind="stable")
    columns = {k: v.take(order) if not isinstance(v, np.ndarray) else v[order] for k, v in records.columns.items()}
    n = len(order)
    first = stage.index * STAGE_IDS + shard.index
    columns["request_id"] = ids = first + shard.count * np.arange(n, dtype=np.int64)
    columns["stage"] = np.full(n, stage.index, np.int64)
    columns["shard"] = np.full(n, shard.index, np.int64)
    session = columns["session"]
    assert isinstance(session, np.ndarray)
    columns["session"] = np.where(session == MISSING, ids, first + shard.count * session)
    for name, value in (("turn", 0), ("worker", 0), ("attempts", 1)):
        given = columns[name]
        assert isinstance(given, np.ndarray)
        columns[name] = np.where(given == MISSING, value, given)
    if model is not None:
        asked = columns["model"]
        assert isinstance(asked, Labels)
        if (asked.codes < 0).all():
            columns["model"] = Labels(np.zeros(n, np.int32), (model,))
    return Records(columns)


def with_lengths(records: Records, asked: Mapping[str, Length]) -> Records:
    """The records with the lengths that the tool was asked for, by side, where it does not keep them itself.

    Of a distribution the mean stands for what was asked of every request. It is left open where chance alone can take
    the mean of so few requests as far from it as was found, and further than anybody would call as asked for.
    """
    columns = dict(records.columns)
    good = records.labels("status").is_(Status.OK)
    for side, length in asked.items():
        told, got, known = records.ints(f"{side}_asked"), records.ints(f"{side}_tokens"), moments(length)
        got = got[good & (got != MISSING)]
        if known is None or not len(got):
            continue
        mean, sd = known
        chance = CHANCE * sd / math.sqrt(len(got))
        if chance <= max(AS_ASKED * mean, abs(float(got.mean()) - mean)):
            whole = np.diff(np.rint(mean * np.arange(len(told) + 1))).astype(np.int64)  # whose mean is that one
            columns[f"{side}_asked"] = np.where(told == MISSING, whole, told)
    return Records(columns)


def with_template(records: Records, tokens: int) -> Records:
    """The records of a tool that was asked for ``tokens`` fewer, with the prompt lengths that were asked for."""
    asked = records.ints("input_asked")
    if tokens == 0 or not len(records):
        return records
    return Records({**records.columns, "input_asked": np.where(asked == MISSING, MISSING, asked + tokens)})


def times_of(stage: Stage, records: Records, *, window: tuple[int, int] | None, cut: bool, fallback: int) -> StageTimes:
    """When the load and the window began and ended (epoch ns).

    Args:
        window: what the tool says of its own measurement: its start is when the load began.
        cut: the stage was ended early.
        fallback: epoch ns of the stage's start where no request was sent.
    """
    sent, end = _known(records.ints("sent")), _known(records.ints("end"))
    start = window[0] if window is not None else int(sent.min()) if len(sent) else fallback
    start = min(start, int(sent.min())) if len(sent) else start
    load_end = int(sent.max()) + 1 if len(sent) else start
    last = max(load_end, int(end.max()) + 1 if len(end) else load_end)
    window_start = start + round(stage.warmup_s * _S)
    full = stage.num_requests is not None and len(records) >= stage.num_requests
    if stage.duration_s is not None and not full:
        window_end = window_start + round(stage.duration_s * _S)
        window_end = min(window_end, load_end) if cut else window_end
        reason = "duration"
    else:
        window_end = last - round(stage.cooldown_s * _S)
        reason = "requests"
    return StageTimes(
        start, load_end, last, window_start, max(window_start, window_end), "interrupted" if cut else reason
    )


def _known(times: IntArray) -> IntArray:
    known: IntArray = times[times != MISSING]
    return known


def batches(records: Records) -> Iterator[Records]:
    """The records in pieces of bounded size."""
    for first in range(0, len(records), BATCH):
        mask = np.zeros(len(records), np.bool_)
        mask[first : first + BATCH] = True
        yield records if len(records) <= BATCH else records.where(mask)


def interval_events(records: Records, stage: int, start: int) -> Iterator[Event]:
    """The counts of every second of a stage, as the engine reports them while it runs."""
    if not len(records):
        return
    sent, end, first = (records.ints(n) for n in ("sent", "end", "first_token"))
    status = records.labels("status")
    seconds = int((max(int(sent.max()), int(end.max())) - start) // _S) + 1
    sent_in = _count(sent, start, seconds)
    done = {s: _count(end[status.is_(s)], start, seconds) for s in Status}
    tokens = records.ints("output_tokens")
    good = status.is_(Status.OK) & (tokens != MISSING)
    out = _count(end[good], start, seconds, tokens[good])
    second = np.clip((end - start) // _S, 0, seconds - 1)
    classes = records.labels("error_class")
    in_flight = 0
    for k in range(seconds):
        ended = {str(s): int(done[s][k]) for s in Status}
        in_flight += int(sent_in[k]) - sum(ended.values())
        data = {
            "stage": stage, "start": start + k * _S, "end": start + (k + 1) * _S, "sent": int(sent_in[k]),
            "succeeded": ended["ok"], "failed": ended["failed"], "cancelled": ended["cancelled"],
            "in_flight": in_flight, "output_tokens": int(out[k]), "errors": {},
        }  # fmt: skip
        here = second == k
        if ended["failed"]:
            data["errors"] = classes.take(np.flatnonzero(here)).counts()
        ttft = (first - sent)[here & (first != MISSING)]
        if len(ttft):
            data["ttft_ms_p50"] = round(float(np.median(ttft)) / 1e6, 3)
        yield Event(EventType.INTERVAL, start + (k + 1) * _S, data)


def _count(times: IntArray, start: int, seconds: int, weights: IntArray | None = None) -> IntArray:
    """Sum of ``weights`` (or number) of the times in each second."""
    slot = np.clip((times[times != MISSING] - start) // _S, 0, seconds - 1)
    found: IntArray = np.bincount(slot, weights, seconds).astype(np.int64)
    return found


def other_load(name: str, stage: Stage, ran: Sequence[NativeStage]) -> Iterator[Finding]:
    """Where a tool says that it made another load than the stage's: keys under ``native`` have overridden it."""
    labels = [label(one.load) for one in ran]
    if len(ran) > 1 or any(_differs(stage.load, one.load) for one in ran):
        yield Finding(
            "load_overridden",
            Severity.WARNING,
            f"stage {stage.name}: asked for {stage.load.label()}, {name} made another load: {'; '.join(labels)}",
            "its name and what is compared with it do not hold: give the load in common keys "
            "(concurrency, request_rate, stages) instead of under native",
        )


def _differs(asked: Load, told: Mapping[str, object]) -> bool:
    """Whether a load is certainly another one; what is not told does not differ."""
    rate, users, arrival = told.get("rate"), told.get("concurrency"), told.get("arrival")
    if asked.open_loop and asked.rate is None:
        return arrival not in (None, asked.arrival.get("type"))
    if (rate is None) != (asked.rate is None):
        return rate is not None or users is not None
    if isinstance(rate, int | float) and asked.rate is not None and not math.isclose(rate, asked.rate, rel_tol=0.01):
        return True
    if users is not None and asked.concurrency is not None and users != asked.concurrency:
        return True
    kinds = {arrival, asked.arrival.get("type")}
    return asked.rate is not None and kinds == {"constant", "poisson"}


def as_observed(name: str, stage: Stage, records: Records) -> Iterator[Finding]:
    """Where a stage that ran to its end was not what was asked for: streams, number of requests, duration."""
    where = f"stage {stage.name}: {name}"
    yield from _streams(where, stage, records)
    if stage.duration_s is None and stage.num_requests is not None and len(records) < ENOUGH * stage.num_requests:
        yield Finding(
            "requests_missing",
            Severity.WARNING,
            f"{where} was asked for {stage.num_requests} requests and sent {len(records)}",
            "look at the end of its log: it may have given up",
        )
    if stage.load_s is not None and stage.num_requests is None:
        yield from _duration(where, stage.load_s, records)


def peak_in_flight(records: Records) -> int:
    """The most requests that were in flight at once."""
    sent, end = records.ints("sent"), records.ints("end")
    known = (sent != MISSING) & (end != MISSING)
    times = np.concatenate([sent[known], end[known]])
    step = np.concatenate([np.ones(known.sum(), np.int64), -np.ones(known.sum(), np.int64)])
    order = np.lexsort((step, times))  # of equal times the ends first
    return int(np.cumsum(step[order]).max(initial=0))


def _streams(where: str, stage: Stage, records: Records) -> Iterator[Finding]:
    asked = stage.load.concurrency
    failed = len(records) - records.labels("status").counts().get(Status.OK, 0)
    # Few requests do not fill the streams; failures end at once and are followed by pauses.
    if stage.load.open_loop or asked is None or len(records) < 2 * asked or 2 * failed > len(records):
        return
    peak = peak_in_flight(records)
    if peak < asked:
        yield Finding(
            "concurrency_not_reached",
            Severity.WARNING,
            f"{where} was asked for {asked} concurrent requests and had {peak} in flight at most",
            "read the result as one of that concurrency; the native generator reaches the one asked for",
        )


def _duration(where: str, asked_s: float, records: Records) -> Iterator[Finding]:
    """A load that ended long before its time; the last gap of a slow one is no end."""
    times = np.concatenate([records.ints(n) for n in ("sent", "end")])
    times = times[times != MISSING]
    if len(times) < 4:
        return
    lasted_s = float(times.max() - times.min()) / 1e9
    gap_s = lasted_s / len(records)
    if lasted_s + 5 * gap_s < ENOUGH * asked_s:
        yield Finding(
            "ended_early",
            Severity.WARNING,
            f"{where} was asked for a load of {asked_s:g} s and kept it up for {lasted_s:.1f} s",
            "look at the end of its log: it may have given up, or run out of prompts",
        )
