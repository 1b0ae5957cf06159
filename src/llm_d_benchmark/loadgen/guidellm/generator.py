"""guidellm (vllm-project): our stages as its scenario file, its report as our records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ...config.load import Length, LoadConfig
from ...domain.events import Finding
from ...workload.synthetic import SyntheticOptions
from ..external import plan
from ..external.api import Invocation, LightInstall, NativeResult, Requirement, ToolStage
from ..external.generator import ExternalLoadGenerator
from ..external.plan import common_findings, merged, tool_keys
from . import results
from .own_file import OWN_FILE

VERSION = "0.8.1"
SCENARIO = "scenario.yaml"
LAUNCH = "launch.py"
MOST_WORKERS = 10

# Interrupted, guidellm ends without a report.
LAUNCHER = '''"""Runs guidellm; interrupted, it ends its load as at a limit, and writes its report."""

import signal

from guidellm.cli import cli
from guidellm.scheduler.constraints import request as limits

interrupted = []


def ending(evaluate):
    def decide(self, state, request_info):
        action = evaluate(self, state, request_info)
        if interrupted:
            action.request_queuing, action.request_processing = "stop", "stop_local"
        return action

    return decide


if __name__ == "__main__":
    for limit in (limits.MaxDurationConstraint, limits.MaxNumberConstraint):
        limit.__call__ = ending(limit.__call__)
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    cli()
'''

_TORCH = '''"""Stands in for torch in a light installation of guidellm, which uses only its data loader.

The datasets package asks of whatever it pickles whether it is one of these classes.
"""

from . import nn, utils


class Generator:
    def manual_seed(self, seed):
        return self


class Tensor(int):
    def share_memory_(self):
        return self


def tensor(value):
    return Tensor(value)
'''
_DATA = """from .dataloader import DataLoader
from .dataset import Dataset, IterableDataset


def get_worker_info():
    return None
"""
_DATASET = """from typing import Generic, TypeVar

T = TypeVar("T", covariant=True)


class Dataset(Generic[T]):
    pass


class IterableDataset(Dataset[T]):
    pass
