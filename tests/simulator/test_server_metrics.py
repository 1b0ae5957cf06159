"""Names, types and arithmetic of what /metrics shows."""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.simulator.server.histogram import Histogram
from llm_d_benchmark.simulator.server.vllm_metrics import one_two_five
from llm_d_benchmark.target.http import Http
from tests.simulator.serving import deployed, scrape, total
from tests.simulator.test_server_api import post

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
}  # fmt: skip
ROUTER = {
    "llm_d_epp_average_kv_cache_utilization": "gauge", "llm_d_epp_average_queue_size": "gauge",
    "llm_d_epp_average_running_requests": "gauge", "llm_d_epp_std_dev_queue_size": "gauge",
    "llm_d_epp_ready_endpoints": "gauge", "llm_d_epp_per_endpoint_queue_size": "gauge",
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


async def test_the_names_and_types_are_vllms_and_the_routers() -> None:
    async with deployed(replicas=2) as endpoints:
        types = []
        for endpoint in endpoints:
            async with Http(endpoint) as http:
                reply = await http.get("/metrics")
            assert reply.headers["Content-Type"].startswith("text/plain; version=")
            lines = [line.split() for line in reply.text.splitlines() if line.startswith("# TYPE")]
            types.append({name: kind for _, _, name, kind in lines})
        labels = {dict(have).get("engine") for _, have in await scrape(endpoints[2])}
    assert ROUTER.items() <= types[0].items()
    assert {f"vllm:{name}": kind for name, kind in VLLM.items()}.items() <= types[1].items()
    assert labels == {"1"}


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
