"""The llm-d Benchmark Report v0.2 view of a run, as the PyPI package llmd-benchmark-report reads it.

That format describes one workload stage in one document, and its reader takes one document in one file. So a run of
one stage is one file; a run of several has one file for each stage, and the main file repeats the headline stage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from ..domain.result import (
    Absent,
    Distribution,
    DistributionOrAbsent,
    Lengths,
    Measured,
    RunResult,
    Scalar,
    StageResult,
)
from .api import ReportInput
from .format import iso, stage_title
from .verdict import headline_stage

VERSION = "0.2"
MAIN_FILE = "benchmark_report.yaml"
Json = dict[str, Any]

# The safe dumper and loader in C where PyYAML was built with them: ten times as fast.
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TOOL = "llm-d-benchmark"
_TOOLS = {"native": _TOOL, "virtual": _TOOL, "vllm-bench": "vllm-benchmark"}
_KEYS = {
    "p0.1": "p0p1", "p1": "p1", "p5": "p5", "p10": "p10", "p25": "p25", "p50": "p50", "p75": "p75", "p90": "p90",
    "p95": "p95", "p99": "p99", "p99.9": "p99p9",
}  # fmt: skip
_LENGTH_KINDS = {"fixed": "fixed", "normal": "gaussian", "uniform": "uniform"}


def render_benchmark_reports(source: ReportInput) -> dict[str, str]:
    """File name to YAML: ``benchmark_report.yaml``, and ``benchmark_report.stage-N.yaml`` for several stages.

    A run that measured nothing has no such report: the format has no way to say so.
    """
    headline = headline_stage(source.result)
    if headline is None:
        return {}
    stages = source.result.stages
    texts = {stage.index: _yaml(benchmark_report(source, stage)) for stage in stages}
    files = {MAIN_FILE: texts[headline[0].index]}
    if len(stages) > 1:
        files |= {f"benchmark_report.stage-{index}.yaml": text for index, text in texts.items()}
    return files


def benchmark_report(source: ReportInput, stage: StageResult) -> Json:
    """The report of one stage. What was not measured is left out."""
    result = source.result
    config = _generator_config(source.config_yaml, stage.load_generator)
    report: Json = _without_none(
        {
            "version": VERSION,
            "run": {
                "uid": f"{result.run_id}-{stage.index}",
                "eid": result.run_id,
                "time": {
                    "start": iso(stage.window.start),
                    "end": iso(stage.window.end),
                    "duration": f"PT{stage.window.seconds}S",
                },
                "description": _description(result, stage),
                "keywords": [result.status, *(["simulated"] if result.simulated else [])],
            },
            "scenario": {"stack": [_target(result)], "load": _load(result, stage, config)},
            "results": {
                "request_performance": {
                    "aggregate": {
                        "requests": _requests(stage),
                        "latency": _latency(stage),
                        "throughput": _throughput(stage),
                    }
                }
            },
        }
    )
    return report


def _description(result: RunResult, stage: StageResult) -> str:
    text = f"{result.name}, stage {stage_title(stage.name, stage.label)}"
    if not result.validity.valid:
        text += "; INVALID: " + "; ".join(reason.message for reason in result.validity.reasons)
    return text


def _target(result: RunResult) -> Json:
    target = result.target
    standardized = {
        "kind": "generic",
        "tool": target.server or target.type,
        "tool_version": str(target.info.get("version", "unknown")),
        "model": target.model,
    }
    return {
        "metadata": {"label": "target", "cfg_id": target.fingerprint or _digest(target.url)},
        "standardized": standardized,
        "native": {"config": {"type": target.type, "url": target.url, **target.info}},
    }


def _load(result: RunResult, stage: StageResult, config: Mapping[str, Any]) -> Json | None:
    """None where the input length is not known in any way: the format requires it."""
    metrics = stage.metrics
    input_length = _length(config.get("input_length"), metrics.input_length)
    if input_length is None:
        return None
    load = stage.load.get("load", stage.load)
    own = _TOOLS.get(stage.load_generator) == _TOOL
    return {
        "metadata": {"cfg_id": _digest(stage.load), "description": stage.label},
        "standardized": {
            "tool": _TOOLS.get(stage.load_generator, stage.load_generator),
            "tool_version": result.tool_version if own else _version(stage),
            "parallelism": max(1, len(result.validity.workers)),
            "source": _source(config),
            "stage": stage.index,
            "input_seq_len": input_length,
            "output_seq_len": _length(config.get("output_length"), metrics.output_length),
            "rate_qps": load.get("rate") or None,
            "concurrency": load.get("concurrency"),
        },
        "native": {"config": {"stage": dict(stage.load), "load_generator": dict(config)}},
    }


def _version(stage: StageResult) -> str:
    """Of the external tool that put the load."""
    tool = stage.load.get("tool")
    return str(tool.get("version") or "unknown") if isinstance(tool, Mapping) else "unknown"


def _source(config: Mapping[str, Any]) -> str:
    workload = config.get("workload") or {}
    kinds = {"synthetic": "random", "shared_prefix": "random", "conversation": "random", "dataset": "sampled"}
    return kinds.get(str(workload.get("type", "synthetic")), "unknown")


def _length(configured: object, lengths: Lengths) -> Json | None:
    """What was asked for: the configured distribution, else the mean asked for, else the mean that came."""
    if isinstance(configured, int):
        return {"distribution": "fixed", "value": configured}
    mean = next((v for v in (_value(lengths.asked), _value(lengths.achieved)) if v is not None), None)
    if not isinstance(configured, Mapping):
        return None if mean is None else {"distribution": "other", "value": mean}
    value = next((v for v in (configured.get("value"), configured.get("mean"), mean) if v is not None), None)
    if value is None:
        return None
    return {
        "distribution": _LENGTH_KINDS.get(str(configured.get("distribution")), "other"),
        "value": value,
        "std_dev": configured.get("std_dev"),
        "min": configured.get("min"),
        "max": configured.get("max"),
    }


def _requests(stage: StageResult) -> Json:
    metrics = stage.metrics
    return {
        "total": metrics.requests.sent,
        "failures": metrics.requests.failed,
        "incomplete": metrics.requests.cancelled,
        "input_length": _mean(metrics.input_length.achieved, "count"),
        "output_length": _mean(metrics.output_length.achieved, "count"),
    }


def _latency(stage: StageResult) -> Json:
    metrics = stage.metrics
    return {
        "time_to_first_token": _statistics(metrics.ttft, "s"),
        "normalized_time_per_output_token": _statistics(metrics.ntpot, "s/token"),
        "time_per_output_token": _statistics(metrics.tpot, "s/token"),
        "inter_token_latency": _statistics(metrics.itl, "s/token"),
        "request_latency": _statistics(metrics.e2e, "s"),
    }


def _throughput(stage: StageResult) -> Json:
    metrics = stage.metrics
    return {
        "input_token_rate": _mean(metrics.input_tokens_per_second, "tokens/s"),
        "output_token_rate": _mean(metrics.output_tokens_per_second, "tokens/s"),
        "total_token_rate": _mean(metrics.total_tokens_per_second, "tokens/s"),
        "request_rate": _mean(metrics.requests_per_second, "queries/s"),
    }


def _statistics(value: DistributionOrAbsent, units: str) -> Json | None:
    if not isinstance(value, Distribution):
        return None
    return {
        "units": units,
        "mean": value.mean,
        "stddev": value.sd,
        "min": value.min,
        **{_KEYS[key]: value.at(key) for key in value.percentiles if key in _KEYS},
        "max": value.max,
    }


def _mean(value: Scalar, units: str) -> Json | None:
    return None if isinstance(value, Absent) else {"units": units, "mean": value.value}


def _value(scalar: Scalar) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _generator_config(config_yaml: str, load_generator: str) -> Mapping[str, Any]:
    """``config`` of the first load generator of that type; empty where the file has none."""
    loaded = yaml.load(config_yaml, Loader=_Loader) or {}
    generators = ((loaded.get("spec") or {}).get("benchmark") or {}).get("load_generators") or []
    for generator in generators:
        if generator.get("type") == load_generator:
            return dict(generator.get("config") or {})
    return {}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _without_none(value: Any) -> Any:
    """The same without mapping entries that are None."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _yaml(document: Json) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
