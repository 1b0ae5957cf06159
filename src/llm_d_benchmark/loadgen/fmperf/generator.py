"""fmperf (fmperf-project): our stages as its environment variables and sample requests, its rows as our records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from ...config.load import LoadConfig
from ...domain.errors import ConfigError
from ...domain.events import Finding
from ...domain.schedule import Stage
from ...workload.lengths import draw
from ...workload.seeds import Streams, Use
from ...workload.synthetic import SyntheticOptions
from ..external import plan
from ..external.api import Invocation, NativeResult, Requirement, ToolStage
from ..external.generator import ExternalLoadGenerator
from ..external.plan import common_findings, tool_keys
from . import results
from .own_file import OWN_FILE

SAMPLES = 1000
SAMPLE_TOKENS = 2_000_000
"""Prompt tokens of all sample requests together, at most: they are in one file and in memory."""
FIRST_ID, LAST_ID = 1000, 20_000
"""Range of the token ids of prompts; every vocabulary of the field has these."""
SPARE = 64
"""Rows beyond the tokens asked for that a response may have; fmperf dies of one that is longer than it expects."""
LAUNCH = "launch.py"

# Interrupted, fmperf's users go on until the time is over.
LAUNCHER = '''"""Runs fmperf; interrupted, its users end with the request they are at, and it writes its results."""

import signal

from fmperf.loadgen import run
from fmperf.utils import parse_results

interrupted = []


class Duration(run.Duration):
    def to_seconds(self):
        return 0 if interrupted else super().to_seconds()


run.Duration = Duration
signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
parse_results(run.run(), print_df=True)
'''
NATIVE: Mapping[str, str] = {
    "sample_size": "sample requests to draw from",
    "frac_greedy": "part of the requests with temperature 0, where parameters set none",
    "backoff": "pause of a user after a failure",
    "grace_period": "time after the end within which fmperf counts a token",
}


class FMPerf(ExternalLoadGenerator):
    """Adapter of fmperf at commit 8d85bc3, run from its source tree."""

    name: ClassVar[str] = "fmperf"
    default_endpoint: ClassVar[str] = "completions"
    requirement: ClassVar[Requirement] = Requirement(
        packages=(
            "durations==0.3.3", "kubernetes==24.2.0", "pandas>=2.2", "numpy>=1.26", "PyYAML>=6", "requests>=2.31",
            "grpcio>=1.60", "protobuf>=4.25", "pytest<9",
        ),
        python=">=3.10,<3.14",
        executable="-m fmperf.loadgen.run",
        advice="fmperf is on no package registry: clone its repository (github.com/fmperf-project/fmperf)",
        checkout="fmperf/loadgen/run.py",
    )  # fmt: skip
    own_file = OWN_FILE
    known: ClassVar[Mapping[str, str]] = {
        "concurrency": "fmperf opens a new connection for every request",
        "connections": "fmperf opens a connection for every request and counts it in",
    }

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(_findings(config))

    def runs(self, stage: Stage) -> Stage:
        """As a closed loop of the cap, bounded by time."""
        return replace(plan.as_closed_loop(stage), num_requests=None)

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        own = {k.lower(): v for k, v in tool_keys(stage.config).items()}
        env: dict[str, str | None] = {
            "PYTHONPATH": str(stage.environment.checkout),
            "TARGET": "vllm",
            "URL": _address(stage),
            "REQUESTS_DIR": ".",
            "REQUESTS_FILENAME": results.REQUESTS,
            "RESULTS_FILENAME": results.RESULTS,
            "NUM_USERS": str(stage.stage.load.concurrency),
            "DURATION": f"{stage.stage.load_s:g}s",
            "BACKOFF": str(own.get("backoff", "1s")),
            "GRACE_PERIOD": str(own.get("grace_period", "5s")),
            "PROM_URL": None,
        }
        requests = json.dumps(sample_requests(stage, own))
        argv = [str(stage.environment.python), LAUNCH]
        return [Invocation(argv, env, {results.REQUESTS: requests, LAUNCH: LAUNCHER})]

    def parse(self, path: Path) -> NativeResult:
        return results.parse(path)

    def tidy(self, folder: Path) -> None:
        results.tidy(folder)


def _address(stage: ToolStage) -> str:
    """Host, port and base path as fmperf wants them.

    Raises:
        ConfigError: an endpoint it cannot use.
    """
    endpoint = stage.endpoint
    if endpoint.secure:
        raise ConfigError("fmperf speaks http only, not https", advice="use another load generator for this server")
    if endpoint.api_key or endpoint.headers:
        raise ConfigError(
            "fmperf can send neither an API key nor headers", advice="use another load generator for this server"
        )
    parts = urlsplit(endpoint.url)
    return f"{parts.netloc}{parts.path.rstrip('/')}"


def sample_requests(stage: ToolStage, own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The requests that fmperf's users draw from, in the form its own generator writes: prompts of random token ids,
    of exactly the lengths asked for. ``expected`` is what it compares responses with, whose outcome is not used."""
    config = stage.config
    made = plan.options(SyntheticOptions, config)
    seed = plan.seed_of(config, stage.stage)
    lengths, prompts = Streams(seed, Use.LENGTH), Streams(seed, Use.PROMPT)
    greedy = float(own.get("frac_greedy", 1.0))
    out: list[dict[str, Any]] = []
    total = 0
    for k in range(int(own.get("sample_size", SAMPLES))):
        rng = lengths.at(k)
        size, answer, cold = draw(made.input_length, rng), draw(made.output_length, rng), rng.random() < greedy
        total += size
        if out and total > SAMPLE_TOKENS and "sample_size" not in own:
            break
        request = {
            "model": stage.endpoint.model,
            "prompt": prompts.at(k).integers(FIRST_ID, LAST_ID, size).tolist(),
            "ignore_eos": False,
            "max_tokens": answer,
            "seed": 42,
            "temperature": 0.0 if cold else 1.0,
            **config.parameters,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        shape = {"in_tokens": size, "out_tokens": answer, "is_greedy": bool(np.bool_(cold))}
        out.append({"config": shape, "request": request, "expected": [None] * (answer + SPARE)})
    return out


def _findings(config: LoadConfig) -> Iterator[Finding]:
    name = FMPerf.name
    yield from common_findings(name, config, arrivals_taken=(), keys_taken={"parameters"})
    if config.endpoint == "chat":
        yield plan.error(
            "endpoint_unsupported",
            "fmperf sends token ids to /v1/completions only; it cannot measure chat",
            "leave 'endpoint' out, or use another load generator",
        )
    if not config.streaming:
        yield plan.error("streaming_only", "fmperf always streams", "leave 'streaming' out")
    yield from plan.closed_loop_findings(name, config)
    yield from _count_findings(config)
    yield from _native_findings(config)
    if config.workers is not None:
        yield plan.warning("key_without_effect", "fmperf's users are threads of one process; 'workers' has no effect")
    yield plan.info("ttft_with_connect", "fmperf opens a connection for each request; its set-up is part of ttft")
    yield plan.info(
        "prompts_repeat",
        f"fmperf's users draw from up to {SAMPLES} prompts, again and again: a prefix cache will hit",
    )


def _count_findings(config: LoadConfig) -> Iterator[Finding]:
    for asked in plan.loads_of(config):
        if asked.num_requests is None:
            continue
        if asked.duration is None:
            yield plan.error(
                "requests_unsupported",
                "fmperf runs for a time, not for a number of requests",
                "set 'duration' instead of 'num_requests'",
            )
        else:
            yield plan.warning("requests_ignored", "fmperf runs for its duration; 'num_requests' does not end it")


def _native_findings(config: LoadConfig) -> Iterator[Finding]:
    for key in sorted(k for k in tool_keys(config) if k.lower() not in NATIVE):
        taken = ", ".join(NATIVE)
        yield plan.error(
            "native_keys",
            f"fmperf takes no native key '{key}' here; it takes {taken}",
            "load, lengths and duration are common keys: concurrency, input_length, output_length, duration",
        )
