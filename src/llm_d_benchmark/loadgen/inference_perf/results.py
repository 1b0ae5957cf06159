"""What inference-perf leaves behind, as our records: its per-request report, its stage reports, its clock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from ...analyze.consistency import inconsistencies
from ...domain.errors import GeneratorError
from ...domain.events import Finding
from ...domain.records import ErrorClass, Status
from ...domain.result import Scalar
from ..external import plan
from ..external.api import NativeResult, NativeStage
from ..external.clock import to_epoch
from ..external.files import elements, find, load_json, mapping
from ..external.rows import Row, counts, failure, measured, statistics, stream, to_records, window

TOOL = "inference-perf"
PER_REQUEST = "per_request_lifecycle_metrics.json"
SUMMARY = "summary_lifecycle_metrics.json"
STAGES = "stage_*_lifecycle_metrics.json"
_S = 1_000_000_000
_LATENCY = {
    "request_latency": "e2e", "time_to_first_token": "ttft", "time_per_output_token": "tpot",
    "normalized_time_per_output_token": "ntpot",
}  # fmt: skip
_RATES = {
    "input_tokens_per_sec": ("input_tokens_per_second", "tokens/s"),
    "output_tokens_per_sec": ("output_tokens_per_second", "tokens/s"),
    "total_tokens_per_sec": ("total_tokens_per_second", "tokens/s"),
    "requests_per_sec": ("requests_per_second", "requests/s"),
}


class _Text(msgspec.Struct):
    input_tokens: int | None = None


class _Request(msgspec.Struct):
    text: _Text | None = None


class _Response(msgspec.Struct):
    output_tokens: int | None = None
    server_usage: dict[str, Any] | None = None
    chunk_times: list[float] | None = None
    output_token_times: msgspec.Raw = msgspec.Raw()


class _Info(msgspec.Struct):
    request_metrics: _Request | None = None
    response_metrics: _Response | None = None
    lora_adapter: str | None = None
    retries_attempted: int = 0
    # Where versions before 0.3 have them.
    input_tokens: int | None = None
    output_tokens: int | None = None
    output_token_times: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    error_type: str | None = None
    error_msg: str | None = None


class _Entry(msgspec.Struct):
    start_time: float
    end_time: float
    info: _Info | None = None
    error: _Error | None = None


def parse(path: Path) -> NativeResult:
    """See ``Adapter.parse``. A folder (its reports may lie deeper), or one summary or stage report."""
    requests = path if path.is_file() and _is_array(path) else None
    if path.is_file() and requests is None:
        folder, reports = path.parent, [path]
    else:
        folder = path.parent if path.is_file() else find(path, (PER_REQUEST, SUMMARY, STAGES), tool=TOOL)
        stages = sorted(folder.glob(STAGES), key=_number)
        reports = stages or [p for p in [folder / SUMMARY] if p.is_file()]
    told = [_report(report) for report in reports]
    used, findings = _used_config(folder), list[Finding]()
    requests = requests or folder / PER_REQUEST
    rows = None if path in reports else _rows(requests, used, findings)
    parts = _split(rows, told, findings)
    starts = [_stage_start(folder, number) for number in range(len(parts))]
    if rows:
        _to_epoch(parts, starts, requests, findings)
    loads = _loads(used, told, len(parts), findings)
    found = [
        _stage(plan.label(loads[i]), loads[i], part, told[i] if i < len(told) else {}, findings)
        for i, part in enumerate(parts)
    ]
    server = mapping(used.get("server"))
    return NativeResult(TOOL, None, found, findings, server.get("model_name"), server.get("base_url"))


def _is_array(path: Path) -> bool:
    """Its reports are objects, and its requests an array, whatever they are called."""
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"[")


def _number(report: Path) -> int:
    found = re.search(r"stage_(\d+)", report.name)
    return int(found[1]) if found else 0


def _report(path: Path) -> dict[str, Any]:
    content = load_json(path, tool=TOOL)
    if not {"successes", "failures"} <= content.keys():
        raise GeneratorError(
            f"{path} is not a report of {TOOL}: looked for 'successes' and 'failures'",
            advice=f"give the folder with {SUMMARY} or {PER_REQUEST}",
        )
    return content


def _used_config(folder: Path) -> dict[str, Any]:
    """The configuration as the tool copies it beside its reports, or as it was given; empty where there is none."""
    for name in ("config.yaml", "config.yml", "../config.yml", "../config.yaml"):
        with suppress(OSError, yaml.YAMLError):
            found = mapping(yaml.safe_load((folder / name).read_text()))
            if "load" in found:
                return found
    return {}


# --- requests ---


def _rows(path: Path, used: Mapping[str, Any], findings: list[Finding]) -> list[Row] | None:
    """One row per request in the order of sending, on the tool's own clock; None where it kept none."""
    if not path.is_file():
        text = f"{path.name} is missing: there are only the tool's own figures"
        findings.append(plan.warning("no_requests_kept", text, "set report.request_lifecycle.per_request: true"))
        return None
    streaming = mapping(used.get("api")).get("streaming")
    asked = _asked(mapping(used.get("data")))
    rows = [asked | _row(entry, streaming) for entry in elements(path, _Entry, tool=TOOL)]
    empty = sum(row.get("error_class") is ErrorClass.NO_CONTENT for row in rows)
    if empty:
        text = f"{empty} streams without any content count as failed; {TOOL} counts them as successes"
        findings.append(plan.warning("empty_answers", text))
    if any(row.get("output_source") == "tokenizer" for row in rows):
        text = f"output tokens are {TOOL}'s count of the text: the server sent no usage"
        findings.append(plan.warning("tokens_recounted", text, "ntpot, tpot and tokens/s rest on this count"))
    return sorted(rows, key=lambda row: int(row["sent"]))


