"""Upstream llm-d Benchmark Reports, v0.1 and v0.2, read as the results of the tools that they summarise.

They hold aggregates only. Two fields do not mean the same for every tool, because the converters copy each tool's own
names: ``inter_token_latency`` of guidellm and aiperf is what we call tpot, and that of inference-perf is split on
re-tokenised text, so it is no metric of ours and is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ..domain.errors import GeneratorError
from ..domain.events import Finding, Severity
from ..domain.result import Measured, Scalar
from .external.api import NativeResult, NativeStage

NAME = "llm-d-report"
LOOKED_FOR = "an llm-d Benchmark Report: YAML or JSON with version 0.1 or 0.2, scenario, and metrics or results"
_SUFFIXES = (".yaml", ".yml", ".json")
_LARGEST = 64 * 2**20
_TOOLS = {"vllm-benchmark": "vllm-bench", "vllm_benchmark": "vllm-bench", "inference_perf": "inference-perf"}
_SECONDS = {"s": 1.0, "ms": 1e-3, "s/token": 1.0, "ms/token": 1e-3}
_STATISTICS = {
    "mean": "mean", "stddev": "sd", "min": "min", "max": "max", "p0p1": "p0.1", "p1": "p1", "p5": "p5", "p10": "p10",
    "p25": "p25", "p50": "p50", "p75": "p75", "p90": "p90", "p95": "p95", "p99": "p99", "p99p9": "p99.9",
}  # fmt: skip
_LATENCIES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "normalized_time_per_output_token": "ntpot",
    "inter_token_latency": "itl",
    "request_latency": "e2e",
}
_RATES = {
    "output_token_rate": ("output_tokens_per_second", "tokens/s"),
    "input_token_rate": ("input_tokens_per_second", "tokens/s"),
    "total_token_rate": ("total_tokens_per_second", "tokens/s"),
    "request_rate": ("requests_per_second", "requests/s"),
    "output_tokens_per_sec": ("output_tokens_per_second", "tokens/s"),
    "input_tokens_per_sec": ("input_tokens_per_second", "tokens/s"),
    "total_tokens_per_sec": ("total_tokens_per_second", "tokens/s"),
    "requests_per_sec": ("requests_per_second", "requests/s"),
}
_ITL_IS_TPOT = frozenset({"guidellm", "aiperf"})
_ISO_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
_LoaderBase: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Json = Mapping[str, Any]


def parse(path: Path) -> list[NativeResult]:
    """The reports in a file or folder, one result for each tool that they are of, stages in the order of their files.

    Raises:
        GeneratorError: there is none; the message says what was looked for.
    """
    damaged: list[Finding] = []
    found = {file: report for file, report in _documents(path, damaged) if _is_report(report)}
    if not found:
        raise GeneratorError("\n".join([f"{path}: not found: {LOOKED_FOR}", *(f.message for f in damaged)]))
    stages: dict[str, list[NativeStage]] = {}
    findings: dict[str, list[Finding]] = {}
    about: dict[str, Json] = {}
    for report in _once_each(found):
        tool = _tool(report)
        notes = findings.setdefault(tool, [])
        stages.setdefault(tool, []).append(_stage(report, tool, len(stages.get(tool, [])), notes))
        about.setdefault(tool, report)
    next(iter(findings.values())).extend(damaged)
    return [
        NativeResult(tool, _version(about[tool]), stages[tool], findings[tool], _model(about[tool]), _url(about[tool]))
        for tool in stages
    ]


def _documents(path: Path, damaged: list[Finding]) -> Iterator[tuple[Path, Any]]:
    files = [path] if path.is_file() else sorted(p for s in _SUFFIXES for p in path.glob(f"*{s}"))
    for file in files:
        if file.suffix not in _SUFFIXES or file.stat().st_size > _LARGEST:
            continue
        try:
            text = file.read_text(encoding="utf-8")
            yield file, json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=_LoaderBase)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            text = f"{file.name} is not whole, or no {file.suffix.lstrip('.')} file: left out"
            damaged.append(Finding("left_out", Severity.WARNING, text, "was it cut off?"))


def _is_report(document: Any) -> bool:
    if not isinstance(document, Mapping) or not str(document.get("version", "")).startswith(("0.1", "0.2")):
        return False
    old, new = document.get("metrics"), _get(document, "results", "request_performance")
    return isinstance(document.get("scenario"), Mapping) and isinstance(old if old is not None else new, Mapping)


def _once_each(found: Mapping[Path, Json]) -> list[Json]:
    """Without reports that repeat another, as the main file of a run of several stages does."""
    seen: dict[str, Json] = {}
    for file, report in found.items():
        uid = _get(report, "run", "uid")
        seen.setdefault(str(file) if uid is None else f"uid {uid}", report)
    return sorted(seen.values(), key=lambda r: _number(_get(r, "scenario", "load", "standardized", "stage")) or 0.0)


def _stage(report: Json, tool: str, position: int, findings: list[Finding]) -> NativeStage:
    old = str(report["version"]).startswith("0.1")
    body = report["metrics"] if old else (_get(report, "results", "request_performance", "aggregate") or {})
    load = {} if old else (_get(report, "scenario", "load", "standardized") or {})
    number = load.get("stage")
    name = f"stage {position if number is None else number}"
    aggregates: dict[str, Scalar] = {}
    for key, own in _LATENCIES.items():
        aggregates |= _latency(_get(body, "latency", key), _ours(own, tool, _get(body, "latency") or {}, findings))
    for key, (own, unit) in _RATES.items():
        value = _get(body, "throughput", key)
        rate = _number(value.get("mean") if isinstance(value, Mapping) else value)
        if rate is not None:
            aggregates[own] = Measured(rate, unit)
    for side in ("input", "output"):
        length = _number(_get(body, "requests", f"{side}_length", "mean"))
        if length is not None:
            aggregates[f"{side}_length"] = Measured(length, "tokens")
    return NativeStage(
        name=name,
        load={"rate": _number(load.get("rate_qps")), "concurrency": _whole(load.get("concurrency"))},
        records=None,
        aggregates=aggregates,
        window=_window(_get(body, "time") if old else _get(report, "run", "time"), name, findings),
        counts=_counts(_get(body, "requests") or {}),
    )


def _ours(own: str, tool: str, latency: Json, findings: list[Finding]) -> str | None:
    """Our name of a latency; None where this tool's figure is no metric of ours."""
    if own != "itl":
        return own
    if tool in _ITL_IS_TPOT:
        return None if latency.get("time_per_output_token") else "tpot"
    if tool == "inference-perf" and latency.get("inter_token_latency"):
        text = "inference-perf splits its inter-token latency on re-tokenised text; it is left out"
        if all(f.message != text for f in findings):
            findings.append(Finding("itl_left_out", Severity.INFO, text, "import its per-request results to have itl"))
        return None
    return own


