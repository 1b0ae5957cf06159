"""The load as the requests show it, against the load that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...domain.events import Finding, Severity
from ...domain.records import MISSING, Records, Status
from ...domain.schedule import Stage

ENOUGH = 0.9
"""Part of the requests or of the time asked for below which a stage counts as cut short."""


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
