"""inference-perf (kubernetes-sigs): our stages as its config.yml, its per-request report as our records."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ...config.load import Length, LoadConfig
from ...domain.events import Finding
from ...domain.schedule import Stage
from ...workload.conversation import ConversationOptions
from ...workload.shared_prefix import SharedPrefixOptions
from ...workload.synthetic import SyntheticOptions
from ..external import plan
from ..external.api import Invocation, NativeResult, Requirement, ToolStage
from ..external.generator import ExternalLoadGenerator
from ..external.plan import common_findings, merged, tool_keys
from ..external.trace import Row, trace_findings, trace_rows
from . import results
from .own_file import OWN_FILE

REPORTS = "reports"
MAX_QUEUED = 200_000
"""Requests that inference-perf is given at most for a closed loop bounded by time: it queues them all beforehand."""
PER_SLOT_S = 50
MAX_PREPARED = 5_000
"""Prompts with shared prefixes that it makes at most; it makes them before it starts."""
UNCAPPED = 100_000
"""Requests of a worker at once, instead of its default of a hundred."""
TRACE = "trace.csv"
LAUNCH = "launch.py"
HEADERS_ENV = "LLM_D_BENCHMARK_TOOL_HEADERS"
SECONDS_ENV = "LLM_D_BENCHMARK_TOOL_SECONDS"

# inference-perf takes an API key only in its config, which it copies into its results, and ends a closed loop only
# after a number of requests.
LAUNCHER = f'''"""Starts inference-perf with headers that must be in no file, and ends a closed loop as Ctrl-C does."""

import json
import os
import signal
import sys
import threading

import aiohttp
from inference_perf.loadgen.load_generator import LoadGenerator
from inference_perf.main import main_cli

secret = json.loads(os.environ.pop("{HEADERS_ENV}", "{{}}"))
seconds = float(os.environ.get("{SECONDS_ENV}", "0"))
plain_session, plain_stage = aiohttp.ClientSession.__init__, LoadGenerator.run_stage


def session(self, *args, headers=None, **rest):
    plain_session(self, *args, headers={{**secret, **(headers or {{}})}}, **rest)


async def stage(self, *args, **rest):
    if seconds:  # the load begins one second after the stage
        timer = threading.Timer(seconds + 1, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    await plain_stage(self, *args, **rest)


aiohttp.ClientSession.__init__ = session
LoadGenerator.run_stage = stage
main_cli()
sys.stdout.flush()
os._exit(0)  # else it waits for ever to hand over the requests that were not needed
'''


class InferencePerf(ExternalLoadGenerator):
    """Adapter of inference-perf 0.7."""

    name: ClassVar[str] = "inference-perf"
    default_endpoint: ClassVar[str] = "completions"
    requirement: ClassVar[Requirement] = Requirement(
        packages=("inference-perf==0.7.0",),
        python=">=3.12,<3.14",
        executable="inference-perf",
        advice="inference-perf needs Python 3.12 or 3.13: install one beside this one (python.org, pyenv or uv)",
    )
    own_file = OWN_FILE
    known: ClassVar[Mapping[str, str]] = {
        "arrivals": "inference-perf draws exponential gaps for 'constant', too",
        "chunks": "inference-perf splits the text of a chunk by its own tokenizer",
        "definition.itl": "inference-perf splits chunk gaps on re-tokenised text",
    }

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(_findings(config))

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        config = merged(native_config(stage), tool_keys(stage.config))
        seconds = stage.stage.load_s if _timed_loop(stage.stage) else None
        secret = plan.secret_headers(stage.endpoint)
        files = {"config.yml": yaml.safe_dump(config, sort_keys=False)}
        if plan.workload_type(stage.config) == "trace":
            files[TRACE] = _trace_file(trace_rows(stage.config, stage.stage))
        env: dict[str, str | None] = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        env |= plan.tls_environment(stage.endpoint, self.name)
        program = [str(stage.environment.bin / "inference-perf")]
        if secret or seconds is not None:
            files[LAUNCH] = LAUNCHER
            program = [str(stage.environment.python), LAUNCH]
            env[HEADERS_ENV] = json.dumps(secret) if secret else None
            env[SECONDS_ENV] = None if seconds is None else f"{seconds:g}"
        return [Invocation([*program, "-c", "config.yml", "--log-level", "WARNING"], env, files)]

    def parse(self, path: Path) -> NativeResult:
        return results.parse(path)


def _timed_loop(stage: Stage) -> bool:
    return not stage.load.open_loop and stage.load_s is not None


def _findings(config: LoadConfig) -> Iterator[Finding]:
    name = InferencePerf.name
    keys = {"parameters", "timeouts", "retries", "workload"}
    yield from common_findings(name, config, arrivals_taken={"constant", "poisson", "trace"}, keys_taken=keys)
    kind = plan.workload_type(config)
    if kind == "trace":
        yield from trace_findings(name, config)
    elif kind not in ("synthetic", "shared_prefix", "conversation"):
        advice = "it can do synthetic, shared_prefix, conversation and trace; others by its own keys: native.data"
        yield plan.error("workload_unsupported", f"workload '{kind}' is not passed to {name}", advice)
    if config.endpoint == "chat" and "data" not in config.native:
        yield plan.error(
            "endpoint_unsupported",
            f"{name} sends its {kind} prompts to /v1/completions only",
            "set 'endpoint: completions', or name one of its chat data sources (such as shareGPT) under native.data",
        )
    loads = plan.loads_of(config)
    if any(s.rate is not None and s.arrival == "constant" for s in loads):
        yield plan.warning(
            "arrival_not_constant",
            f"{name}'s constant arrivals are random: exponential gaps, stretched to the duration (CV about 1)",
            "queueing makes latencies higher than with exact arrivals; use the native generator for those",
        )
    if any(s.rate is not None for s in loads):
        yield plan.info("arrival_seed_ignored", f"the seed does not fix {name}'s arrival times, only its prompts")
        if any(s.rate is not None and s.num_requests is not None for s in loads):
            yield plan.info(
                "requests_rounded", f"{name} runs a rate for whole seconds; the number of requests may differ"
            )
    if any(s.closed_loop and s.num_requests is None for s in loads):
        text = f"{name} cannot end a closed loop by time: it is ended as by Ctrl-C, and forgets what is in flight then"
        yield plan.info("closed_loop_timed", text)
    if any(s.closed_loop and s.num_requests is not None for s in loads):
        text = f"{name} lets the requests of a closed loop go over one second: with few, the concurrency is not reached"
        yield plan.info("closed_loop_start", text)
    yield plan.info("ttft_with_connect", f"{name}'s ttft includes connection set-up, which it does not tell apart")
    yield from plan.parameter_findings(name, config, {"ignore_eos"})
    if config.retries.max and set(config.retries.on) - {"connect"}:
        yield plan.warning("retries_differ", f"{name} retries only requests that got no response at all")
    yield from _length_findings(config, kind)


def _length_findings(config: LoadConfig, kind: str) -> Iterator[Finding]:
    options = plan.options(_OPTIONS[kind], config) if kind in _OPTIONS else None
    for key in type(options).model_fields if options is not None else ():
        length = getattr(options, key)
        if isinstance(length, Length) and length.distribution == "file":
            advice = "use fixed, uniform, normal or lognormal"
            yield plan.error("length_unsupported", f"inference-perf cannot take {key} from a file", advice)
    if isinstance(options, ConversationOptions) and options.think_distribution == "exponential" and options.think_time:
        yield plan.warning("think_time_constant", "inference-perf's time between turns is drawn in whole seconds")


_OPTIONS: dict[str, type[SyntheticOptions | SharedPrefixOptions | ConversationOptions]] = {
    "synthetic": SyntheticOptions,
    "shared_prefix": SharedPrefixOptions,
    "conversation": ConversationOptions,
}


def native_config(tool: ToolStage) -> dict[str, Any]:
    """The stage as inference-perf's config; strict, an unknown key would be refused."""
    config, stage, endpoint = tool.config, tool.stage, tool.endpoint
    api: dict[str, Any] = {"type": "chat" if config.endpoint == "chat" else "completion", "streaming": stage.streaming}
    if plain := plan.plain_headers(endpoint):
        api["headers"] = plain
    own = {"summary": True, "per_stage": True, "per_request": True, "use_server_output_tokens": True}
    fields = {"request": False, "response": False, "response_chunks": False, "computed_metrics": False}
    report: dict[str, Any] = {"request_lifecycle": {**own, "per_request_fields": fields}, "prometheus": None}
    if tool.goodput:
        named = {"e2e": "request_latency"}
        report["goodput"] = {"constraints": {named.get(k, k): v for k, v in tool.goodput.items()}}
    return {
        "api": api,
        "data": _data(tool),
        "load": _load(tool),
        "server": {
            "type": "vllm",
            "model_name": endpoint.model,
            "base_url": endpoint.url,
            "ignore_eos": bool(config.parameters.get("ignore_eos")),
        },
        "tokenizer": {"pretrained_model_name_or_path": str(tool.tokenizer)},
        "report": report,
        "storage": {"local_storage": {"path": REPORTS}},
    }


