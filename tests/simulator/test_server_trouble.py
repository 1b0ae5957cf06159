"""What goes wrong on purpose, and clients that leave."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.target.http import Http
from tests.simulator.serving import deployed, scrape, total
from tests.simulator.test_server_api import post, raw, request, stream, streamed

ASK: dict[str, Any] = {"prompt": "hello", "max_tokens": 40}


async def statuses(endpoint: Endpoint, count: int) -> list[int]:
    return [(await post(endpoint, "/v1/completions", prompt="x", max_tokens=2))[0] for _ in range(count)]


async def test_refusals_come_at_their_rate_and_the_same_ones_each_time() -> None:
    failures = {"http_429_rate": 0.3, "http_500_rate": 0.3}
    async with deployed(speed=50, seed=3, failures=failures) as (router, replica):
        first = await statuses(router, 60)
        assert total(await scrape(router), "llm_d_epp_request_error_total", error_code="429") == first.count(429)
        assert total(await scrape(replica), "vllm:request_success_total") == first.count(200)
    async with deployed(speed=50, seed=3, failures=failures) as (router, _):
        assert await statuses(router, 60) == first
    assert all(8 <= first.count(status) <= 36 for status in (200, 429, 500))


async def test_what_counts_tokens_before_a_load_is_left_alone() -> None:
    async with deployed(failures={"http_500_rate": 1.0}) as (router, _):
        assert (await post(router, "/v1/completions", prompt="x", max_tokens=1))[0] == 200
        assert (await post(router, "/v1/completions", prompt="x", max_tokens=2))[0] == 500


async def test_a_429_says_when_to_come_again() -> None:
    async with deployed(failures={"http_429_rate": 1.0}) as (router, _), Http(router) as http:
        reply = await http.post("/v1/completions", ASK)
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")


async def test_a_full_queue_is_a_429() -> None:
    async with deployed(max_num_seqs=1, failures={"max_queue": 1}) as (router, _):
        asks = [post(router, "/v1/completions", **ASK) for _ in range(4)]
        found = sorted(status for status, _ in await asyncio.gather(*asks))
    assert found == [200, 200, 429, 429]


@pytest.mark.parametrize("most", [0, 1])
async def test_who_only_waits_for_a_step_is_not_in_the_queue(most: int) -> None:
    async with deployed(max_num_seqs=8, failures={"max_queue": most}) as (router, replica):
        asks = [post(router, "/v1/completions", **ASK) for _ in range(8)]
        assert {status for status, _ in await asyncio.gather(*asks)} == {200}
        assert total(await scrape(replica), "vllm:admission_rejections_total") == 0


async def test_a_full_queue_where_answers_are_made_is_an_error_at_the_router() -> None:
    """The first answer has the place, and the KV caches of all are still coming when the last is computed."""
    config = {"replicas": 2, "disaggregation": {"prefill_replicas": 1, "transfer_latency": 1}}
    async with deployed(max_num_seqs=1, failures={"max_queue": 3}, **config) as (router, _, decode):
        asks = []
        for _ in range(6):
            asks.append(asyncio.create_task(post(router, "/v1/completions", prompt="x", max_tokens=5)))
            await asyncio.sleep(0.05)
        coming = await scrape(decode)
        assert total(coming, "vllm:num_requests_waiting_by_reason", reason="deferred") == 4
        assert total(coming, "vllm:num_requests_waiting") == 4
        assert [status for status, _ in await asyncio.gather(*asks)] == [200] * 4 + [429] * 2
        seen = await scrape(router)
        assert total(await scrape(decode), "vllm:num_requests_waiting") == 0
    assert total(seen, "llm_d_epp_request_error_total", error_code="429") == 2
    assert total(seen, "llm_d_epp_request_running") == 0


async def test_a_stall_stops_a_stream_half_way_and_loses_nothing() -> None:
    failures = {"stall_rate": 1.0, "stall_time": 0.6}
    async with deployed(failures=failures) as (router, _):
        *times, _ = [time async for _, time in streamed(router, "/v1/completions", **ASK)]
        gaps = [b - a for a, b in pairwise(times)]
        assert len(times) == 40
        assert max(gaps) == pytest.approx(0.6, abs=0.2)
        assert gaps.index(max(gaps)) == 18  # the 20th token is late, and those made meanwhile with it
        began = time.monotonic()
        assert (await post(router, "/v1/completions", **ASK))[0] == 200
        assert time.monotonic() - began > 0.6


async def test_a_cut_breaks_the_connection_half_way() -> None:
    async with deployed(speed=10, failures={"cut_rate": 1.0}) as (router, replica):
        seen = [event async for event, _ in streamed(router, "/v1/completions", **ASK)]
        assert len(seen) == 19
        assert "[DONE]" not in seen
        samples = await scrape(replica)
    assert total(samples, "vllm:request_success_total", finished_reason="abort") == 1
    assert total(samples, "vllm:num_requests_running") == 0


async def test_a_cut_breaks_a_whole_answer_off_half_way() -> None:
    async with deployed(speed=10, failures={"cut_rate": 1.0}) as (router, replica):
        head, _, body = (await raw(router, request("/v1/completions", ASK))).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        [length] = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
        assert length // 3 < len(body) < length
        assert body.startswith(b'{"id":"cmpl-0"')
        assert total(await scrape(replica), "vllm:request_success_total", finished_reason="abort") == 1


async def test_a_slow_replica_takes_its_factor() -> None:
    least = float(load_profile(SimulatorTargetConfig()).cost.decode_steps(1, 2, 39).sum())
    async with deployed(replicas=2, failures={"slow_replicas": {"1": 4.0}}) as (_, *replicas):
        seconds = []
        for endpoint in replicas:
            await post(endpoint, "/v1/completions", **ASK)
            seconds.append(total(await scrape(endpoint), "vllm:e2e_request_latency_seconds_sum"))
    # A busy machine only adds to it.
    assert seconds[1] >= 4 * least
    assert least <= seconds[0] < seconds[1]


@pytest.mark.parametrize("disaggregation", [None, {"prefill_replicas": 1}])
async def test_a_client_that_leaves_frees_the_engine(disaggregation: dict[str, int] | None) -> None:
    async with deployed(replicas=2, max_num_seqs=1, disaggregation=disaggregation) as (router, *replicas):
        asks = [asyncio.create_task(stream(router, "/v1/completions", prompt="x", max_tokens=9000)) for _ in range(5)]
        await asyncio.sleep(0.3)
        assert sum([total(await scrape(r), "vllm:num_requests_running") for r in replicas]) >= 1
        for ask in asks:
            ask.cancel()
        await asyncio.sleep(0.2)
        samples = [await scrape(r) for r in replicas]
        assert sum(total(s, "vllm:num_requests_running") + total(s, "vllm:num_requests_waiting") for s in samples) == 0
        assert sum(total(s, "vllm:kv_cache_usage_perc") for s in samples) == 0
        assert total(await scrape(router), "llm_d_epp_request_running") == 0
        assert (await post(router, "/v1/completions", prompt="x", max_tokens=2))[0] == 200


async def test_prefill_and_decode_happen_on_different_replicas() -> None:
    rules = {"prefill_replicas": 1, "transfer_latency": 0.3}
    async with deployed(replicas=2, disaggregation=rules) as (router, prefill, decode):
        began = time.monotonic()
        *tokens, done = await stream(router, "/v1/completions", prompt=" word" * 500, max_tokens=6)
        assert time.monotonic() - began > 0.3
        assert (len(tokens), done) == (6, "[DONE]")
        first, second = await scrape(prefill), await scrape(decode)
        assert [total(s, "vllm:generation_tokens_total") for s in (first, second)] == [1, 6]
        assert [total(s, "vllm:prompt_tokens_total") for s in (first, second)] == [500, 500]
        computed = [total(s, "vllm:request_prefill_time_seconds_sum") for s in (first, second)]
        assert computed[1] < computed[0]
        assert total(await scrape(router), "llm_d_epp_disagg_decision_total") == 1


async def test_an_answer_is_in_the_prefix_cache_for_the_next_turn() -> None:
    async with deployed(speed=20) as (router, _):
        messages = [{"role": "user", "content": "one two three"}]
        _, answer = await post(router, "/v1/chat/completions", messages=messages, max_tokens=400)
        messages += [answer["choices"][0]["message"], {"role": "user", "content": "and then?"}]
        _, answer = await post(router, "/v1/chat/completions", messages=messages, max_tokens=1)
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == (8 + 400 - 1) // 16 * 16
