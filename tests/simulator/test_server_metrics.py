"""Names, types and arithmetic of what /metrics shows."""

from __future__ import annotations

import asyncio

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.simulator.server.histogram import Histogram
from llm_d_benchmark.simulator.server.vllm_metrics import one_two_five
from llm_d_benchmark.target.http import Http
from tests.simulator.serving import deployed, scrape, total
from tests.simulator.test_server_api import post, request

VLLM = {
    "num_requests_running": "gauge", "num_requests_waiting": "gauge", "kv_cache_usage_perc": "gauge",
    "num_preemptions_total": "counter", "prefix_cache_queries_total": "counter", "prefix_cache_hits_total": "counter",
    "prompt_tokens_total": "counter", "generation_tokens_total": "counter", "request_success_total": "counter",
    "time_to_first_token_seconds": "histogram", "inter_token_latency_seconds": "histogram",
    "request_time_per_output_token_seconds": "histogram", "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram", "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram", "request_inference_time_seconds": "histogram",
    "request_prompt_tokens": "histogram", "request_generation_tokens": "histogram",
    "request_params_max_tokens": "histogram", "iteration_tokens_total": "histogram", "cache_config_info": "gauge",
    "prompt_tokens_cached_total": "counter", "request_prefill_kv_computed_tokens": "histogram",
    "num_requests_waiting_by_reason": "gauge", "prompt_tokens_by_source_total": "counter",
    "admission_rejections_total": "counter", "request_num_preemptions": "histogram", "request_params_n": "histogram",
    "request_max_num_generation_tokens": "histogram",
}  # fmt: skip
CONNECTOR = {
    "external_prefix_cache_queries_total": "counter", "external_prefix_cache_hits_total": "counter",
    "nixl_xfer_time_seconds": "histogram", "nixl_bytes_transferred": "histogram",
}  # fmt: skip
ROUTER = {
    "llm_d_epp_average_kv_cache_utilization": "gauge", "llm_d_epp_average_queue_size": "gauge",
    "llm_d_epp_average_running_requests": "gauge", "llm_d_epp_std_dev_queue_size": "gauge",
    "llm_d_epp_ready_endpoints": "gauge", "llm_d_epp_per_endpoint_queue_size": "gauge",
    "llm_d_epp_flow_control_pool_saturation": "gauge", "llm_d_epp_inflight_requests": "gauge",
    "llm_d_epp_request_running": "gauge", "llm_d_epp_request_total": "counter",
    "llm_d_epp_request_error_total": "counter", "llm_d_epp_scheduler_attempts_total": "counter",
    "llm_d_epp_request_ttft_seconds": "histogram", "llm_d_epp_request_ntpot_seconds": "histogram",
    "llm_d_epp_request_streaming_tpot_seconds": "histogram", "llm_d_epp_request_duration_seconds": "histogram",
    "llm_d_epp_request_cached_tokens": "histogram", "llm_d_epp_scheduler_e2e_duration_seconds": "histogram",
    "inference_pool_average_kv_cache_utilization": "gauge", "inference_pool_average_queue_size": "gauge",
    "inference_pool_average_running_requests": "gauge", "inference_pool_ready_pods": "gauge",
    "inference_pool_per_pod_queue_size": "gauge", "inference_extension_scheduler_e2e_duration_seconds": "histogram",
}  # fmt: skip
BUCKETS = (0.1, 0.5, 1.0, 7.5)


def vllm(names: dict[str, str]) -> dict[str, str]:
    return {f"vllm:{name}": kind for name, kind in names.items()}


async def types_of(endpoint: Endpoint) -> dict[str, str]:
    async with Http(endpoint) as http:
        reply = await http.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    lines = [line.split() for line in reply.text.splitlines() if line.startswith("# TYPE")]
    return {name: kind for _, _, name, kind in lines}


async def test_the_names_and_types_are_vllms_and_the_routers() -> None:
    async with deployed(replicas=2) as endpoints:
        types = [await types_of(endpoint) for endpoint in endpoints]
        labels = {dict(have).get("engine") for _, have in await scrape(endpoints[2])}
    assert ROUTER.items() <= types[0].items()
    assert vllm(VLLM).items() <= types[1].items()
    assert not vllm(CONNECTOR).keys() & types[1].keys()
    assert labels == {"1"}


async def test_a_replica_that_gets_kv_caches_tells_what_a_connector_would() -> None:
    rules = {"prefill_replicas": 1, "transfer_latency": 0.01, "transfer_bandwidth": 1e9}
    async with deployed(replicas=2, disaggregation=rules) as (router, prefill, decode):
        for tokens in (100, 100):  # of the second one 96 tokens are there already
            await post(router, "/v1/completions", prompt=list(range(tokens)), max_tokens=4)
        assert not vllm(CONNECTOR).keys() & (await types_of(prefill)).keys()
        assert vllm(CONNECTOR).items() <= (await types_of(decode)).items()
        samples = await scrape(decode)
    # The last prompt token is computed again: it gives the first token of the answer.
    assert total(samples, "vllm:external_prefix_cache_queries_total") == 100 + 4
    assert total(samples, "vllm:external_prefix_cache_hits_total") == 99 + 3
    sources = {"local_compute": 2, "local_cache_hit": 96, "external_kv_transfer": 102}
    for source, tokens in sources.items():
        assert total(samples, "vllm:prompt_tokens_by_source_total", source=source) == tokens
    assert total(samples, "vllm:prompt_tokens_total") == 200
    assert total(samples, "vllm:prompt_tokens_cached_total") == 198
    assert total(samples, "vllm:request_prefill_kv_computed_tokens_sum") == 2
    size = 104 * 131072  # of Llama 3.1 8B
    assert total(samples, "vllm:nixl_bytes_transferred_sum") == size
    assert total(samples, "vllm:nixl_xfer_time_seconds_sum") == pytest.approx(0.02 + size / 1e9)
    assert total(samples, "vllm:nixl_xfer_time_seconds_count") == 2