def _load(tool: ToolStage) -> dict[str, Any]:
    config, load = tool.config, tool.stage.load
    workers = config.workers or min(4, os.cpu_count() or 1)
    out: dict[str, Any] = {
        "interval": 0,
        "base_seed": plan.seed_of(config, tool.stage),
        "request_timeout": config.timeouts.total,
    }
    if config.retries.max:
        out |= {"request_retries": config.retries.max, "request_retry_backoff_sec": config.retries.backoff}
    stage: dict[str, float]
    if plan.workload_type(config) == "trace":
        # What the stage says has no effect: the trace has the times.
        stage = {"rate": 1.0, "duration": max(1, math.ceil(tool.stage.load_s or 1.0))}
        file = {"file": TRACE, "format": "AzurePublicDataset"}
        own = {"num_workers": workers, "worker_max_concurrency": UNCAPPED, "trace": file}
        return {"type": "trace_replay", "stages": [stage], **own, **out}
    if load.rate is None:
        level = load.concurrency or 1
        stage = {"num_requests": _loop_requests(tool.stage, level), "concurrency_level": level}
        return {"type": "concurrent", "stages": [stage], "num_workers": min(workers, level), **out}
    requests = plan.requests_at_rate(tool.stage, load.rate)
    stage = {"rate": load.rate, "duration": max(1, math.ceil(round(requests / load.rate, 6)))}
    # The cap holds per worker.
    workers = max(n for n in range(1, workers + 1) if not load.concurrency or load.concurrency % n == 0)
    cap = load.concurrency // workers if load.concurrency else UNCAPPED
    kind = "poisson" if load.arrival.get("type") == "poisson" else "constant"
    return {"type": kind, "stages": [stage], "num_workers": workers, "worker_max_concurrency": cap, **out}