def _latency(figures: Any, name: str | None) -> dict[str, Scalar]:
    if not isinstance(figures, Mapping) or name is None or figures.get("units") not in _SECONDS:
        return {}
    factor = _SECONDS[str(figures["units"])]
    values = {ours: _number(figures.get(key)) for key, ours in _STATISTICS.items()}
    return {f"{name}.{ours}": Measured(v * factor, "s") for ours, v in values.items() if v is not None}


def _counts(requests: Json) -> dict[str, int]:
    names = {"total": "sent", "failures": "failed", "incomplete": "cancelled"}
    return {ours: n for key, ours in names.items() if (n := _whole(requests.get(key))) is not None}


def _window(time: Any, name: str, findings: list[Finding]) -> tuple[int, int] | None:
    if not isinstance(time, Mapping):
        return None
    start, end = (_epoch(time.get(k)) for k in ("start", "end"))
    end = _epoch(time.get("stop")) if end is None else end
    seconds = _duration(time.get("duration"))
    if start is None:
        return None
    if end is not None and seconds is not None and abs(end - start - seconds) > 1 + 0.1 * seconds:
        text = f"{name}: it started and ended {end - start:.6g} s apart, but says that it took {seconds:.6g} s"
        findings.append(Finding("inconsistent_data", Severity.WARNING, text, "its duration is used; check its source"))
    if seconds is None:
        seconds = max(0.0, (end if end is not None else start) - start)
    return round(start * 1e9), round((start + seconds) * 1e9)


def _epoch(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return _number(value)


def _duration(value: Any) -> float | None:
    found = _ISO_DURATION.fullmatch(value) if isinstance(value, str) else None
    if found:
        hours, minutes, seconds = (float(g or 0) for g in found.groups())
        return hours * 3600 + minutes * 60 + seconds
    return _number(value)


def _tool(report: Json) -> str:
    new = _get(report, "scenario", "load", "standardized", "tool")
    name = str(new or _get(report, "scenario", "load", "name") or "unknown")
    return _TOOLS.get(name, name)


def _version(report: Json) -> str | None:
    found = _get(report, "scenario", "load", "standardized", "tool_version")
    return None if found is None else str(found)


def _model(report: Json) -> str | None:
    stack: Sequence[Any] = _get(report, "scenario", "stack") or []
    found = [_get(c, "standardized", "model", "name") or _get(c, "standardized", "model") for c in stack]
    named = [m for m in (_get(report, "scenario", "model", "name"), *found) if isinstance(m, str)]
    return named[0] if named else None


def _url(report: Json) -> str | None:
    stack: Sequence[Any] = _get(report, "scenario", "stack") or []
    native = _get(report, "scenario", "load", "native", "config", "server", "base_url")
    found = [native, *(_get(c, "native", "config", "url") for c in stack)]
    return next((u for u in found if isinstance(u, str) and u.startswith("http")), None)


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return float(value) if good else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number != int(number) else int(number)