"""
_LOADER = '''from typing import Generic, TypeVar

T = TypeVar("T", covariant=True)


class DataLoader(Generic[T]):
    """One item after another, in this process."""

    def __init__(self, dataset, batch_size=1, shuffle=False, collate_fn=None, **options):
        self.dataset = dataset
        self._collate = collate_fn or (lambda batch: batch)

    def __iter__(self):
        return (self._collate([item]) for item in self.dataset)
'''
LIGHT = LightInstall(
    bare=(f"guidellm=={VERSION}",),
    packages=(
        "click~=8.4.0", "culsans~=0.10.0", "datasets>=5.0.1,<6", "eval_type_backport", "faker", "ftfy>=6.0.0",
        "httpx[http2]<1.0.0", "jinja2", "loguru", "more-itertools>=10.8.0", "msgpack", "numpy>=2.0.0", "protobuf",
        "pydantic>=2.11.7", "pydantic-settings>=2.0.0", "pyyaml>=6.0.0", "rich", "sanic", "tabulate", "transformers",
        "typing-extensions>=4.15.0", "uvloop>=0.18", "websockets>=13.0",
    ),
    files={
        "torch/__init__.py": _TORCH,
        "torch/nn/__init__.py": "class Module:\n    pass\n",
        "torch/utils/__init__.py": "from . import data\n",
        "torch/utils/data/__init__.py": _DATA,
        "torch/utils/data/dataset.py": _DATASET,
        "torch/utils/data/dataloader.py": _LOADER,
    },
    note="without torch",
)  # fmt: skip


class GuideLLM(ExternalLoadGenerator):
    """Adapter of guidellm 0.8."""

    name: ClassVar[str] = "guidellm"
    requirement: ClassVar[Requirement] = Requirement(
        packages=(f"guidellm=={VERSION}",),
        python=">=3.10,<3.14",
        executable="guidellm",
        advice="--light leaves out torch: 0.6 GB instead of 6 GB",
        light=LIGHT,
    )
    own_file = OWN_FILE
    known: ClassVar[Mapping[str, str]] = {
        "concurrency": "guidellm caps its streams in each worker process (of 512 a server saw 172)",
        "definition.tpot": "guidellm weights the time per output token by tokens, not by requests",
    }

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(_findings(config))

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        own = tool_keys(stage.config)
        over = own if own.keys() & {"spec", "benchmarks"} else {"spec": own}
        scenario = merged({"spec": native_spec(stage)}, over)
        most = stage.config.workers or min(MOST_WORKERS, os.cpu_count() or 1)
        env: dict[str, str | None] = {"GUIDELLM__MAX_WORKER_PROCESSES": str(most), "HF_HUB_OFFLINE": "1"}
        env |= _secrets(stage)
        if stage.endpoint.secure and stage.endpoint.tls.ca_file:
            env["SSL_CERT_FILE"] = stage.endpoint.tls.ca_file
        argv = [str(stage.environment.python), LAUNCH, "run", "-c", SCENARIO, "--disable-console"]
        return [Invocation(argv, env, {SCENARIO: yaml.safe_dump(scenario, sort_keys=False), LAUNCH: LAUNCHER})]

    def parse(self, path: Path) -> NativeResult:
        return results.parse(path)


def _secrets(stage: ToolStage) -> dict[str, str | None]:
    """The API key and secret headers as its settings read them from the environment, under those of the scenario."""
    headers = plan.secret_headers(stage.endpoint)
    out: dict[str, str | None] = {}
    if stage.endpoint.api_key:
        headers.pop("Authorization", None)
        out["GUIDELLM__SPEC__BACKEND__API_KEY"] = stage.endpoint.api_key.reveal()
    for name, value in headers.items():
        out[f"GUIDELLM__SPEC__BACKEND__EXTRAS__HEADERS__{name.upper()}"] = value
    return out


def _findings(config: LoadConfig) -> Iterator[Finding]:
    name = GuideLLM.name
    keys = {"parameters", "timeouts", "ramp"}
    yield from common_findings(name, config, arrivals_taken={"constant", "poisson"}, keys_taken=keys)
    if plan.workload_type(config) == "synthetic":
        made = plan.options(SyntheticOptions, config)
        for key, length in (("input_length", made.input_length), ("output_length", made.output_length)):
            if length.distribution not in ("fixed", "uniform", "normal"):
                advice = "use fixed, uniform or normal"
                yield plan.error("length_unsupported", f"{name} has no {length.distribution} {key}", advice)
            elif length.distribution == "normal" and not float(length.mean or 0).is_integer():
                yield plan.info("length_rounded", f"{name} takes a whole number as the mean of {key}")
    yield plan.info(
        "no_chunk_times",
        f"{name} keeps no times of single tokens: itl is absent, and what it calls so is our tpot",
    )


def native_spec(tool: ToolStage) -> dict[str, Any]:
    """The stage as the ``spec`` of guidellm's scenario."""
    config, stage, endpoint = tool.config, tool.stage, tool.endpoint
    made = plan.options(SyntheticOptions, config)
    # guidellm asks for ignore_eos by itself wherever an output length is asked for.
    extras: dict[str, Any] = {"body": {"ignore_eos": False, **config.parameters}}
    if plain := plan.plain_headers(endpoint):
        extras["headers"] = plain
    backend = {
        "kind": "openai_http",
        "target": endpoint.url,
        "model": endpoint.model,
        "request_format": "/v1/chat/completions" if stage.endpoint == "chat" else "/v1/completions",
        "stream": stage.streaming,
        "verify": endpoint.tls.verify,
        "validate_backend": False,  # by /health, which not every server has; the set-up has asked it already
        "follow_redirects": False,
        "timeout": config.timeouts.total,
        "timeout_connect": config.timeouts.connect,
    }
    constraints = []
    if stage.num_requests is not None:
        constraints.append({"kind": "max_requests", "count": stage.num_requests})
    if stage.load_s is not None:
        constraints.append({"kind": "max_duration", "seconds": stage.load_s})
    return {
        "backend": {**backend, "extras": extras},
        "tokenizer": {"kind": "huggingface_auto", "model": str(tool.tokenizer)},
        "profile": _profile(tool),
        "data": [
            {"kind": "synthetic_text", **_length("prompt_tokens", made.input_length),
             **_length("output_tokens", made.output_length)}
        ],
        "seed": {"kind": "static", "value": plan.seed_of(config, stage)},
        "constraints": constraints,
        "metrics": {"kind": "generative", "sample_size": 0},
        "outputs": [{"kind": "json", "path": results.REPORT}],
    }  # fmt: skip


def _profile(tool: ToolStage) -> dict[str, Any]:
    load = tool.stage.load
    if load.rate is None:
        return {"kind": "concurrent", "streams": load.concurrency or 1, "rampup_duration": load.ramp_s}
    kind = "poisson" if load.arrival.get("type") == "poisson" else "constant"
    profile: dict[str, Any] = {"kind": kind, "rate": load.rate}
    if load.concurrency is not None:
        profile["max_concurrency"] = load.concurrency
    return profile


def _length(name: str, length: Length) -> dict[str, int]:
    if length.distribution == "fixed":
        return {name: length.value or 1}
    out = {f"{name}_{side}": bound for side, bound in (("min", length.min), ("max", length.max)) if bound is not None}
    if length.distribution == "uniform":
        return {name: ((length.min or 1) + (length.max or 1)) // 2, **out}
    return {name: round(length.mean or 1), f"{name}_stdev": max(1, round(length.std_dev or 1)), **out}


__all__ = ["GuideLLM"]