def _loop_requests(stage: Stage, level: int) -> int:
    if stage.load_s is None:
        return stage.num_requests or 1
    enough = min(MAX_QUEUED, max(1000, math.ceil(level * stage.load_s * PER_SLOT_S)))
    return enough if stage.num_requests is None else min(enough, stage.num_requests)


def _data(tool: ToolStage) -> dict[str, Any]:
    config, kind = tool.config, plan.workload_type(tool.config)
    seed = plan.seed_of(config, tool.stage)
    if kind == "shared_prefix":
        shared = plan.options(SharedPrefixOptions, config)
        prefix = {
            "num_groups": shared.groups,
            "num_prompts_per_group": shared.prompts_per_group or _questions(tool.stage, shared.groups),
            "system_prompt_len": _distribution(shared.prefix_length),
            "question_len": _distribution(shared.question_length),
            "output_len": _distribution(shared.output_length),
            "seed": config.seed if shared.share_across_stages else seed,
        }
        return {"type": "shared_prefix", "shared_prefix": prefix}
    if kind == "conversation":
        talk = plan.options(ConversationOptions, config)
        replay: dict[str, Any] = {
            "seed": seed,
            "num_conversations": tool.stage.load.concurrency or 200,
            "shared_system_prompt_len": talk.system_length,
            "turns_per_conversation": _distribution(talk.turns),
            "input_tokens_per_turn": _distribution(talk.input_length),
            "output_tokens_per_turn": _distribution(talk.output_length),
        }
        if talk.think_time:
            top = max(1, math.ceil(talk.think_time))
            replay["tool_call_latency_sec"] = {"type": "fixed", "mean": talk.think_time, "min": 0, "max": top}
        return {"type": "conversation_replay", "conversation_replay": replay}
    if kind == "trace":
        return {"type": "random", "trace": {"file": TRACE, "format": "AzurePublicDataset"}}
    made = plan.options(SyntheticOptions, config)
    lengths = (made.input_length, made.output_length)
    return {"type": "random"} | dict(
        zip(("input_distribution", "output_distribution"), map(_distribution, lengths), strict=True)
    )


def _trace_file(rows: Sequence[Row]) -> str:
    """The trace in the form of Azure's public ones."""
    times = [datetime.fromtimestamp(offset, tz=UTC).strftime("%Y-%m-%d %H:%M:%S.%f") for offset, _, _ in rows]
    lines = [f"{time},{given},{asked}" for time, (_, given, asked) in zip(times, rows, strict=True)]
    return "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n"


def _questions(stage: Stage, groups: int) -> int:
    """Enough of a group that none is asked twice, as far as it is known how many there will be."""
    rate = stage.load.rate
    requests = (
        _loop_requests(stage, stage.load.concurrency or 1) if rate is None else plan.requests_at_rate(stage, rate)
    )
    return math.ceil(min(requests, MAX_PREPARED) / groups)


def _distribution(length: Length) -> dict[str, Any]:
    """Its form of a length; bounds are always given, because its own defaults would cut."""
    if length.distribution == "fixed":
        value = length.value or 1
        return {"type": "fixed", "mean": value, "min": value, "max": value, "std_dev": 0}
    low, high = length.min or 1, length.max or 10_000_000
    if length.distribution == "uniform":
        return {"type": "uniform", "min": low, "max": high, "mean": (low + high) / 2, "std_dev": 0}
    return {
        "type": length.distribution, "min": low, "max": high, "mean": length.mean, "std_dev": length.std_dev,
    }  # fmt: skip
