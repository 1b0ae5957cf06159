"""AIPerf (NVIDIA): our stages as its YAML configuration, its per-request export as our records."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ...config.load import Length, LoadConfig
from ...domain.events import Finding
from ...domain.schedule import Stage
from ...workload.conversation import ConversationOptions
from ...workload.lengths import draw
from ...workload.seeds import Streams, Use
from ...workload.shared_prefix import SharedPrefixOptions
from ...workload.synthetic import SyntheticOptions
from ..external import plan
from ..external.api import Invocation, NativeResult, Requirement, ToolStage
from ..external.generator import ExternalLoadGenerator
from ..external.plan import common_findings, merged, tool_keys
from ..external.trace import trace_findings, trace_rows
from . import results
from .own_file import OWN_FILE

CONFIG = "aiperf.yaml"
TRACE = "trace.jsonl"
ARTIFACTS = "artifacts"
SECRET = "LLM_D_BENCHMARK_TOOL_SECRET_"
TEXT = "${LLM_D_BENCHMARK_TOOL_EMPTY:}"
"""Nothing, after a variable: aiperf makes a number of a value that is one variable and looks like one."""
MAX_ENTRIES = 10_000
"""Different prompts that it is told to make at most; it makes them before it starts."""
PER_SLOT_S = 10
GRACE_S = 600.0
_SLO = {"ttft": "time_to_first_token", "tpot": "inter_token_latency", "e2e": "request_latency"}
_PHASES = {"constant": "constant", "poisson": "poisson", "gamma": "gamma", "trace": "fixed_schedule"}


class AIPerf(ExternalLoadGenerator):
    """Adapter of aiperf 0.13."""

    name: ClassVar[str] = "aiperf"
    requirement: ClassVar[Requirement] = Requirement(
        packages=("aiperf==0.13.0",), python=">=3.11,<3.14", executable="aiperf"
    )
    own_file = OWN_FILE
    known: ClassVar[Mapping[str, str]] = {
        "concurrency": "aiperf does not keep every stream busy (of 512 a server saw 451)",
        "token_counts": "aiperf re-tokenises answers unless it is told to take the server's usage",
    }

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(_findings(config))

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        own = tool_keys(stage.config)
        over = own if "benchmark" in own else {"benchmark": own}
        config = merged(native_config(stage), over)
        # With a local tokenizer it must not be told to be offline.
        env: dict[str, str | None] = {"HF_HUB_OFFLINE": None, "TRANSFORMERS_OFFLINE": None}
        env |= {f"{SECRET}{i}": value for i, (_, value) in enumerate(_secrets(stage))}
        if stage.endpoint.secure and not stage.endpoint.tls.verify:
            env["AIPERF_HTTP_SSL_VERIFY"] = "false"
        else:
            env |= plan.tls_environment(stage.endpoint, self.name)
        program = str(stage.environment.bin / "aiperf")
        files = {CONFIG: yaml.safe_dump(config, sort_keys=False)}
        if _rows_given(stage.config):
            files[TRACE] = _rows(stage)
        return [Invocation([program, "profile", "--config", CONFIG], env, files)]

    def parse(self, path: Path) -> NativeResult:
        return results.parse(path)

    def tidy(self, folder: Path) -> None:
        """Removes its copy of the prompts."""
        for prompts in folder.rglob("inputs.json"):
            prompts.unlink()


def _findings(config: LoadConfig) -> Iterator[Finding]:
    name, kind = AIPerf.name, plan.workload_type(config)
    keys = {"parameters", "timeouts", "workload", "ramp"}
    yield from common_findings(name, config, arrivals_taken=_PHASES, keys_taken=keys)
    if kind not in ("synthetic", "shared_prefix", "conversation", "trace"):
        advice = "it can do synthetic, shared_prefix, conversation and trace; others by its own keys: native.datasets"
        yield plan.error("workload_unsupported", f"workload '{kind}' is not passed to {name}", advice)
    if kind == "trace":
        yield from trace_findings(name, config)
    if kind == "shared_prefix":
        shared = plan.options(SharedPrefixOptions, config)
        if shared.prefix_length.distribution != "fixed":
            yield plan.error("length_unsupported", f"{name}'s prefixes are all of one length", "give a plain number")
        yield plan.info(
            "prefixes_drawn", f"{name} draws a prefix for every prompt: groups are only about equally often"
        )
    if kind in ("shared_prefix", "conversation"):
        lost = [key for key, length in _lengths(config).items() if not _made(length)]
        if lost:
            text = f"{name} draws lengths of a {kind} that are fixed or normal without bounds: not {', '.join(lost)}"
            yield plan.error("length_unsupported", text, "give those, or use the native generator")
    if any(s.closed_loop and s.num_requests is None for s in plan.loads_of(config)):
        yield plan.info("prompts_repeat", f"{name} makes at most {MAX_ENTRIES} different prompts for a loop by time")
    yield plan.info("failures_without_end", f"{name} does not tell when a failed request ended: taken as when it began")


def _secrets(tool: ToolStage) -> list[tuple[str, str]]:
    """Names and values of what goes by the environment: the API key as ``Authorization``, and secret headers."""
    return sorted(plan.secret_headers(tool.endpoint).items())


def native_config(tool: ToolStage) -> dict[str, Any]:
    """The stage as aiperf's configuration file."""
    config, endpoint = tool.config, tool.endpoint
    headers: dict[str, str] = plan.plain_headers(endpoint)
    headers |= {name: f"${{{SECRET}{i}}}{TEXT}" for i, (name, _) in enumerate(_secrets(tool))}
    benchmark: dict[str, Any] = {
        "models": endpoint.model,
        "endpoint": {
            "urls": [endpoint.url],
            "type": tool.stage.endpoint,
            "streaming": tool.stage.streaming,
            "timeout": config.timeouts.total,
            "useServerTokenCount": True,
            "useLegacyMaxTokens": True,
            "headers": headers,
            "extra": dict(config.parameters),
        },
        "datasets": [_dataset(tool)],
        "phases": [_phase(tool.stage)],
        "artifacts": {"dir": ARTIFACTS, "summary": ["json"], "records": ["jsonl"]},
        "tokenizer": {"name": str(tool.tokenizer)},
        "gpuTelemetry": {"enabled": False},
        "serverMetrics": {"enabled": False},
        "runtime": {"ui": "none", "workers": config.workers or min(4, os.cpu_count() or 1)},
    }
    slos = {_SLO[k]: v * 1e3 for k, v in tool.goodput.items() if k in _SLO}
    if slos:
        benchmark["slos"] = slos
    return {"schemaVersion": "2.0", "randomSeed": plan.seed_of(config, tool.stage), "benchmark": benchmark}


