from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from llm_d_benchmark.config.target import LocalTargetConfig
from llm_d_benchmark.domain.errors import ConfigError, TargetError
from llm_d_benchmark.target import local_model
from llm_d_benchmark.target.api import TargetContext
from llm_d_benchmark.target.http import Http
from llm_d_benchmark.target.local import LocalTarget, server_cores
from llm_d_benchmark.target.probe import ServerProbe

needs_extra = pytest.mark.skipif(bool(local_model.missing_modules()), reason="the [local] extra is not installed")


def test_an_unknown_cache_type_is_a_mistake_of_configuration() -> None:
    with pytest.raises(ConfigError, match="did you mean 'q8_0'"):
        LocalTarget(LocalTargetConfig(cache_type_k="q8-0"))


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "MODULES", ("no_such_module",))
    with pytest.raises(TargetError, match="no_such_module") as caught:
        local_model.require_extra()
    assert caught.value.advice == "pip install 'llm-d-benchmark[local]'"


def test_the_plan_grows_with_the_context() -> None:
    small, large = (LocalTarget(LocalTargetConfig(context=c)).expected_memory() for c in (1024, 16384))
    assert large - small == 15360 * 18 * 256 * 4


@pytest.mark.local_model
@needs_extra
def test_the_model_is_made_once_by_many_at_once_and_repaired(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(local_model.packaged_model, [tmp_path] * 3))
    assert len(set(paths)) == 1
    assert list(tmp_path.iterdir()) == [paths[0]]
    os.truncate(paths[0], 1000)
    assert local_model.packaged_model(tmp_path).stat().st_size > 200 * 10**6


@pytest.mark.local_model
@needs_extra
async def test_a_real_model_answers_on_its_own_cores(tmp_path: Path) -> None:
    target = LocalTarget(LocalTargetConfig(slots=2, context=1024))
    async with target.open(TargetContext(tmp_path)) as endpoint:
        assert endpoint.model == "gemma-3-270m"
        assert endpoint.info["max_model_len"] == 512
        assert endpoint.pid is not None
        process = psutil.Process(endpoint.pid)
        assert process.memory_info().rss < target.expected_memory()
        if cores := server_cores():
            assert process.cpu_affinity() == cores == endpoint.info["cores"]
            assert set(cores) < os.sched_getaffinity(0)
        async with ServerProbe(endpoint) as probe:
            assert await probe.usage("completions", (2, 100, 200)) == 3
            assert len(await probe.tokenize("hello world") or []) == 2
            chat = await probe.streaming_check("chat")
            assert chat.ok
            assert chat.usage is not None
            assert chat.cached_tokens
            assert await probe.metrics_available()


@pytest.mark.local_model
@needs_extra
async def test_the_next_turn_of_a_conversation_computes_only_what_is_new(tmp_path: Path) -> None:
    """Also where the history is shorter than the model's sliding window."""
    said = " ".join(["the cat sat on the mat"] * 10)
    async with (
        LocalTarget(LocalTargetConfig(slots=2, context=1024)).open(TargetContext(tmp_path)) as endpoint,
        Http(endpoint) as http,
    ):

        async def answer(prompt: str) -> tuple[str, int, int]:
            body = {"model": endpoint.model, "prompt": prompt, "max_tokens": 8, "temperature": 0}
            done = (await http.post("/v1/completions", body)).body
            usage = done["usage"]
            return done["choices"][0]["text"], usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

        text, before, cached = await answer(said)
        assert cached == 0
        _, after, cached = await answer(said + text + " and then another hill")
        assert before <= cached < after
