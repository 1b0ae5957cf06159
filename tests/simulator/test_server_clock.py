"""The real clock makes the same decisions as the virtual one: what a server did, replayed in virtual time from the
arrivals it saw, gives the same replicas and the same token times, however late the machine was."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.simulator.api import EngineRequest
from llm_d_benchmark.simulator.cluster import Ask, Cluster
from llm_d_benchmark.simulator.engine import Engine
from llm_d_benchmark.simulator.fleet import build_engines
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.simulator.progress import Progress
from llm_d_benchmark.simulator.router import Router
from llm_d_benchmark.simulator.tokens import Tokens
from llm_d_benchmark.simulator.virtual import VirtualLoop, VirtualReplica
from llm_d_benchmark.target.http import Http
from tests.simulator.serving import deployed

Times = dict[int, tuple[int, list[float]]]
"""By request: its replica, and when its tokens came."""


@dataclass
class Seen:
    """What the engines of a server were given."""

    engines: list[Engine] = field(default_factory=list)
    arrivals: list[tuple[EngineRequest, float]] = field(default_factory=list)
    progress: list[tuple[Engine, Progress]] = field(default_factory=list)

    def times(self) -> Times:
        numbers = {id(engine): number for number, engine in enumerate(self.engines)}
        return {p.request.request_id: (numbers[id(e)], p.token_times.tolist()) for e, p in self.progress}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Records every request that any engine gets."""
    record = Seen()
    submit: Callable[[Engine, EngineRequest, float], Progress] = Engine.submit

    def recording(engine: Engine, request: EngineRequest, now: float) -> Progress:
        progress = submit(engine, request, now)
        record.arrivals.append((request, now))
        record.progress.append((engine, progress))
        return progress

    def building(config: SimulatorTargetConfig, profile: Any) -> list[Engine]:
        record.engines = build_engines(config, profile)
        return record.engines

    monkeypatch.setattr(Engine, "submit", recording)
    monkeypatch.setattr("llm_d_benchmark.simulator.server.serve.build_engines", building)
    return record


def replay(config: SimulatorTargetConfig, arrivals: list[tuple[EngineRequest, float]]) -> Times:
    """The same requests at the same times in virtual time."""
    loop, router = VirtualLoop(), Router(config.router, config.seed)
    replicas = [VirtualReplica(e, loop, lambda _: None) for e in build_engines(config, load_profile(config))]
    found: dict[int, tuple[int, Progress]] = {}

    def arrive(request: EngineRequest) -> None:
        number = router.pick(request, replicas)
        found[request.request_id] = number, replicas[number].submit(request)

    for request, at in arrivals:
        loop.at(at, arrive, request)
    while loop.run(10_000):
        pass
    return {request_id: (number, p.token_times.tolist()) for request_id, (number, p) in found.items()}


async def burst(endpoint: Endpoint, count: int, rng: random.Random) -> None:
    """Requests of many sizes at random times, some with the same beginning."""

    async def one() -> None:
        await asyncio.sleep(rng.random())
        prompt = [7] * (16 * rng.randrange(40)) + [rng.randrange(9000) for _ in range(rng.randrange(1, 900))]
        tokens = rng.randrange(1, 60)
        async with Http(endpoint) as http:
            reply = await http.post("/v1/completions", {"prompt": prompt, "max_tokens": tokens})
        assert reply.ok, reply.text
        assert reply.body["usage"]["completion_tokens"] == len(reply.body["choices"][0]["text"].split()) == tokens

    await asyncio.gather(*(one() for _ in range(count)))


