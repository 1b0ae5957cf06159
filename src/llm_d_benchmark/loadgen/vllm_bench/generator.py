"""``vllm bench serve``: our stages as its command line, its detailed result as our records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from ...config.load import Length, LoadConfig
from ...domain.endpoint import Endpoint
from ...domain.errors import ConfigError
from ...domain.events import Finding
from ...domain.schedule import Stage
from ...workload.dataset import DatasetOptions
from ...workload.shared_prefix import SharedPrefixOptions
from ...workload.synthetic import SyntheticOptions
from ..external import plan
from ..external.api import Invocation, NativeResult, Requirement, ToolStage
from ..external.generator import ExternalLoadGenerator
from ..external.plan import common_findings, tool_keys
from . import results
from .own_file import OWN_FILE
from .results import NOT_SENT

RESULT = "vllm-bench.json"
LAUNCH = "launch.py"
SECONDS_ENV = "LLM_D_BENCHMARK_TOOL_SECONDS"
MAX_PROMPTS, PER_SLOT_S = 10_000, 10
"""Prompts that it makes beforehand for a closed loop by time: at most, and for each place and second."""
REGULAR = 1_000_000.0
"""Burstiness of constant arrivals: gaps with a CV of 0.1 %."""
_ENDPOINTS = {"completions": ("openai", "/v1/completions"), "chat": ("openai-chat", "/v1/chat/completions")}
_GOODPUT = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}

# vllm bench serve ends a closed loop only after a number of requests, and leaves no result where it is interrupted.
LAUNCHER = f'''"""Runs vllm bench serve; after a time, or interrupted, the requests that are left are not sent."""

import argparse
import os
import signal
import time

from vllm.benchmarks import serve
from vllm.benchmarks.lib.endpoint_request_func import ASYNC_REQUEST_FUNCS, RequestFuncOutput

seconds = float(os.environ.get("{SECONDS_ENV}", "inf"))
begun, interrupted = [], []


def timed(send):
    async def request(request_func_input, session, pbar=None):
        begun.append(time.perf_counter()) if not begun else None
        if interrupted or time.perf_counter() >= begun[0] + seconds:
            return RequestFuncOutput(error="{NOT_SENT}")
        return await send(request_func_input=request_func_input, session=session, pbar=pbar)

    return request


ASYNC_REQUEST_FUNCS.update({{name: timed(send) for name, send in ASYNC_REQUEST_FUNCS.items()}})
signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
'''
Flags = dict[str, Any]
"""Options by name without dashes: a value, a list of values, or True for one without a value."""


class VllmBench(ExternalLoadGenerator):
    """Adapter of ``vllm bench serve``, from an existing installation of vllm."""

    name: ClassVar[str] = "vllm-bench"
    default_endpoint: ClassVar[str] = "completions"
    requirement: ClassVar[Requirement] = Requirement(
        packages=(),
        python=">=3.9",
        executable="vllm",
        advice="vllm is never installed here: it needs several GB. Give the environment of yours as native.environment",
    )
    own_file = OWN_FILE

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(_findings(config))

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        flags = native_flags(stage)
        for key, value in tool_keys(stage.config).items():
            flags[key.lstrip("-").replace("_", "-")] = value
        env: dict[str, str | None] = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        if stage.endpoint.tls.verify:
            env |= plan.tls_environment(stage.endpoint, self.name)
        key = plan.secret_headers(stage.endpoint).get("Authorization", "").removeprefix("Bearer ")
        env["OPENAI_API_KEY"] = key or None
        env[SECONDS_ENV] = f"{stage.stage.load_s:g}" if _timed_loop(stage.stage) else None
        program = [str(stage.environment.python), LAUNCH]
        return [Invocation([*program, *arguments(flags)], env, {LAUNCH: LAUNCHER})]

    def parse(self, path: Path) -> NativeResult:
        return results.parse(path)

    def tidy(self, folder: Path) -> None:
        """Removes the generated texts from its results."""
        for result in folder.rglob("*.json"):
            with suppress(OSError, ValueError, RecursionError):
                content = json.loads(result.read_bytes())
                if isinstance(content, dict) and content.pop("generated_texts", None) is not None:
                    result.write_text(json.dumps(content))


def arguments(flags: Mapping[str, Any]) -> list[str]:
    """Options as a command line; one that is None or False is left out."""
    out: list[str] = []
    for name, value in flags.items():
        if value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, list | tuple) else [value]
        out += [f"--{name}", *(json.dumps(v) if isinstance(v, dict) else f"{v}" for v in values)]
    return out


def _findings(config: LoadConfig) -> Iterator[Finding]:
    name, kind = VllmBench.name, plan.workload_type(config)
    keys = {"parameters", "workload"}
    yield from common_findings(name, config, arrivals_taken={"constant", "poisson", "gamma"}, keys_taken=keys)
    if not config.streaming:
        yield plan.error("streaming_unsupported", f"{name} always asks for a stream", "use the native generator")
    loads = plan.loads_of(config)
    if any(s.closed_loop and (s.num_requests is None or s.duration is not None) for s in loads):
        text = f"{name} cannot end a closed loop by time: what it would send after that is left out"
        yield plan.info("closed_loop_timed", text, f"it makes at most {MAX_PROMPTS} prompts, and ends after them")
    if config.endpoint == "chat":
        yield plan.warning(
            "first_event_is_no_token",
            f"{name} takes the first event of a chat as the first token, even one with a role only and no content",
            "ttft may be too short and itl has a gap too many; use 'endpoint: completions'",
        )
    if any(s.rate is not None for s in loads):
        text = f"{name} stretches random arrivals so that their number fits the time: less varied than Poisson"
        yield plan.info("arrivals_normalised", text)
    if config.workers is not None:
        yield plan.warning("key_without_effect", f"{name} is one process: 'workers' has no effect")
    yield plan.info("ttft_with_connect", f"{name}'s ttft includes connection set-up, which it does not tell apart")
    if kind in ("synthetic", "shared_prefix"):
        yield from _length_findings(config, kind)
    elif kind == "dataset":
        options = plan.options(DatasetOptions, config)
        if not options.path.endswith((".json", ".jsonl")):
            yield plan.error(
                "dataset_unsupported", f"{name} cannot read {options.path}", "use .jsonl, or ShareGPT's .json"
            )
        if options.output_length is not None and options.output_length.distribution != "fixed":
            yield plan.error(
                "length_unsupported", f"{name} needs one output_length for a dataset", "give a plain number"
            )
        yield plan.warning("single_turn", f"{name} sends only the first turn of a conversation, and leaves out some")
    else:
        advice = "it can do synthetic, shared_prefix and dataset; others by its own options: native.dataset-name"
        yield plan.error("workload_unsupported", f"workload '{kind}' is not passed to {name}", advice)


def _length_findings(config: LoadConfig, kind: str) -> Iterator[Finding]:
    name = VllmBench.name
    if kind == "shared_prefix":
        shared = plan.options(SharedPrefixOptions, config)
        lengths = (shared.prefix_length, shared.question_length, shared.output_length)
        if any(length.distribution != "fixed" for length in lengths):
            yield plan.error("length_unsupported", f"{name}'s shared prefixes have fixed lengths", "give plain numbers")
        return
    made = plan.options(SyntheticOptions, config)
    for key, length in (("input_length", made.input_length), ("output_length", made.output_length)):
        if length.distribution not in ("fixed", "uniform"):
            advice = "use a number, or uniform with min and max"
            yield plan.error("length_unsupported", f"{name} cannot draw {key} as {length.distribution}", advice)
    if len({round(ratio(length), 6) for length in (made.input_length, made.output_length)}) > 1:
        yield plan.error(
            "length_unsupported",
            f"{name} spreads input_length and output_length by one and the same ratio",
            "make (max - min) / (max + min) of both equal, or both fixed",
        )
    if not config.parameters.get("ignore_eos"):
        yield plan.warning(
            "ignore_eos_forced",
            f"{name} has random prompts answered up to the asked length in any case",
            "set parameters.ignore_eos: true, with which every generator does",
        )


def _timed_loop(stage: Stage) -> bool:
    return not stage.load.open_loop and stage.load_s is not None


def ratio(length: Length) -> float:
    """Half the range of a length over its middle: 0 of a fixed one."""
    if length.distribution != "uniform":
        return 0.0
    low, high = length.min or 1, length.max or 1
    return (high - low) / (high + low)


def middle(length: Length) -> int:
    return length.value or round(((length.min or 1) + (length.max or 1)) / 2)


def native_flags(tool: ToolStage) -> Flags:
    """The stage as options of ``vllm bench serve``.

    Raises:
        ConfigError: a secret header, which could only be given where others can read it.
    """
    config, stage, endpoint = tool.config, tool.stage, tool.endpoint
    backend, path = _ENDPOINTS[stage.endpoint]
    extra = {k: v for k, v in config.parameters.items() if k != "ignore_eos"}
    limits = [f"{_GOODPUT[k]}:{v * 1e3:g}" for k, v in tool.goodput.items() if k in _GOODPUT]
    return {
        "backend": backend,
        "base-url": endpoint.url,
        "endpoint": path,
        "model": endpoint.model,
        "tokenizer": tool.tokenizer,
        "header": _headers(endpoint),
        **_load(stage),
        **_dataset(config, stage),
        "seed": plan.seed_of(config, stage),
        "ignore-eos": bool(config.parameters.get("ignore_eos")),
        "extra-body": extra or None,
        "goodput": limits or None,
        "insecure": endpoint.secure and not endpoint.tls.verify,
        "percentile-metrics": "ttft,tpot,itl,e2el",
        "metric-percentiles": "50,90,95,99,99.9",
        "save-result": True,
        "save-detailed": True,
        "result-dir": ".",
        "result-filename": RESULT,
        "disable-tqdm": True,
    }


def _headers(endpoint: Endpoint) -> list[str] | None:
    hidden = plan.secret_headers(endpoint).keys() - {"Authorization"}
    if hidden:
        raise ConfigError(
            f"{VllmBench.name} takes headers on its command line, where others can read {', '.join(sorted(hidden))}",
            advice="use the API key, or another generator",
        )
    return [f"{k}={v}" for k, v in plan.plain_headers(endpoint).items()] or None


def _load(stage: Stage) -> Flags:
    load = stage.load
    out: Flags = {"max-concurrency": load.concurrency}
    if load.rate is None:
        prompts = stage.num_requests
        if stage.load_s is not None:
            enough = max(100, math.ceil((load.concurrency or 1) * stage.load_s * PER_SLOT_S))
            prompts = min(enough, MAX_PROMPTS, *([] if prompts is None else [prompts]))
        return {"num-prompts": prompts or 1, **out}
    kind = load.arrival.get("type", "constant")
    burstiness = {"constant": REGULAR, "poisson": 1.0}.get(str(kind), load.arrival.get("burstiness", 1.0))
    requests = plan.requests_at_rate(stage, load.rate)
    return {"num-prompts": requests, "request-rate": load.rate, "burstiness": burstiness, **out}


def _dataset(config: LoadConfig, stage: Stage) -> Flags:
    kind = plan.workload_type(config)
    if kind == "shared_prefix":
        shared = plan.options(SharedPrefixOptions, config)
        return {
            "dataset-name": "prefix_repetition",
            "prefix-repetition-prefix-len": middle(shared.prefix_length),
            "prefix-repetition-suffix-len": middle(shared.question_length),
            "prefix-repetition-num-prefixes": shared.groups,
            "prefix-repetition-output-len": middle(shared.output_length),
        }
    if kind == "dataset":
        options = plan.options(DatasetOptions, config)
        form = "custom" if options.path.endswith(".jsonl") else "sharegpt"
        length = None if options.output_length is None else middle(options.output_length)
        path = str(Path(options.path).resolve())
        return {"dataset-name": form, "dataset-path": path, f"{form}-output-len": length}
    made = plan.options(SyntheticOptions, config)
    return {
        "dataset-name": "random",
        "random-input-len": middle(made.input_length),
        "random-output-len": middle(made.output_length),
        "random-range-ratio": round(ratio(made.input_length), 6) or None,
    }
