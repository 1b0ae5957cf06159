"""Validation of what collectors saw: gaps, restarts, missing metrics, uncovered ends, clocks, other users of a server.

Nothing is repaired: a finding says what the figures do not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..domain.result import FindingRecord, Measured, Scalar, StageResult
from ..domain.samples import SeriesKind
from .canonical import PROMETHEUS, engines_seen
from .resources import KV_USE, OUTPUT_TOKENS, PREEMPTIONS, PREFIX_QUERIES, RUNNING, WAITING
from .timeseries import Line, Lines

_S = 1e9
GAP_S = 2.0
"""Shorter pauses are jitter of a busy machine."""
CLOCK_S = 0.5
"""A clock that is certainly further off is told."""
FOREIGN = 0.1
"""Part of the tokens that a server may count beside those that this run received."""
OWN = frozenset({"host", "server process", "gpu", "log"})
Window = tuple[int, int]

_NEEDED: Mapping[str, Sequence[tuple[Sequence[str], str, str]]] = MappingProxyType(
    {
        "vLLM": (
            (RUNNING, "running requests", "it is in every version; was the page of another process scraped?"),
            (WAITING, "waiting requests", "without it queueing is not told from slow prefill"),
            (KV_USE, "use of the KV cache", "without it a full cache is not seen"),
            (PREEMPTIONS, "preemptions", "without it preemption is not seen"),
            (PREFIX_QUERIES, "prefix cache queries", "enable prefix caching, or do without its hit rate"),
            (("vllm:request_queue_time_seconds_sum",), "the time in the queue", "vLLM 0.6.4 or later tells it"),
        ),
        "SGLang": (
            (RUNNING, "running requests", "start SGLang with --enable-metrics"),
            (WAITING, "waiting requests", "start SGLang with --enable-metrics"),
            (KV_USE, "use of the KV cache", "start SGLang with --enable-metrics"),
        ),
        "llama.cpp": (
            (RUNNING, "running requests", "start llama-server with --metrics"),
            (OUTPUT_TOKENS, "output tokens", "start llama-server with --metrics"),
        ),
    }
)
"""Engine -> metrics that the analysis uses: their names, what they tell, what to do without them."""


def quality(lines: Lines, stages: Sequence[StageResult]) -> list[FindingRecord]:
    """Every doubt about the series, over the windows of the stages; none of a run without collectors."""
    windows = [(s.window.start, s.window.end) for s in stages if s.window.end > s.window.start]
    if not lines or not windows:
        return []
    sources: dict[str, list[Line]] = {}
    for line in lines:
        sources.setdefault(line.series.source, []).append(line)
    return [
        *(f for source, of in sources.items() for f in _of_source(source, of, windows)),
        *_missing(lines),
        *(f for stage in stages for f in _others(stage)),
    ]


def _of_source(source: str, lines: Sequence[Line], windows: Sequence[Window]) -> Iterator[FindingRecord]:
    yield from _clock(source, lines)
    seen = [line for line in lines if len(line.times) and not line.series.metric.startswith("clock_offset_")]
    if not seen or source == "log":
        return
    longest = max(seen, key=lambda line: len(line.times))
    yield from _uncovered(source, seen, longest, windows)
    yield from _gaps(source, longest, windows)
    yield from _resets(source, seen, windows)


def _uncovered(source: str, lines: Sequence[Line], longest: Line, windows: Sequence[Window]) -> Iterator[FindingRecord]:
    usual = _usual(longest)
    first, last = min(int(li.times[0]) for li in lines), max(int(li.times[-1]) for li in lines)
    start, end = min(w[0] for w in windows), max(w[1] for w in windows)
    late, early = (first - start) / _S, (end - last) / _S
    if late > usual:
        text = f"{source} was first seen {late:.3g} s after the first window began"
        yield FindingRecord("samples_begin_late", "warning", text, _why(source))
    if early > usual:
        text = f"{source} was last seen {early:.3g} s before the last window ended"
        yield FindingRecord("samples_end_early", "warning", text, _why(source))


def _gaps(source: str, line: Line, windows: Sequence[Window]) -> Iterator[FindingRecord]:
    """Pauses inside the windows, by the series with most samples: a page gives all of its series at once."""
    found = [(max(a, s), min(b, e)) for s, e in windows for a, b in line.gaps(s, e) if b - a >= GAP_S * _S]
    if not found:
        return
    lost = sum(b - a for a, b in found) / _S
    share = lost / (sum(e - s for s, e in windows) / _S)
    text = f"{source} was not seen for {lost:.3g} s of the windows ({share:.0%}) in {len(found)} gaps"
    yield FindingRecord("samples_gaps", "warning" if share > 0.1 else "info", text, _why(source))


def _resets(source: str, lines: Sequence[Line], windows: Sequence[Window]) -> Iterator[FindingRecord]:
    counters = [line for line in lines if line.series.kind is SeriesKind.COUNTER]
    fell = [line for line in counters if any(line.resets(s, e) for s, e in windows)]
    if fell:
        text = f"{len(fell)} of {len(counters)} totals of {source} began anew inside a window"
        advice = "it restarted: what it counted just before is lost; look into its log, and do not trust this window"
        yield FindingRecord("counter_reset", "warning", text, advice)


def _clock(source: str, lines: Sequence[Line]) -> Iterator[FindingRecord]:
    last = {line.series.metric: float(line.values[-1]) for line in lines if len(line.values)}
    offset, around = last.get("clock_offset_seconds"), last.get("clock_offset_uncertainty_seconds")
    if offset is None or around is None or abs(offset) - around <= CLOCK_S:
        return
    corrected = source.startswith(PROMETHEUS)
    advice = "keep both clocks right (chrony, ntpd)" + (
        "; its samples' times were corrected" if corrected else "; its samples have our times, its log has not"
    )
    text = f"the clock of {source} is {offset:+.3g} s off ours (within {around:.2g} s)"
    yield FindingRecord("clock_offset", "info" if corrected else "warning", text, advice)


def _missing(lines: Lines) -> Iterator[FindingRecord]:
    metrics = {line.series.metric for line in lines if line.series.source not in OWN}
    engines = engines_seen(sorted(metrics))
    if not engines:
        text = "no collector saw the server's own metrics: queueing, prefill and decode cannot be told apart"
        advice = "name its /metrics pages in spec.collectors.scrape, or a Prometheus in spec.collectors.prometheus.url"
        yield FindingRecord("no_server_metrics", "info", text, advice)
    for engine in sorted(engines):
        for wanted, meaning, advice in _NEEDED.get(engine, ()):
            if not metrics.intersection(wanted):
                text = f"{engine} tells nothing of {meaning}"
                yield FindingRecord("metric_missing", "info", text, advice)


def _others(stage: StageResult) -> Iterator[FindingRecord]:
    """Tokens that the server counted against those that this run received, beyond what was in flight at the edges."""
    server = _value(stage.resources.get("server_output_tokens_per_second"))
    client, length = (_value(v) for v in (stage.metrics.output_tokens_per_second, stage.metrics.output_length.achieved))
    flight, failed = _value(stage.metrics.concurrency), _value(stage.metrics.error_rate)
    if server is None or not client or length is None or flight is None or failed is None:
        return
    if failed > 0.01 or stage.window.seconds <= 0:
        return  # of a failed request the server may have made tokens that nobody received
    slack = FOREIGN * client + 2 * flight * length / stage.window.seconds
    told = f"stage {stage.name}: the server counted {server:.4g} output tokens/s, this run received {client:.4g}"
    if server - client > slack:
        advice = "measure a server of your own, or stop what else uses it"
        yield FindingRecord("server_shared", "warning", f"{told}: others used it, too", advice)
    elif client - server > slack:
        advice = "name the pages of all replicas in spec.collectors.scrape"
        yield FindingRecord("server_partly_seen", "warning", f"{told}: only a part of it was collected", advice)


def _value(scalar: Scalar | None) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _usual(line: Line) -> float:
    """Two intervals of a series, seconds; of a single sample, nothing is known."""
    return 2 * float(np.median(np.diff(line.times))) / _S if len(line.times) > 1 else 0.0


def _why(source: str) -> str:
    if source in OWN:
        return "this machine was too busy, or the run was cut short: use fewer streams, or another machine"
    return "the server or the network between was too busy, or it was down; look into its log"
