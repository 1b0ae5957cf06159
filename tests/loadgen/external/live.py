"""Running a real tool for one stage, as far as it is installed here (``llm-d-benchmark generators install NAME``)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint, Secret
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.schedule import Stage
from llm_d_benchmark.loadgen.external.api import Adapter, Environment, ToolStage
from llm_d_benchmark.loadgen.external.environments import locate
from llm_d_benchmark.loadgen.external.tokenizer import tokenizer_folder
from llm_d_benchmark.workload.stages import stage_source
from tests.support.openai_server import Captured, OpenAIServer

API_KEY = "sk-not-for-any-file"
LIMIT_S = 120.0
INTERRUPTED_S = 5.0


def stage_of(config: LoadConfig, index: int = 0, endpoint: str = "completions") -> Stage:
    """The stage of a configuration."""
    kind = config.endpoint or endpoint
    source = stage_source(config, duration_s=10.0, warmup_s=0.0, cooldown_s=0.0, first_index=index, endpoint=kind)
    stage = source.next(None)
    assert stage is not None
    return stage


def tool_stage(
    adapter: Adapter,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    url: str = "http://127.0.0.1:9",
    environment: Environment | None = None,
    tokenizer: Path = Path("/tokenizer"),
    **endpoint: Any,
) -> ToolStage:
    """A stage for a tool; without an environment it can be translated, but not run."""
    config = LoadConfig.model_validate(settings)
    return ToolStage(
        stage_of(config, endpoint=adapter.default_endpoint),
        config,
        Endpoint(url, "test-model", **endpoint),
        environment or Environment(Path("/env/bin/python"), Path("/env/bin"), "0"),
        folder,
        tokenizer,
    )


def installed_or_skip(adapter: Adapter) -> Environment:
    environment = locate(adapter.name, adapter.requirement)
    if environment is None:
        pytest.skip(f"{adapter.name} is not installed: llm-d-benchmark generators install {adapter.name}")
    return environment


def run_live(
    adapter: Adapter,
    folder: Path,
    settings: Mapping[str, Any],
    behaviour: str | Callable[[int], str] = "ok",
    headers: Mapping[str, Any] | None = None,
    interrupt_after: int | None = None,
) -> tuple[Records, list[Captured], Any]:
    """Run the tool against a server of 20 ms to the first token and 5 ms between tokens.

    ``interrupt_after``: SIGINT as soon as the server has seen so many requests, of which it has to end at once.

    Returns:
        the records of its only stage, what the server saw, and the parsed result.
    """
    environment = installed_or_skip(adapter)
    tokenizer = tokenizer_folder(None)
    with OpenAIServer(ttft=0.02, itl=0.005, behaviour=behaviour, api_key=API_KEY, tokenize=None) as server:
        stage = tool_stage(
            adapter, folder, settings, url=server.url, environment=environment, tokenizer=tokenizer,
            api_key=Secret(API_KEY), headers=headers or {},
        )  # fmt: skip
        for invocation in adapter.invocations(stage):
            for name, text in invocation.files.items():
                (folder / name).write_text(text)
            env = {k: v for k, v in {**os.environ, **invocation.env}.items() if v is not None}
            command = list(invocation.argv)
            with (folder / "log").open("w") as log:
                tool = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
            try:
                if interrupt_after is not None:
                    while len(_inference(server)) < interrupt_after and tool.poll() is None:
                        time.sleep(0.01)
                    tool.send_signal(signal.SIGINT)
                code = tool.wait(LIMIT_S if interrupt_after is None else INTERRUPTED_S)
            finally:
                tool.kill()
            assert code == 0, (folder / "log").read_text()[-3000:]
        seen = _inference(server)
    result = adapter.parse(folder)
    assert len(result.stages) == 1
    records = result.stages[0].records
    assert records is not None
    assert not [f for f in folder.rglob("*") if f.is_file() and API_KEY.encode() in f.read_bytes()]
    return records, seen, result


def _inference(server: OpenAIServer) -> list[Captured]:
    return [r for r in list(server.requests) if r.method == "POST" and r.path.endswith("completions")]


def matched(records: Records, seen: list[Captured], *, clock: int) -> tuple[npt.NDArray[np.float64], ...]:
    """TTFT and TPOT (s) of the successes as the tool tells, then as the server knows them, each in order of sending.

    ``clock``: ns from the server's monotonic clock to epoch.
    """
    good = sorted((r for r in seen if r.sent), key=lambda r: r.received)
    ok = records.where(records.labels("status").is_("ok"))
    assert len(good) == len(ok)
    sent, first, last = (ok.ints(n) for n in ("sent", "first_token", "last_token"))
    truth_first = np.asarray([r.sent[0] - r.received for r in good]) / 1e9
    truth_gap = np.asarray([(r.sent[-1] - r.sent[0]) / (r.output_tokens - 1) for r in good]) / 1e9
    assert 0 <= np.median(np.sort([r.received for r in good]) + clock - sent) < 100e6, "sent before it was received"
    return (first - sent) / 1e9, (last - first) / (ok.ints("output_tokens") - 1) / 1e9, truth_first, truth_gap


def assert_true(records: Records, seen: list[Captured], *, clock: int) -> None:
    """TTFT, TPOT and start times are those that the server knows, as far as a busy machine allows.

    A starved client sees tokens late, but never early, and those of the fastest requests nearly in time.
    """
    ttft, tpot, true_ttft, true_tpot = matched(records, seen, clock=clock)
    assert 0 < ttft.min() - true_ttft.min() < 0.01
    assert 0 < np.quantile(ttft, 0.25) - np.quantile(true_ttft, 0.25) < 0.02
    assert abs(np.median(tpot) - np.median(true_tpot)) < 0.001
