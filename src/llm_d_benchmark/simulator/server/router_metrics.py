"""The router's /metrics: the llm-d router's names, and the older names of the same figures beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .clock import monotonic_ns
from .histogram import Histogram
from .replica import Replica
from .stream import LEFT, Answer

POOL = "simulator"
PRODUCER = "inflight-load-producer"
FOLD_EVERY = 1000
"""Requests after which what waits to be counted is counted."""
LATENCY_BUCKETS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120, 180,
    240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
TOKEN_BUCKETS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
SCHEDULER_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
COUNT_BUCKETS = (
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536, 131072, 262144, 524288, 1048576,
)  # fmt: skip
QUEUE_THRESHOLD, KV_CACHE_THRESHOLD = 5, 0.8
"""Of the llm-d router's utilization detector, which tells the saturation of the pool."""
NEW, OBJECTIVE, EXTENSION, POOL_OLD = (
    "llm_d_epp_",
    "inference_objective_",
    "inference_extension_",
    "inference_pool_",
)


class RouterMetrics(Collector):
    """Counts of the requests that came through the router; the pool's figures are taken from the replicas.

    Args:
        ready_at: monotonic ns until which no replica is ready.
    """

    def __init__(self, model: str, replicas: Sequence[Replica], ready_at: int) -> None:
        self._replicas, self._ready_at = replicas, ready_at
        self._model = {"model_name": model, "target_model_name": model}
        self.running = 0
        self.requests = 0
        self.errors: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()
        self.decisions: Counter[str] = Counter()
        model_labels = self._model
        self._duration = Histogram("request_duration_seconds", "Response latency.", LATENCY_BUCKETS, model_labels)
        self._ttft = Histogram("request_ttft_seconds", "Time to first token.", LATENCY_BUCKETS, model_labels)
        self._tpot = Histogram("request_streaming_tpot_seconds", "Time per output token.", TOKEN_BUCKETS, model_labels)
        self._ntpot = Histogram(
            "request_ntpot_seconds", "Response latency divided by output tokens.", TOKEN_BUCKETS, model_labels
        )
        self._input = Histogram("request_input_tokens", "Input tokens.", COUNT_BUCKETS, model_labels)
        self._output = Histogram("request_output_tokens", "Output tokens.", COUNT_BUCKETS, model_labels)
        self._cached = Histogram("request_cached_tokens", "Prompt tokens cached.", COUNT_BUCKETS, model_labels)
        self.scheduler = Histogram(
            "scheduler_e2e_duration_seconds", "End-to-end scheduling latency.", SCHEDULER_BUCKETS, {}
        )
        self._histograms = (
            self._duration, self._ttft, self._tpot, self._ntpot, self._input, self._output, self._cached,
            self.scheduler,
        )  # fmt: skip

    def picked(self, replica: int, seconds: float) -> None:
        """A replica was picked for a request, in so many seconds."""
        self.attempts[replica] += 1
        self.scheduler.observe(seconds)

    def answered(self, status: int) -> None:
        """A request came and was taken (200) or turned away."""
        self.requests += 1
        if status == 200:
            self.running += 1
        else:
            self.errors[status] += 1

    def ended(self, answer: Answer, status: int) -> None:
        """A request that was taken is over."""
        self.running -= 1
        if status != 200:
            if status != LEFT:
                self.errors[status] += 1
            return
        ttft, e2e = (answer.first - answer.arrived) * 1e-9, (answer.last - answer.arrived) * 1e-9
        self._duration.observe(e2e)
        self._ttft.observe(ttft)
        if answer.count > 1:
            self._tpot.observe((e2e - ttft) / (answer.count - 1))
        self._ntpot.observe(e2e / answer.count)
        self._input.observe(len(answer.ask.prompt))
        self._output.observe(answer.count)
        self._cached.observe(answer.cached or 0)
        if self.requests % FOLD_EVERY == 0:
            for histogram in self._histograms:
                histogram.fold()

    def collect(self) -> Iterator[Metric]:
        yield from self._pool()
        yield from self._per_replica()
        yield from self._counters()
        for histogram, old in (
            (self._duration, f"{OBJECTIVE}request_duration_seconds"),
            (self._ttft, f"{EXTENSION}request_ttft_duration_seconds"),
            (self._tpot, None),
            (self._ntpot, f"{OBJECTIVE}normalized_time_per_output_token_seconds"),
            (self._input, f"{OBJECTIVE}input_tokens"),
            (self._output, f"{OBJECTIVE}output_tokens"),
            (self._cached, f"{OBJECTIVE}prompt_cached_tokens"),
            (self.scheduler, f"{EXTENSION}scheduler_e2e_duration_seconds"),
        ):
            yield histogram.family(NEW + histogram.name)
            if old is not None:
                yield histogram.family(old)

    def _pool(self) -> Iterator[Metric]:
        states = [replica.state() for replica in self._replicas]
        pool = {"name": POOL}
        for what, values, documentation in (
            ("kv_cache_utilization", [s.kv_usage for s in states], "kv cache utilization, 0 to 1"),
            ("queue_size", [float(s.waiting) for s in states], "requests pending in the model server queue"),
            ("running_requests", [float(s.running) for s in states], "running requests of a model server"),
        ):
            for prefix in (NEW, POOL_OLD):
                yield _gauge(f"{prefix}average_{what}", f"Average {documentation}.", pool, fmean(values))
            yield _gauge(f"{NEW}std_dev_{what}", f"Standard deviation of {documentation}.", pool, pstdev(values))
        saturation = fmean(max(s.waiting / QUEUE_THRESHOLD, s.kv_usage / KV_CACHE_THRESHOLD) for s in states)
        yield _gauge(
            f"{NEW}flow_control_pool_saturation",
            "Mean over the replicas of queue or KV cache in use over its threshold, whichever is more.",
            {"inference_pool": POOL},
            saturation,
        )
        ready = len(states) if monotonic_ns() >= self._ready_at else 0
        yield _gauge(f"{NEW}ready_endpoints", "Ready endpoints in the pool.", pool, ready)
        yield _gauge(f"{POOL_OLD}ready_pods", "Ready pods in the pool.", pool, ready)
        for name in (f"{NEW}request_running", f"{OBJECTIVE}running_requests"):
            yield _gauge(name, "Requests under way.", {"model_name": self._model["model_name"]}, self.running)

    def _per_replica(self) -> Iterator[Metric]:
        for name, label in (
            (f"{NEW}per_endpoint_queue_size", "model_server_endpoint"),
            (f"{POOL_OLD}per_pod_queue_size", "model_server_pod"),
        ):
            family = GaugeMetricFamily(name, "Requests pending in the queue of a model server.", labels=["name", label])
            for replica in self._replicas:
                family.add_metric([POOL, endpoint_name(replica.number)], replica.engine.waiting)
            yield family
        inflight = GaugeMetricFamily(
            f"{NEW}inflight_requests",
            "Requests under way at a replica that the router sent there.",
            labels=["endpoint_name", "namespace", "producer_name"],
        )
        for replica in self._replicas:
            inflight.add_metric([endpoint_name(replica.number), "", PRODUCER], replica.routed)
        yield inflight
        attempts = CounterMetricFamily(
            f"{NEW}scheduler_attempts",
            "Scheduling attempts.",
            labels=["status", "target_model_name", "endpoint_name"],
        )
        for replica in self._replicas:
            attempts.add_metric(
                ["success", self._model["model_name"], endpoint_name(replica.number)], self.attempts[replica.number]
            )
        yield attempts
        if self.decisions:
            decisions = CounterMetricFamily(
                f"{NEW}disagg_decision", "Prefill/decode decisions.", labels=["model_name", "decision_type"]
            )
            for kind, times in sorted(self.decisions.items()):
                decisions.add_metric([self._model["model_name"], kind], times)
            yield decisions

    def _counters(self) -> Iterator[Metric]:
        for prefix in (f"{NEW}request", f"{OBJECTIVE}request"):
            total = CounterMetricFamily(prefix, "Requests.", labels=list(self._model))
            total.add_metric(list(self._model.values()), self.requests)
            yield total
            errors = CounterMetricFamily(f"{prefix}_error", "Failed requests.", labels=[*self._model, "error_code"])
            for status, times in sorted(self.errors.items()):
                errors.add_metric([*self._model.values(), str(status)], times)
            yield errors


def endpoint_name(replica: int) -> str:
    """How the router calls a replica."""
    return f"replica-{replica}"


def _gauge(name: str, documentation: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
