"""What aiperf leaves behind, as our records: its per-request export and its summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...analyze.consistency import inconsistencies
from ...domain.errors import GeneratorError
from ...domain.events import Finding
from ...domain.records import Records, Status
from ...domain.result import Scalar
from ..external import plan
from ..external.api import NativeResult, NativeStage
from ..external.files import find, lines, load_json, mapping
from ..external.rows import Row, counts, failure, is_number, measured, statistics, stream, to_records, window

TOOL = "aiperf"
RECORDS = "profile_export.jsonl"
SUMMARY = "profile_export_aiperf.json"
_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "sec": 1e9}
_LATENCY = {
    "request_latency": "e2e", "time_to_first_token": "ttft", "inter_token_latency": "tpot",
    "inter_chunk_latency": "itl",
}  # fmt: skip
_RATES = {
    "output_token_throughput": ("output_tokens_per_second", "tokens/s"),
    "input_token_throughput": ("input_tokens_per_second", "tokens/s"),
    "total_token_throughput": ("total_tokens_per_second", "tokens/s"),
    "request_throughput": ("requests_per_second", "requests/s"),
    "goodput": ("goodput", "requests/s"),
}


class _Metadata(msgspec.Struct):
    request_start_ns: int
    request_end_ns: int | None = None
    credit_issued_ns: int | None = None
    conversation_id: str | None = None
    x_correlation_id: str | None = None
    turn_index: int | None = None
    worker_id: str | None = None
    benchmark_phase: str | None = None
    was_cancelled: bool = False


class _Value(msgspec.Struct):
    value: Any
    unit: str = ""


class _Metrics(msgspec.Struct):
    """The metrics that are read; the others (there are some thirty) are passed over."""

    time_to_first_token: _Value | None = None
    request_latency: _Value | None = None
    inter_chunk_latency: _Value | None = None
    http_req_connection_reused: _Value | None = None
    http_req_connection_overhead: _Value | None = None
    http_req_connecting: _Value | None = None
    usage_completion_tokens: _Value | None = None
    usage_prompt_tokens: _Value | None = None
    usage_prompt_cache_read_tokens: _Value | None = None
    output_sequence_length: _Value | None = None
    input_sequence_length: _Value | None = None


class _Error(msgspec.Struct):
    code: int | None = None
    type: str | None = None
    message: str | None = None


class _Line(msgspec.Struct):
    metadata: _Metadata
    metrics: _Metrics = msgspec.field(default_factory=_Metrics)
    error: _Error | None = None


def parse(path: Path) -> NativeResult:
    """See ``Adapter.parse``. A folder, or one summary or per-request export (whose names a prefix may have changed)."""
    summary, requests = _files(path)
    told = load_json(summary, tool=TOOL) if summary else {}
    if summary and not ("aiperf_version" in told or "input_config" in told):
        raise GeneratorError(
            f"{summary} is not a summary of {TOOL}: looked for 'aiperf_version' and 'input_config'",
            advice=f"give the artifact folder with {SUMMARY} and {RECORDS}",
        )
    used = mapping(told.get("input_config"))
    endpoint = mapping(used.get("endpoint"))
    load, open_loop = _load(used)
    findings: list[Finding] = []
    records = None if requests is None else _records(requests, endpoint, findings, open_loop=open_loop)
    if records is None:
        text = f"{RECORDS} is missing: there are only the tool's own figures"
        findings.append(plan.warning("no_requests_kept", text, "let aiperf export records (artifacts.records)"))
    if summary is None:
        text = f"{SUMMARY} is missing: what was asked for is not known"
        findings.append(plan.warning("no_summary", text, "aiperf writes none where every request failed"))
    figures = _aggregates(told)
    if records is None:
        figures = _by_server_counts(figures, told, findings)
    own = _counts(told, records)
    findings += inconsistencies(records, figures, own, where=TOOL)
    if not told.get("is_complete", True) or told.get("was_cancelled"):
        findings.append(plan.warning("incomplete", "aiperf says that the run was cancelled or is not complete"))
    stage = NativeStage(
        plan.label(load),
        load,
        records,
        figures,
        None if records is None else window(records),
        own if records is None else counts(records),
    )
    models = mapping(used.get("models")).get("items") or [{}]
    urls = endpoint.get("urls") or [None]
    return NativeResult(TOOL, told.get("aiperf_version"), [stage], findings, mapping(models[0]).get("name"), urls[0])


def _files(path: Path) -> tuple[Path | None, Path | None]:
    """Summary and per-request export: of the two at least one."""
    if path.is_file():
        return (None, path) if path.suffix == ".jsonl" else (path, None)
    folder = find(path, (RECORDS, SUMMARY), tool=TOOL)
    summary, requests = folder / SUMMARY, folder / RECORDS
    return summary if summary.is_file() else None, requests if requests.is_file() else None


def _load(used: Mapping[str, Any]) -> tuple[dict[str, object], bool | None]:
    """What was asked for, and whether by a schedule; None where the result does not say."""
    phases = [mapping(p) for p in used.get("phases") or []]
    phase = next((p for p in phases if p.get("kind", p.get("name")) == "profiling"), {})
    kind = phase.get("type")
    known = {
        "rate": phase.get("rate"),
        "concurrency": phase.get("concurrency"),
        "arrival": {"concurrency": None, "fixed_schedule": "trace"}.get(str(kind), kind),
    }
    return {k: v for k, v in known.items() if v is not None}, None if kind is None else kind != "concurrency"


# --- requests ---


def _records(path: Path, endpoint: Mapping[str, Any], findings: list[Finding], *, open_loop: bool | None) -> Records:
    sessions: dict[str, int] = {}
    workers: dict[str, int] = {}
    rows: list[Row] = []
    warm = unended = recounted = 0
    streaming = bool(endpoint.get("streaming", True))
    for line in lines(path, _Line, tool=TOOL, findings=findings):
        if line.metadata.benchmark_phase not in (None, "profiling"):
            warm += 1
            continue
        row = _row(line, streaming, bool(open_loop))
        where = line.metadata
        row["session"] = sessions.setdefault(where.x_correlation_id or str(len(rows)), len(sessions))
        row["worker"] = workers.setdefault(where.worker_id or "", len(workers))
        unended += row["status"] is Status.FAILED and row["end"] == row["sent"]
        recounted += _recounted(line.metrics)
        rows.append(row)
    if not rows:
        raise GeneratorError(f"{path} holds no requests of {TOOL}", advice=f"did {TOOL} end properly? see its log")
    if warm:
        findings.append(plan.info("warmup_left_out", f"{warm} requests of {TOOL}'s own warm-up are left out"))
    if unended:
        text = f"{unended} failed requests have no end in its results and count as ended when they began"
        findings.append(plan.warning("failures_without_end", text, "the concurrency is understated by them"))
    if recounted:
        text = f"{TOOL} counted the output of {recounted} requests by re-tokenising; the server's counts are used here"
        why = "its own tokens/s and inter_token_latency rest on the other count (--use-server-token-count)"
        findings.append(plan.warning("tokens_recounted", text, why))
    if open_loop:
        text = f"scheduled is when {TOOL} issued a request; how late that was, it does not tell"
        findings.append(plan.info("scheduled_is_issued", text))
    return to_records(rows)


def _row(line: _Line, streaming: bool, open_loop: bool) -> Row:
    where, metrics = line.metadata, line.metrics
    # Its ttft and latency begin before the connection is set up; ours do not.
    setup = round(_ns(metrics.http_req_connection_overhead) or _ns(metrics.http_req_connecting) or 0.0)
    reused = metrics.http_req_connection_reused
    start, issued = where.request_start_ns, where.credit_issued_ns
    sent = start + setup
    row: Row = {
        "sent": sent,
        "end": max(sent, where.request_end_ns or sent),
        "connect": setup if reused is not None and not reused.value else None,
        "ready": None if issued is None else issued + setup,
        "scheduled": issued if open_loop else None,
        "turn": where.turn_index,
        "streaming": streaming,
    }
    row |= _tokens("input", metrics.usage_prompt_tokens, metrics.input_sequence_length)
    if where.was_cancelled:
        return row | _cancelled(where)
    if line.error is not None:
        kind = line.error.type
        return row | failure(kind, line.error.message, line.error.code)
    row |= {"status": Status.OK, "http_status": 200}
    row |= _tokens("output", metrics.usage_completion_tokens, metrics.output_sequence_length)
    row["cached_tokens"] = _int(metrics.usage_prompt_cache_read_tokens)
    ttft, latency = _ns(metrics.time_to_first_token), _ns(metrics.request_latency)
    if ttft is None:
        return row | {"streaming": False}
    gaps = metrics.inter_chunk_latency
    after = [ttft] if gaps is None or not isinstance(gaps.value, list) else [ttft, *_list_ns(gaps)]
    chunks = start + np.rint(np.cumsum(after)).astype(np.int64)
    row |= {"streaming": True, **stream(sent, chunks)}
    if len(chunks) == 1 and latency is not None:
        row["last_token"] = start + round(latency)
    return row | {"end": max(row["end"], row["last_token"])}  # both were rounded


def _cancelled(where: _Metadata) -> Row:
    """Its error (499) comes from no server. It stamps the request when it ends: its times are one duration too late."""
    start, issued = where.request_start_ns, where.credit_issued_ns
    sent = start if issued is None else issued
    span = (where.request_end_ns or start) - start
    return {"status": Status.CANCELLED, "sent": sent, "end": sent + max(0, span), "connect": None, "ready": None}


def _ns(value: _Value | None) -> float | None:
    """A duration in ns; None where there is none."""
    return None if value is None or not is_number(value.value) else float(value.value) * _factor(value)


def _list_ns(value: _Value) -> npt.NDArray[np.float64]:
    return np.asarray(value.value, np.float64) * _factor(value)


def _factor(value: _Value) -> float:
    if value.unit not in _NS:
        raise GeneratorError(f"{TOOL} wrote a duration in '{value.unit}', which is not known here")
    return _NS[value.unit]


def _int(value: _Value | None) -> int | None:
    return round(value.value) if value is not None and is_number(value.value) else None


def _tokens(side: str, usage: _Value | None, client: _Value | None) -> Row:
    for source, value in (("usage", _int(usage)), ("tokenizer", _int(client))):
        if value is not None:
            return {f"{side}_tokens": value, f"{side}_source": source}
    return {}


def _recounted(metrics: _Metrics) -> bool:
    usage, own = _int(metrics.usage_completion_tokens), _int(metrics.output_sequence_length)
    return usage is not None and own is not None and usage != own


# --- its own figures ---


def _counts(told: Mapping[str, Any], records: Records | None) -> dict[str, int]:
    """Its own counts; it has no word for cancelled requests, and counts them among its errors."""
    if "request_count" not in told:
        return {}
    succeeded, errors = (round(mapping(told.get(n)).get("avg") or 0) for n in ("request_count", "error_request_count"))
    cancelled = 0 if records is None else int(records.labels("status").is_(Status.CANCELLED).sum())
    return {"sent": succeeded + errors, "succeeded": succeeded, "failed": errors - cancelled}


def _aggregates(told: Mapping[str, Any]) -> dict[str, Scalar]:
    out: dict[str, Scalar] = {}
    for theirs, ours in _LATENCY.items():
        figures = mapping(told.get(theirs))
        if figures.get("unit") in _NS:
            out |= statistics(ours, figures, _NS[figures["unit"]] / 1e9)
    for theirs, ours in (("output_sequence_length", "output_tokens"), ("input_sequence_length", "input_tokens")):
        out |= statistics(ours, told.get(theirs), unit="tokens")
    for theirs, (ours, unit) in _RATES.items():
        out |= measured(ours, mapping(told.get(theirs)).get("avg"), unit)
    return out


def _by_server_counts(
    figures: dict[str, Scalar], told: Mapping[str, Any], findings: list[Finding]
) -> dict[str, Scalar]:
    """The figures without those that rest on re-tokenised output, where that gave other counts than the server's."""
    usage, own, seconds = (
        mapping(told.get(n)).get("avg") for n in ("total_usage_completion_tokens", "total_osl", "benchmark_duration")
    )
    if not (is_number(usage) and is_number(own)) or usage == own:
        return figures
    text = f"{TOOL} counted {own:.0f} output tokens by re-tokenising, the server {usage:.0f}: tpot is left out"
    findings.append(plan.warning("tokens_recounted", text, "run aiperf with --use-server-token-count"))
    lost = ("tpot.", "output_tokens.", "output_tokens_per_second", "total_tokens_per_second")
    kept = {k: v for k, v in figures.items() if not k.startswith(lost)}
    if seconds and is_number(seconds):
        kept |= measured("output_tokens_per_second", usage / seconds, "tokens/s")
    return kept
