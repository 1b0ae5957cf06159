"""What a server does before it queues a request takes its time on both clocks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.simulator.cluster import Ask, Cluster, Reply
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.simulator.profiles.file import read_profile, write_profile
from llm_d_benchmark.simulator.profiles.profile import published
from llm_d_benchmark.simulator.tokens import Tokens
from llm_d_benchmark.simulator.virtual import VirtualLoop
from llm_d_benchmark.target.http import Http

from .serving import deployed, scrape, total

OVERHEAD_S = 0.3


@pytest.fixture
def profile(tmp_path: Path) -> str:
    return slow_door(tmp_path, OVERHEAD_S)


def slow_door(folder: Path, seconds: float) -> str:
    file = folder / "slow-door.yaml"
    write_profile(file, published(SimulatorTargetConfig()).model_copy(update={"request_overhead": seconds}))
    assert read_profile(file).request_overhead == seconds
    return str(file)


def virtual(
    profile: str, leave_at: float | None = None, count: int = 1, **config: object
) -> tuple[list[Reply], Cluster]:
    """The answers to requests at 0 s, and the cluster afterwards."""
    settings = SimulatorTargetConfig.model_validate({"profile": profile} | config)
    loop, replies = VirtualLoop(), list[Reply]()
    cluster = Cluster(settings, load_profile(settings), loop)
    for _ in range(count):
        exchange = cluster.send(Ask(Tokens([range(64)]), cluster.profile.model, False, max_tokens=4), replies.append)
    if leave_at is not None and exchange is not None:
        loop.at(leave_at, lambda: cluster.cancel(exchange))
    while loop.run(1000):
        pass
    return replies, cluster


def test_a_virtual_request_is_queued_after_it(profile: str) -> None:
    (late,), _ = virtual(profile)
    (plain,), _ = virtual("llama-3.1-8b/h100")
    assert late.times == pytest.approx(plain.times + OVERHEAD_S)
    (refused, answered), _ = virtual(profile, count=2, max_num_seqs=1, failures={"max_queue": 0})
    assert (refused.status, refused.retry_after, answered.status) == (429, 1.0, 200)
    nothing, cluster = virtual(profile, leave_at=OVERHEAD_S / 2)
    assert not nothing
    assert cluster.generated() == 0


async def test_a_real_request_is_queued_after_it(profile: str) -> None:
    async with deployed(profile=profile) as (router, replica):
        for endpoint in (router, replica):
            async with Http(endpoint) as http:
                body = {"model": endpoint.model, "prompt": "one two three", "max_tokens": 2}
                began = time.monotonic()
                assert (await http.post("/v1/completions", body)).ok
                assert OVERHEAD_S <= time.monotonic() - began < OVERHEAD_S + 0.25
        seen = await scrape(replica)
        assert total(seen, "vllm:time_to_first_token_seconds_count") == 2
        assert total(seen, "vllm:time_to_first_token_seconds_sum") < OVERHEAD_S  # the engine's own time


async def test_a_client_that_leaves_before_is_never_queued(tmp_path: Path) -> None:
    overhead = 1.2  # long enough for a busy machine to notice in time that the client has left
    async with deployed(profile=slow_door(tmp_path, overhead)) as (router, replica):
        body = b'{"prompt": "one two", "max_tokens": 2}'
        host, port = router.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await asyncio.sleep(0.05)
        running = "llm_d_epp_request_running"
        assert total(await scrape(router), running) == 1
        writer.close()
        await asyncio.sleep(overhead)
        assert total(await scrape(router), running) == 0
        assert total(await scrape(replica), "vllm:prompt_tokens_total") == 0


async def test_a_full_queue_is_told_after_it(profile: str) -> None:
    config = {"profile": profile, "max_num_seqs": 1, "failures": {"max_queue": 0}}
    async with deployed(**config) as (router, _), Http(router) as http:
        body = {"model": router.model, "prompt": "one", "max_tokens": 20}
        replies = await asyncio.gather(*(http.post("/v1/completions", body) for _ in range(3)))
        assert sorted((r.status, r.headers.get("Retry-After", "")) for r in replies) == [(200, ""), *[(429, "1")] * 2]
        seen = await scrape(router)
    assert total(seen, "llm_d_epp_request_total") == 3
    assert total(seen, "llm_d_epp_request_error_total", error_code="429") == 2
    assert total(seen, "llm_d_epp_request_running") == 0
