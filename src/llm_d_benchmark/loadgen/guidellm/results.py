"""guidellm's report (``benchmarks.json``, one element a load level) as records under our definitions."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ...analyze.consistency import inconsistencies
from ...domain.errors import GeneratorError
from ...domain.events import Finding
from ...domain.records import Status
from ...domain.result import Scalar
from ..external import plan
from ..external.api import NativeResult, NativeStage
from ..external.rows import Row, counts, epoch_ns, failure, is_number, measured, statistics, to_records

TOOL = "guidellm"
REPORT = "benchmarks.json"
NO_CAP = 10_240
"""The most requests at once that it allows an open loop without being asked to."""

# Its name -> ours, and what makes it SI. Its "inter_token_latency" is our tpot, its "time_per_output_token" our ntpot.
_SPREADS = {
    "request_latency": ("e2e", 1.0, "s"),
    "time_to_first_token_ms": ("ttft", 1e-3, "s"),
    "inter_token_latency_ms": ("tpot", 1e-3, "s"),
    "time_per_output_token_ms": ("ntpot", 1e-3, "s"),
    "prompt_token_count": ("input_tokens", 1.0, "tokens"),
    "output_token_count": ("output_tokens", 1.0, "tokens"),
}
# Of its rates only the mean is one: the rest are statistics over instants.
_RATES = {
    "requests_per_second": ("requests_per_second", "requests/s"),
    "output_tokens_per_second": ("output_tokens_per_second", "tokens/s"),
    "prompt_tokens_per_second": ("input_tokens_per_second", "tokens/s"),
    "tokens_per_second": ("total_tokens_per_second", "tokens/s"),
    "request_concurrency": ("concurrency", ""),
}


_STATUS = re.compile(r"error '([45][0-9][0-9]) ")


class _Timings(msgspec.Struct):
    targeted_start: float | None = None
    resolve_start: float | None = None
    request_start: float | None = None
    first_token_iteration: float | None = None
    last_token_iteration: float | None = None
    request_end: float | None = None
    resolve_end: float | None = None


class _Info(msgspec.Struct):
    timings: _Timings
    conversation_id: str | None = None
    turn_index: int | None = None
    scheduler_node_id: int | None = None
    error: str | None = None


class _Request(msgspec.Struct):
    info: _Info
    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    output_tokens: float | None = None


class _Requests(msgspec.Struct):
    successful: list[_Request] | None = None
    errored: list[_Request] | None = None
    incomplete: list[_Request] | None = None


class _Config(msgspec.Struct):
    strategy: dict[str, Any]
    backend: dict[str, Any] = {}


class _Benchmark(msgspec.Struct):
    config: _Config
    requests: _Requests
    metrics: dict[str, Any]
    start_time: float | None = None
    end_time: float | None = None


class _Metadata(msgspec.Struct):
    guidellm_version: str | None = None


class _Spec(msgspec.Struct):
    data: list[Any] = []


class _RunConfig(msgspec.Struct):
    spec: _Spec | None = None


class _Report(msgspec.Struct):
    metadata: _Metadata
    benchmarks: list[_Benchmark]
    config: _RunConfig | None = None


def parse(path: Path) -> NativeResult:
    """The report in a folder, or a report file; see ``Adapter.parse``."""
    report = _read(_report_file(path))
    asked = _asked(report)
    findings: list[Finding] = []
    stages = [_stage(benchmark, asked, findings) for benchmark in report.benchmarks]
    backend = report.benchmarks[0].config.backend if report.benchmarks else {}
    return NativeResult(
        TOOL,
        report.metadata.guidellm_version,
        stages,
        findings,
        model=backend.get("model") or None,
        url=backend.get("target") or None,
    )


def _report_file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / REPORT).is_file():
        return path / REPORT
    found = [p for p in sorted(path.rglob("*.json")) if p.is_file() and _looks_like_one(p)] if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} reports" if found else f"no {REPORT} and no other report"
    raise GeneratorError(f"{what} of {TOOL} in {path}", advice="give the JSON file that 'guidellm run' wrote")


def _looks_like_one(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"guidellm_version"' in file.read(4096)


def _read(path: Path) -> _Report:
    """The report; mapped, not read, because most of it is left out."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return msgspec.json.decode(memoryview(data), type=_Report)
    except (OSError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise GeneratorError(f"{path} is not a report of {TOOL} 0.8: {error}") from None
        raise GeneratorError(f"{path} is no whole report of {TOOL}: {error}", advice="was it cut off?") from None


def _asked(report: _Report) -> tuple[int | None, int | None]:
    """Prompt and output tokens that every request asked for; None where they varied or are not known."""
    data = report.config.spec.data if report.config and report.config.spec else []
    if len(data) != 1 or not isinstance(data[0], dict) or data[0].get("kind") != "synthetic_text":
        return None, None
    plan: dict[str, Any] = data[0]
    if (plan.get("turns") or 1) != 1 or plan.get("prefix_buckets"):
        return None, None
    exact = (None if _varies(plan, key) else plan.get(key) for key in ("prompt_tokens", "output_tokens"))
    first, second = exact
    return first, second


def _varies(plan: Mapping[str, Any], key: str) -> bool:
    return any(plan.get(f"{key}_{part}") is not None for part in ("stdev", "min", "max"))


def _stage(benchmark: _Benchmark, asked: tuple[int | None, int | None], findings: list[Finding]) -> NativeStage:
    strategy = benchmark.config.strategy
    kind = str(strategy.get("type_", ""))
    streams = strategy.get("streams")
    load: dict[str, object] = {"arrival": kind} if "rate" in strategy else {}
    load |= {k: v for k, v in (("rate", strategy.get("rate")), ("concurrency", streams)) if v is not None}
    name = f"{strategy['rate']:g}/s {kind}" if "rate" in strategy else f"c={streams}" if streams else kind
    own, figures = _totals(benchmark), _aggregates(benchmark.metrics)
    kept = to_records(list(_rows(benchmark, asked, open_loop="rate" in strategy)))
    records = kept if len(kept) or not any(own.values()) else None
    if records is None:
        text = f"{name}: the report keeps no requests: there are only the tool's own figures"
        findings.append(plan.warning("no_requests_kept", text))
    findings += inconsistencies(records, figures, _comparable(own, benchmark), where=f"{TOOL}, {name}")
    times = (benchmark.start_time, benchmark.end_time)
    window = None if None in times else (epoch_ns(times[0]), epoch_ns(times[1]))  # type: ignore[arg-type]
    return NativeStage(name, load, records, figures, window, own if records is None else counts(records))


def _rows(benchmark: _Benchmark, asked: tuple[int | None, int | None], *, open_loop: bool) -> Iterator[Row]:
    requests = benchmark.requests
    streaming = bool(benchmark.config.backend.get("stream", True))
    capped = (benchmark.config.strategy.get("max_concurrency") or NO_CAP) < NO_CAP
    sessions: dict[str, int] = {}
    source = _source(requests.successful or [], asked[0])
    by_status = (
        (Status.OK, requests.successful),
        (Status.FAILED, requests.errored),
        (Status.CANCELLED, requests.incomplete),
    )
    for status, group in by_status:
        for request in group or ():
            times = request.info.timings
            if times.request_start is None:
                continue  # queued, never sent
            row: Row = {
                "sent": epoch_ns(times.request_start),
                "end": _ns(times.request_end or times.resolve_end),
                "streaming": streaming,
                "worker": request.info.scheduler_node_id,
                "input_asked": asked[0],
                "output_asked": asked[1],
                "status": status,
            }
            if request.info.conversation_id is not None:
                row["session"] = sessions.setdefault(request.info.conversation_id, len(sessions))
                row["turn"] = request.info.turn_index
            if open_loop and not request.info.turn_index:
                row["scheduled"] = _ns(times.targeted_start)
                row["ready"] = None if capped else row["scheduled"]  # it does not tell when a cap let one go
            if streaming:
                row["first_token"] = _ns(times.first_token_iteration)
                row["last_token"] = _ns(times.last_token_iteration)
            if status is Status.OK:
                row["input_tokens"] = _whole(request.prompt_tokens)
                row["output_tokens"] = _whole(request.output_tokens)
                row["cached_tokens"] = _whole(request.cached_tokens)
                row["input_source"] = row["output_source"] = source
            elif status is Status.CANCELLED:
                row["output_tokens"] = _whole(request.output_tokens)  # those that came before it was stopped
                row["output_source"] = source
            elif status is Status.FAILED:
                message = request.info.error or ""
                status_code = _STATUS.search(message)
                row |= failure(
                    message.partition("(")[0][:60] or None, message, int(status_code[1]) if status_code else None
                )
            yield row


def _source(good: list[_Request], asked: int | None) -> str | None:
    """It counts by the server's usage, else by its own tokenizer, and does not say which. Its own count of its prompts
    is what was asked for, always; any other number is the server's."""
    if asked is None or all(r.prompt_tokens == asked for r in good):
        return None
    return "usage"


def _aggregates(metrics: Mapping[str, Any]) -> dict[str, Scalar]:
    out: dict[str, Scalar] = {}
    for theirs, (ours, factor, unit) in _SPREADS.items():
        good = (metrics.get(theirs) or {}).get("successful") or {}
        if good.get("count"):
            out |= statistics(ours, {**_percentiles(good), **good}, factor, unit)
    for theirs, (ours, unit) in _RATES.items():
        good = (metrics.get(theirs) or {}).get("successful") or {}
        out |= measured(ours, good.get("mean"), unit)
    return out


def _percentiles(good: Mapping[str, Any]) -> dict[str, Any]:
    """p999 is the 99.9th there, and p001 the 0.1th."""
    names = {"p999": "p99.9", "p001": "p0.1"}
    return {names.get(k, k): v for k, v in (good.get("percentiles") or {}).items()}


def _totals(benchmark: _Benchmark) -> dict[str, int]:
    """Its own counts, under our names."""
    told = benchmark.metrics.get("request_totals") or {}
    names = {"sent": "total", "succeeded": "successful", "failed": "errored", "cancelled": "incomplete"}
    return {ours: told[theirs] for ours, theirs in names.items() if isinstance(told.get(theirs), int)}


def _comparable(own: Mapping[str, int], benchmark: _Benchmark) -> dict[str, int]:
    """Its counts as counts of all that was sent: they are of what overlaps its measurement, so without its warm-up,
    but with what it never sent."""
    outcomes = {"succeeded": benchmark.requests.successful, "failed": benchmark.requests.errored}
    return {
        name: own[name] + sum((r.info.timings.request_start is not None) - _counted(r, benchmark) for r in group or ())
        for name, group in outcomes.items()
        if name in own
    }


def _counted(request: _Request, benchmark: _Benchmark) -> bool:
    times = request.info.timings
    end = times.request_end or times.resolve_end
    start = times.request_start or times.resolve_start or end
    if end is None or start is None:
        return False
    return end >= (benchmark.start_time or start) and start <= (benchmark.end_time or end)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else epoch_ns(seconds)


def _whole(value: float | None) -> int | None:
    return int(value) if is_number(value) and value is not None else None
