"""A replica's /metrics: vLLM's names, types, labels and buckets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .histogram import Histogram

TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
ITERATION_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CHOICES_BUCKETS = (1, 2, 5, 10, 20)
PREEMPTION_BUCKETS = (1, 2, 3, 4, 5, 10, 20)
TRANSFER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0)
BYTES_BUCKETS = tuple(2 ** (10 + k) for k in range(1, 25, 2))
LATENESS_BUCKETS = (5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
REASONS = ("stop", "length", "abort", "error")
LATE_S = 0.002
"""An emission later than this counts as late; one of the bounds above."""


def one_two_five(limit: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to ``limit``, as vLLM's buckets for tokens."""
    bounds = (m * 10**e for e in range(12) for m in (1, 2, 5))
    return [bound for bound in bounds if bound <= limit]


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine says of itself at one moment; the last three are totals, the last two in tokens. ``coming`` of the
    waiting ones wait for their KV cache."""

    running: int
    waiting: int
    coming: int
    kv_usage: float
    preemptions: int
    prefix_queries: int
    prefix_hits: int


class VllmMetrics(Collector):
    """Counts of one replica. The attributes are written by its driver, ``collect`` reads them.

    ``cached_tokens`` and ``received_tokens`` are parts of ``prompt_tokens``: found in the replica's own cache, and
    computed by another replica.

    Args:
        state: asked at every scrape.
        cache_config: labels of vllm:cache_config_info.
        receives: the replica gets KV caches from others; only then it has metrics of a KV connector, as vLLM does.
    """

    def __init__(
        self,
        model: str,
        engine: int,
        max_model_len: int,
        state: Callable[[], EngineState],
        cache_config: dict[str, str],
        *,
        receives: bool = False,
    ) -> None:
        self._labels = {"model_name": model, "engine": str(engine)}
        self._state, self._cache_config, self._receives = state, cache_config, receives
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.received_tokens = 0
        self.generation_tokens = 0
        self.rejected = 0
        self.finished: Counter[str] = Counter()
        self._histograms: list[Histogram] = []
        tokens = one_two_five(max_model_len)
        make = self._histogram
        self.ttft = make("time_to_first_token_seconds", "Histogram of time to first token in seconds.", TTFT_BUCKETS)
        self.itl = make("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", TOKEN_BUCKETS)
        self.tpot = make(
            "request_time_per_output_token_seconds", "Time per output token of a request in seconds.", TOKEN_BUCKETS
        )
        self.e2e = make("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", REQUEST_BUCKETS)
        self.queue = make("request_queue_time_seconds", "Time spent in WAITING phase for request.", REQUEST_BUCKETS)
        self.inference = make(
            "request_inference_time_seconds", "Time spent in RUNNING phase for request.", REQUEST_BUCKETS
        )
        self.prefill = make("request_prefill_time_seconds", "Time spent in PREFILL phase for request.", REQUEST_BUCKETS)
        self.decode = make("request_decode_time_seconds", "Time spent in DECODE phase for request.", REQUEST_BUCKETS)
        self.request_prompt = make("request_prompt_tokens", "Number of prefill tokens processed.", tokens)
        self.request_generation = make("request_generation_tokens", "Number of generation tokens processed.", tokens)
        self.max_tokens = make("request_params_max_tokens", "Histogram of the max_tokens request parameter.", tokens)
        self.computed = make(
            "request_prefill_kv_computed_tokens", "New KV tokens computed during prefill, cached ones left out.", tokens
        )
        self.most_generated = make(
            "request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", tokens
        )
        self.choices = make("request_params_n", "Histogram of the n request parameter.", CHOICES_BUCKETS)
        self.preempted = make(
            "request_num_preemptions", "Number of preemptions of a finished request.", PREEMPTION_BUCKETS
        )
        self.iteration = make("iteration_tokens_total", "Number of tokens per engine_step.", ITERATION_BUCKETS)
        if receives:
            self.transfer_time = make(
                "nixl_xfer_time_seconds", "Histogram of transfer duration for KV Cache transfers.", TRANSFER_BUCKETS
            )
            self.transfer_bytes = make(
                "nixl_bytes_transferred", "Histogram of bytes transferred per KV Cache transfer.", BYTES_BUCKETS
            )
        self.lateness = Histogram(
            "llm_d_benchmark_simulator_emission_lateness_seconds",
            "How long after its time by the model the kernel had a token.",
            LATENESS_BUCKETS,
            self._labels,
        )
        self._histograms.append(self.lateness)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...] | list[int]) -> Histogram:
        made = Histogram(f"vllm:{name}", documentation, buckets, self._labels)
        self._histograms.append(made)
        return made

    def fold_if_long(self) -> None:
        """Keep what waits to be counted bounded; called once a step. No other histogram is told more than these two, by
        the token and by the step."""
        if self.lateness.long or self.iteration.long:
            for histogram in self._histograms:
                histogram.fold()

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield self._gauge("num_requests_running", "Number of requests in model execution batches.", state.running)
        yield self._gauge("num_requests_waiting", "Number of requests waiting to be processed.", state.waiting)
        reasons = {"capacity": state.waiting - state.coming, "deferred": state.coming}
        yield self._by("reason", GaugeMetricFamily, "num_requests_waiting_by_reason", "Waiting requests.", reasons)
        yield self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", state.kv_usage)
        yield self._counter("num_preemptions", "Cumulative number of preemption from the engine.", state.preemptions)
        yield self._counter(
            "prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", state.prefix_queries
        )
        yield self._counter(
            "prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", state.prefix_hits
        )
        yield from self._tokens()
        yield self._by(
            "finished_reason",
            CounterMetricFamily,
            "request_success",
            "Count of successfully processed requests.",
            {reason: self.finished[reason] for reason in REASONS},
        )
        yield self._counter("admission_rejections", "Requests turned away because the queue was full.", self.rejected)
        for histogram in self._histograms:
            yield histogram.family()
        late = CounterMetricFamily(
            "llm_d_benchmark_simulator_emissions_late",
            f"Tokens written more than {LATE_S * 1000:g} ms after their time by the model.",
            labels=list(self._labels),
        )
        late.add_metric(list(self._labels.values()), self.lateness.above(LATE_S))
        yield late
        info = GaugeMetricFamily(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            labels=[*self._cache_config, "engine"],
        )
        info.add_metric([*self._cache_config.values(), self._labels["engine"]], 1)
        yield info

    def _tokens(self) -> Iterator[Metric]:
        there = self.cached_tokens + self.received_tokens
        sources = {
            "local_compute": self.prompt_tokens - there,
            "local_cache_hit": self.cached_tokens,
            "external_kv_transfer": self.received_tokens,
        }
        yield self._counter("prompt_tokens", "Number of prefill tokens processed.", self.prompt_tokens)
        yield self._by("source", CounterMetricFamily, "prompt_tokens_by_source", "Prompt tokens by source.", sources)
        yield self._counter("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", there)
        yield self._counter("generation_tokens", "Number of generation tokens processed.", self.generation_tokens)
        if self._receives:
            missing = self.prompt_tokens - self.cached_tokens
            yield self._counter("external_prefix_cache_queries", "Tokens asked of other replicas.", missing)
            yield self._counter("external_prefix_cache_hits", "Tokens got from other replicas.", self.received_tokens)

    def _gauge(self, name: str, documentation: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _counter(self, name: str, documentation: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _by(
        self,
        label: str,
        kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        documentation: str,
        values: Mapping[str, float],
    ) -> Metric:
        """One sample for each value of a label."""
        family = kind(f"vllm:{name}", documentation, labels=[*self._labels, label])
        for key, value in values.items():
            family.add_metric([*self._labels.values(), key], value)
        return family