async def test_a_replica_is_sent_what_it_has_not_whatever_others_have() -> None:
    """One prompt three times, in turn to two replicas that decode: both get it whole, then one token goes."""
    rules = {"prefill_replicas": 1, "transfer_bandwidth": 1e9}
    async with deployed(replicas=3, router={"policy": "round_robin"}, disaggregation=rules) as (router, _, *decoding):
        for _ in range(3):
            await post(router, "/v1/completions", prompt=list(range(401)), max_tokens=2)
        first, second = [await scrape(replica) for replica in decoding]
        routed = await scrape(router)
    for samples, tokens, times in ((first, 401 + 1, 2), (second, 401, 1)):
        assert total(samples, "vllm:nixl_bytes_transferred_sum") == tokens * 131072
        assert total(samples, "vllm:nixl_bytes_transferred_count") == times
        assert total(samples, "vllm:prompt_tokens_by_source_total", source="external_kv_transfer") == 400
    assert total(routed, "llm_d_epp_scheduler_attempts_total") == 3


async def test_preemptions_and_rejections_are_told_by_request() -> None:
    """Two answers that fill the cache together: the newer one gives way, and a third is turned away."""
    config = {"num_gpu_blocks": 12, "max_model_len": 180, "max_num_seqs": 2, "failures": {"max_queue": 1}}
    async with deployed(speed=4, **config) as (router, replica):

        async def ask(word: int, delay: float) -> int:
            await asyncio.sleep(delay)
            return (await post(router, "/v1/completions", prompt=[word] * 64, max_tokens=100))[0]

        found = await asyncio.gather(ask(1, 0), ask(2, 0), ask(3, 0.005), ask(4, 0.01))
        samples, routed = await scrape(replica), await scrape(router)
    assert sorted(found) == [200, 200, 200, 429]
    assert total(samples, "vllm:admission_rejections_total") == 1
    assert total(samples, "vllm:request_num_preemptions_count") == 3
    preempted = total(samples, "vllm:request_num_preemptions_sum")
    assert preempted == total(samples, "vllm:num_preemptions_total") >= 1
    assert total(samples, "vllm:request_max_num_generation_tokens_sum") == 300
    assert total(samples, "vllm:request_params_n_sum") == 3
    assert total(routed, "llm_d_epp_inflight_requests") == 0


async def test_the_router_tells_what_is_under_way_and_how_full_the_pool_is() -> None:
    async with deployed(replicas=2, max_num_seqs=1) as (router, first, _):
        writers = []
        for endpoint in (first, first, first, router):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(request("/v1/completions", {"prompt": "a question", "max_tokens": 5000}))
            writers.append(writer)
            await asyncio.sleep(0.02)
        routed, waiting = await scrape(router), await scrape(first)
        for writer in writers:
            writer.close()
    assert total(waiting, "vllm:num_requests_waiting_by_reason", reason="capacity") == 2
    assert total(routed, "llm_d_epp_inflight_requests", endpoint_name="replica-0") == 0
    assert total(routed, "llm_d_epp_inflight_requests", endpoint_name="replica-1") == 1
    # two of five that may wait at the one, next to nothing at the other
    assert total(routed, "llm_d_epp_flow_control_pool_saturation") == pytest.approx(0.2, abs=0.01)


async def test_what_a_hit_and_a_queue_look_like() -> None:
    async with deployed(speed=20, max_num_seqs=1) as (router, replica):
        for _ in range(3):
            await post(router, "/v1/completions", prompt=list(range(100)), max_tokens=10)
        samples = await scrape(replica)
        assert total(samples, "vllm:prefix_cache_queries_total") == 300
        assert total(samples, "vllm:prefix_cache_hits_total") == 2 * 96
        assert total(samples, "vllm:prompt_tokens_cached_total") == 2 * 96
        assert total(samples, "vllm:request_prefill_kv_computed_tokens_sum") == 300 - 2 * 96
        assert total(samples, "vllm:cache_config_info", block_size="16") == 1
        assert total(samples, "vllm:request_params_max_tokens_sum") == 30
        assert total(samples, "vllm:request_queue_time_seconds_count") == 3
        assert total(samples, "vllm:inter_token_latency_seconds_count") == 27


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from(BUCKETS)), max_size=50))
def test_a_histogram_counts_as_the_prometheus_client_does(values: list[float]) -> None:
    reference = prometheus_client.Histogram("x", "x", buckets=BUCKETS, registry=None)
    ours = Histogram("x", "x", BUCKETS, {})
    for value in values:
        reference.observe(value)
        ours.observe(value)
    expected = {(s.name, s.labels.get("le")): s.value for m in reference.collect() for s in m.samples}
    for sample in ours.family().samples:
        assert abs(sample.value - expected[sample.name, sample.labels.get("le")]) < 1e-9
    assert ours.above(0.5) == sum(value > 0.5 for value in values)


def test_buckets_of_tokens() -> None:
    assert one_two_five(100) == [1, 2, 5, 10, 20, 50, 100]