def _asked(data: Mapping[str, Any]) -> Row:
    """The lengths that were asked for, where all were alike."""
    sides = {"input_asked": data.get("input_distribution"), "output_asked": data.get("output_distribution")}
    lengths = {name: mapping(side) for name, side in sides.items()}
    return {
        name: length["min"]
        for name, length in lengths.items()
        if length.get("min") and length["min"] == length.get("max")
    }


def _row(entry: _Entry, streaming: bool | None) -> Row:
    sent = round(entry.start_time * _S)
    row: Row = {"sent": sent, "end": round(entry.end_time * _S), "streaming": streaming is not False}
    info = entry.info or _Info()
    response = info.response_metrics or _Response()
    usage = response.server_usage or {}
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    text = info.request_metrics.text if info.request_metrics else None
    client_prompt = text.input_tokens if text else info.input_tokens
    client_output = info.output_tokens if response.output_tokens is None else response.output_tokens
    row["model"] = info.lora_adapter
    row["attempts"] = 1 + info.retries_attempted
    row |= _count("input", prompt, client_prompt or None)
    if entry.error is not None:
        return row | failure(entry.error.error_type, entry.error.error_msg)
    row |= {"status": Status.OK, "http_status": 200, **_count("output", output, client_output)}
    row["cached_tokens"] = mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    times = _chunk_times(info, response)
    if times is None:
        return row | {"streaming": bool(streaming)}
    chunks = np.rint(np.asarray(times, np.float64) * _S).astype(np.int64)
    if not len(chunks):
        return row | {"status": Status.FAILED, "error_class": ErrorClass.NO_CONTENT, "error": "no content"}
    return row | {"streaming": True, **stream(sent, chunks)}


def _count(side: str, usage: Any, client: int | None) -> Row:
    if isinstance(usage, int):
        return {f"{side}_tokens": usage, f"{side}_source": "usage"}
    return {} if client is None else {f"{side}_tokens": client, f"{side}_source": "tokenizer"}


def _chunk_times(info: _Info, response: _Response) -> Sequence[float] | None:
    """Arrivals of the content chunks. Without them, the times it gave to re-tokenised text: every token of a chunk has
    that chunk's time, so the distinct ones are the chunks."""
    if response.chunk_times is not None:
        return response.chunk_times
    for raw in (response.output_token_times, info.output_token_times):
        if bytes(raw) not in (b"", b"null"):
            times: list[float] = np.unique(msgspec.json.decode(raw, type=list[float])).tolist()
            return times
    return None


# --- stages ---


def _split(
    rows: list[Row] | None, told: Sequence[Mapping[str, Any]], findings: list[Finding]
) -> list[list[Row] | None]:
    """The requests of each stage. The report does not name the stage; stages do not overlap, so their counts tell."""
    if rows is None:
        return [None] * len(told)
    sizes = [sum(_counted(report).values()) for report in told]
    if len(told) <= 1 or sum(sizes) != len(rows):
        if len(told) > 1:
            text = f"the stages count {sum(sizes)} requests, the requests are {len(rows)}: taken as one stage"
            findings.append(plan.warning("stages_not_told_apart", text))
        return [rows]
    bounds = np.cumsum([0, *sizes]).tolist()
    return [rows[a:b] for a, b in pairwise(bounds)]


def _counted(report: Mapping[str, Any]) -> dict[str, int]:
    sides = {"succeeded": report.get("successes"), "failed": report.get("failures")}
    return {name: int(mapping(side).get("count") or 0) for name, side in sides.items()}