def _phase(stage: Stage) -> dict[str, Any]:
    load = stage.load
    kind = str(load.arrival.get("type", "constant"))
    out: dict[str, Any] = {"name": "profiling", "type": _PHASES[kind] if load.open_loop else "concurrency"}
    if load.rate is not None:
        out["rate"] = load.rate
    if kind == "gamma":
        out["smoothness"] = load.arrival.get("burstiness", 1.0)
    if load.concurrency:
        out["concurrency"] = load.concurrency
    if load.ramp_s:
        out["concurrencyRamp"] = load.ramp_s
    if stage.num_requests is not None and kind != "trace":
        out["requests"] = stage.num_requests
    if stage.load_s is not None:
        out |= {"duration": stage.load_s, "gracePeriod": GRACE_S}
    return out


def _entries(stage: Stage) -> int:
    """As many different prompts as there will be requests, as far as that is known."""
    if stage.load.rate is not None:
        requests = plan.requests_at_rate(stage, stage.load.rate)
    elif stage.num_requests is not None:
        requests = stage.num_requests
    else:
        requests = math.ceil((stage.load.concurrency or 1) * (stage.load_s or 1.0) * PER_SLOT_S)
    return max(1, min(requests, MAX_ENTRIES))


def _lengths(config: LoadConfig) -> dict[str, Length]:
    """Of prompts, of answers, then what else the workload draws."""
    kind = plan.workload_type(config)
    if kind == "shared_prefix":
        shared = plan.options(SharedPrefixOptions, config)
        return {"question_length": shared.question_length, "output_length": shared.output_length}
    if kind == "conversation":
        talk = plan.options(ConversationOptions, config)
        return {"input_length": talk.input_length, "output_length": talk.output_length, "turns": talk.turns}
    made = plan.options(SyntheticOptions, config)
    return {"input_length": made.input_length, "output_length": made.output_length}


def _made(length: Length) -> bool:
    """Whether aiperf draws it. Of other distributions it takes the mean alone, and it knows no bounds."""
    return plan.normal(length) is not None and length.min is length.max is None


def _rows_given(config: LoadConfig) -> bool:
    """Whether it is told each request's lengths: of a trace, and of single requests whose lengths it would not draw."""
    kind = plan.workload_type(config)
    return kind == "trace" or (kind == "synthetic" and not all(map(_made, _lengths(config).values())))


def _dataset(tool: ToolStage) -> dict[str, Any]:
    config, kind = tool.config, plan.workload_type(tool.config)
    if _rows_given(config):
        return {"name": "main", "type": "file", "format": "mooncake_trace", "path": TRACE}
    out: dict[str, Any] = {"name": "main", "type": "synthetic", "entries": _entries(tool.stage)}
    if kind == "shared_prefix":
        shared = plan.options(SharedPrefixOptions, config)
        out["prefixPrompts"] = {"poolSize": shared.groups, "length": shared.prefix_length.value}
    elif kind == "conversation":
        talk = plan.options(ConversationOptions, config)
        out["turns"] = _distribution(talk.turns)
        if talk.system_length:
            out["prefixPrompts"] = {"sharedSystemLength": talk.system_length}
        if talk.think_time:
            out["turnDelay"] = talk.think_time * 1e3
    return out | {"prompts": dict(zip(("isl", "osl"), map(_distribution, _lengths(config).values()), strict=False))}


def _rows(tool: ToolStage) -> str:
    """The requests in Mooncake's form, in ms; without times of their own they are taken in order, over and over."""
    if plan.workload_type(tool.config) == "trace":
        timed = trace_rows(tool.config, tool.stage)
        rows = [
            {"timestamp": round(offset * 1e3, 3), "input_length": given, "output_length": asked}
            for offset, given, asked in timed
        ]
    else:
        streams = Streams(plan.seed_of(tool.config, tool.stage), Use.LENGTH)
        lengths = _lengths(tool.config)
        rows = [
            {name: draw(length, rng) for name, length in lengths.items()}
            for rng in map(streams.at, range(_entries(tool.stage)))
        ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _distribution(length: Length) -> dict[str, Any]:
    """Its form of a length that it draws."""
    if length.distribution == "fixed":
        return {"value": length.value}
    return {"mean": length.mean, "stddev": length.std_dev}
