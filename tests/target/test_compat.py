"""Probes of API behaviours against a real server, as good or as bad as it is told to be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from llm_d_benchmark.analyze.comparison.behaviours import compare_behaviours
from llm_d_benchmark.config.target import LocalTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.target.api import TargetContext
from llm_d_benchmark.target.compat import PROBES, probe_api
from llm_d_benchmark.target.local import LocalTarget
from tests.support.openai_server import OpenAIServer


def endpoint(server: OpenAIServer) -> Endpoint:
    return Endpoint(url=server.url, model=server.model)


async def test_what_a_server_does_and_does_not_do() -> None:
    with OpenAIServer(ttft=0.001, itl=0.0001) as server:
        found = await probe_api(endpoint(server))
    assert list(found) == list(PROBES)
    for name in ("models", "chat", "completions", "chat streaming", "completions streaming", "usage", "content parts",
                 "usage when streaming", "max_tokens", "ignore_eos", "temperature 0 repeats", "/health"):  # fmt: skip
        assert found[name].works, (name, found[name])
    for name in ("logprobs", "tool calls", "JSON mode", "several answers (n)", "/metrics", "stop sequences"):
        assert not found[name].works, (name, found[name])


async def test_a_lost_behaviour_is_found() -> None:
    with OpenAIServer(ttft=0.001, itl=0.0001) as old, OpenAIServer(ttft=0.001, itl=0.0001) as new:
        new.behaviour = "no_usage"
        found = compare_behaviours(await probe_api(endpoint(old)), await probe_api(endpoint(new)))
    assert {b.name: b.change for b in found if b.change != "none"} == {"usage when streaming": "lost"}
    (lost,) = [b for b in found if b.change == "lost"]
    assert lost.message == "was: in the last event; is: not in the last event"


async def test_a_changed_behaviour_is_told_apart() -> None:
    with OpenAIServer(ttft=0.001, itl=0.0001) as old, OpenAIServer(ttft=0.001, itl=0.0001) as new:
        new.behaviour = "no_done"
        found = compare_behaviours(await probe_api(endpoint(old)), await probe_api(endpoint(new)))
    assert {b.name: b.change for b in found if b.change != "none"} == {
        "chat streaming": "changed",
        "completions streaming": "changed",
    }


async def test_a_server_that_breaks_off_is_an_outcome() -> None:
    with OpenAIServer(behaviour="refuse") as server:
        found = await probe_api(endpoint(server))
    assert not found["chat"].works
    assert found["chat"].said.startswith("no answer")
    assert found["models"].works


@pytest.mark.local_model
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the [local] extra is not installed")
async def test_a_real_model(tmp_path: Path) -> None:
    async with LocalTarget(LocalTargetConfig(context=2048)).open(TargetContext(tmp_path)) as real:
        found = await probe_api(real)
    for name in ("chat", "chat streaming", "usage", "max_tokens", "stop sequences", "JSON schema", "seed repeats"):
        assert found[name].works, (name, found[name])