def _stage_start(folder: Path, number: int) -> int | None:
    """Epoch ns of a stage's start, from the llm-d report that it writes beside its own; None where there is none."""
    with suppress(OSError, yaml.YAMLError, ValueError):
        report = yaml.safe_load((folder / f"inference-perf.partial.stage_{number}.yaml").read_text())
        start = mapping(mapping(mapping(report).get("run")).get("time")).get("start")
        when = start if isinstance(start, datetime) else datetime.fromisoformat(str(start).replace("Z", "+00:00"))
        return round(when.timestamp() * _S)
    return None


def _to_epoch(
    parts: Sequence[list[Row] | None], starts: Sequence[int | None], file: Path, findings: list[Finding]
) -> None:
    """Moves the rows from the tool's clock to epoch time. A stage's load begins one second after the stage."""
    rows = [row for part in parts if part for row in part]
    begun = None if starts[0] is None else starts[0] + _S
    offset, finding = to_epoch(rows[0]["sent"], max(row["end"] for row in rows), file, start=begun)
    findings += [] if finding is None else [finding]
    for row in rows:
        row |= {k: row[k] + offset for k in ("sent", "first_token", "last_token", "end") if row.get(k) is not None}


def _loads(
    used: Mapping[str, Any], told: Sequence[Mapping[str, Any]], n: int, findings: list[Finding]
) -> list[dict[str, object]]:
    """What was asked of each stage. A report's own summary is believed over a configuration that is not of its run."""
    load = mapping(used.get("load"))
    asked = load.get("stages") or []
    out: list[dict[str, object]] = []
    for i in range(n):
        stage = mapping(asked[i]) if i < len(asked) and len(asked) == n else {}
        kind = load.get("type")
        summary = mapping(told[i].get("load_summary")) if i < len(told) else {}
        if (level := summary.get("concurrency")) is None and "requested_rate" not in summary:
            level = stage.get("concurrency_level")
        if stage.get("concurrency_level") != level:
            text = f"stage {i}: the configuration beside it asks for {stage}, the report is of {_told(summary)}"
            findings.append(plan.warning("inconsistent_data", text, "is it of another run? the report is believed"))
            stage, kind = {}, None
        rate = None if level else stage.get("rate") or summary.get("requested_rate")
        known = {"rate": rate, "concurrency": level, "arrival": kind if rate else None}
        if kind == "trace_replay":
            known = {"arrival": "trace"}
        out.append({k: v for k, v in known.items() if v is not None})
    return out


def _told(summary: Mapping[str, Any]) -> str:
    level = summary.get("concurrency")
    return f"{summary.get('requested_rate'):g} requests/s" if level is None else f"{level} streams"


def _stage(
    name: str, load: dict[str, object], rows: list[Row] | None, told: Mapping[str, Any], findings: list[Finding]
) -> NativeStage:
    records = None if rows is None else to_records(rows)
    figures = _aggregates(told, closed="concurrency" in load)
    own = _counted(told) if told else {}
    if own:
        own["sent"] = sum(own.values())
    if "successes" in told and "inter_token_latency" in mapping(mapping(told["successes"]).get("latency")):
        text = f"{TOOL}'s inter_token_latency is left out: it is made of re-tokenised text"
        why = "itl is recomputed from the arrivals of the chunks" if records is not None else None
        findings.append(plan.info("itl_recomputed", text, why))
    findings += inconsistencies(records, figures, _comparable(own, rows), where=f"{TOOL}, {name}")
    return NativeStage(
        name,
        load,
        records,
        figures,
        None if records is None else window(records),
        own if records is None else counts(records),
    )


def _comparable(own: dict[str, int], rows: list[Row] | None) -> dict[str, int]:
    """Its counts under our definition of success."""
    empty = sum(row.get("error_class") is ErrorClass.NO_CONTENT for row in rows or ())
    if not own:
        return {}
    return own | {"succeeded": own["succeeded"] - empty, "failed": own["failed"] + empty}


def _aggregates(told: Mapping[str, Any], *, closed: bool) -> dict[str, Scalar]:
    out: dict[str, Scalar] = {}
    good = mapping(told.get("successes"))
    for theirs, ours in _LATENCY.items():
        out |= statistics(ours, mapping(good.get("latency")).get(theirs))
    rates = mapping(good.get("throughput"))
    for theirs, (ours, unit) in _RATES.items():
        out |= measured(ours, rates.get(theirs), unit)
    for theirs, ours in (("prompt_tokens", "input_tokens"), ("output_tokens", "output_tokens")):
        out |= statistics(ours, good.get(theirs), unit="tokens")
    if not closed:  # of a closed loop, what it calls schedule is the order of its queue
        summary = mapping(told.get("load_summary"))
        out |= statistics("schedule_delay", summary.get("schedule_delay"))
        out |= measured("achieved_rate", summary.get("achieved_rate"), "requests/s")
    return out