async def busy(seconds: float) -> None:
    """The machine has something else to do now and then, longer than a step or a transfer takes."""
    for _ in range(8):
        await asyncio.sleep(0.02)
        time.sleep(seconds)  # noqa: ASYNC251 - nothing else must run meanwhile


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"replicas": 3, "step_noise": 0.3, "failures": {"slow_replicas": {"1": 2.5}}},
        {"replicas": 2, "max_num_seqs": 4, "max_num_batched_tokens": 256, "router": {"policy": "least_requests"}},
        {"replicas": 2, "num_gpu_blocks": 110, "max_model_len": 1700, "router": {"policy": "prefix_aware"}},
        {"replicas": 2, "enable_prefix_caching": False, "router": {"policy": "random"}, "speed": 4.0},
    ],
)
async def test_a_replay_in_virtual_time_gives_the_same_times(config: dict[str, Any], seen: Seen) -> None:
    async with deployed(**config) as (router, *_):
        await burst(router, 40, random.Random(5))
    settings = SimulatorTargetConfig.model_validate(config)
    real, virtual = seen.times(), replay(settings, seen.arrivals[:40])
    assert len(real) == 40
    assert {r: replica for r, (replica, _) in real.items()} == {r: replica for r, (replica, _) in virtual.items()}
    for request, (_, times) in real.items():
        np.testing.assert_allclose(times, virtual[request][1], rtol=0, atol=1e-9)
    if settings.num_gpu_blocks:
        assert sum(p.preemptions for _, p in seen.progress) > 0


@pytest.mark.parametrize(("replicas", "prefill", "policy"), [(3, 1, "least_requests"), (4, 2, "round_robin")])
async def test_a_disaggregated_deployment_is_the_same_in_virtual_time(
    replicas: int, prefill: int, policy: str, seen: Seen
) -> None:
    config = {
        "replicas": replicas, "disaggregation": {"prefill_replicas": prefill, "transfer_latency": 0.02},
        "router": {"policy": policy},
    }  # fmt: skip
    rng = random.Random(8)
    prompts = [[*range(32), *(rng.randrange(9000) for _ in range(100 + k))] for k in range(30)]
    asks = {len(prompt): Ask(Tokens([prompt]), "m", False, 5 + k) for k, prompt in enumerate(prompts)}

    async def one(router: Endpoint, prompt: list[int]) -> None:
        await asyncio.sleep(rng.random())
        async with Http(router) as http:
            reply = await http.post("/v1/completions", {"prompt": prompt, "max_tokens": asks[len(prompt)].max_tokens})
        assert reply.ok, reply.text

    async with deployed(**config, model="m") as (router, *_):
        await asyncio.gather(busy(0.1), *(one(router, prompt) for prompt in prompts))
    answered = [p for e, p in seen.progress if e not in seen.engines[:prefill]]
    settings = SimulatorTargetConfig.model_validate({**config, "model": "m"})
    loop, replies = VirtualLoop(), {}
    cluster = Cluster(settings, load_profile(settings), loop)
    for request, at in seen.arrivals:
        if not request.transferred_tokens:
            loop.at(at, cluster.send, asks[request.prompt_tokens], partial(replies.__setitem__, request.request_id))
    while loop.run(10_000):
        pass
    assert len(answered) == len(replies) == 30
    for progress in answered:
        reply = replies[progress.request.request_id]
        np.testing.assert_allclose(progress.token_times, reply.times, rtol=0, atol=1e-6)


async def test_answers_that_nobody_asks_for_again_push_prefixes_out_of_the_cache_on_both_clocks() -> None:
    """One after another in a cache of 13 blocks: what was asked first has lost blocks to the answer of the second."""
    config = {"num_gpu_blocks": 13, "max_model_len": 160}
    asked = [(1, 1), (2, 64), (3, 1), (1, 1)]  # (which prompt of 4 blocks, tokens of the answer)

    served = []
    async with deployed(**config) as (router, *_):
        for which, tokens in asked:
            async with Http(router) as http:
                reply = await http.post("/v1/completions", {"prompt": [which] * 64, "max_tokens": tokens})
            served.append(reply.body["usage"]["prompt_tokens_details"]["cached_tokens"])

    settings = SimulatorTargetConfig.model_validate(config)
    loop, virtual = VirtualLoop(), []
    cluster = Cluster(settings, load_profile(settings), loop)
    for which, tokens in asked:
        cluster.send(Ask(Tokens([[which] * 64]), cluster.profile.model, chat=False, max_tokens=tokens), virtual.append)
        while loop.run(1000):
            pass
    assert served == [reply.cached_tokens for reply in virtual] == [0, 0, 0, 32]
