"""What the server, its host and its GPUs did over a stage's window, from their own metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..domain.result import Absent, GpuUse, Measured, Scalar
from . import gpus, machines
from .span import Span, ratio
from .timeseries import Lines

NOT_COLLECTED = Absent("no collector saw it: the server has no such metric, or collectors were off")

# One name per meaning, whatever the engine calls it: vLLM, SGLang, TensorRT-LLM and TGI, llama.cpp.
RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "tgi_batch_current_size",
    "llamacpp:requests_processing",
)
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size", "llamacpp:requests_deferred")
KV_USE = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",
)
PREEMPTIONS = ("vllm:num_preemptions_total",)
PREFIX_HITS = ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")
PREFIX_QUERIES = ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
PROMPT_TOKENS = ("vllm:prompt_tokens_total", "sglang:prompt_tokens_total", "llamacpp:prompt_tokens_total")
OUTPUT_TOKENS = ("vllm:generation_tokens_total", "sglang:generation_tokens_total", "llamacpp:tokens_predicted_total")
STEPS = ("vllm:iteration_tokens_total_count", "llamacpp:n_decode_total")
PHASES: Mapping[str, str] = MappingProxyType(
    {
        "server_queue_time": "vllm:request_queue_time_seconds",
        "server_prefill_time": "vllm:request_prefill_time_seconds",
        "server_decode_time": "vllm:request_decode_time_seconds",
        "server_ttft": "vllm:time_to_first_token_seconds",
        "server_e2e": "vllm:e2e_request_latency_seconds",
    }
)


@dataclass(frozen=True, slots=True)
class Resources:
    """Every resource of a window by name; what nobody saw is absent with the reason. ``sources``: where each that was
    seen came from. ``gpus``: each by itself, where there are several."""

    values: Mapping[str, Scalar]
    sources: Mapping[str, str]
    gpus: Sequence[GpuUse]


def resources(lines: Lines, start: int, end: int) -> Resources:
    """What the series say of a window (epoch ns)."""
    values: dict[str, Scalar] = {}
    sources: dict[str, str] = {}
    for name, (unit, read) in _READERS.items():
        span = Span(lines, start, end)
        value = read(span)
        values[name] = NOT_COLLECTED if value is None else Measured(value, unit)
        if value is not None:
            sources[name] = span.told()
    return Resources(values, sources, gpus.each(Span(lines, start, end)))


def _mean_of_histogram(metric: str) -> Callable[[Span], float | None]:
    return lambda span: ratio(span.grew(f"{metric}_sum"), span.grew(f"{metric}_count"))


_READERS: Mapping[str, tuple[str, Callable[[Span], float | None]]] = MappingProxyType(
    {
        "cpu_utilization": ("fraction", machines.cpu_utilization),
        "memory_usage": ("fraction", machines.memory_usage),
        "network_io_rate": ("bytes/s", machines.network_io_rate),
        "server_cpu_cores": ("cores", machines.server_cpu_cores),
        "server_memory": ("bytes", machines.server_memory),
        "gpu_utilization": ("fraction", gpus.utilization),
        "gpu_memory_usage": ("fraction", gpus.memory_usage),
        "gpu_power": ("W", gpus.power),
        "gpus": ("", gpus.seen),
        "server_running": ("", lambda s: s.mean(*RUNNING, total=True)),
        "server_waiting": ("", lambda s: s.mean(*WAITING, total=True)),
        "server_waiting_max": ("", lambda s: s.max(*WAITING)),
        "kv_cache_utilization": ("fraction", lambda s: s.mean(*KV_USE)),
        "kv_cache_utilization_max": ("fraction", lambda s: s.max(*KV_USE)),
        "preemptions": ("", lambda s: s.grew(*PREEMPTIONS)),
        "server_prefix_hit_rate": ("fraction", lambda s: ratio(s.grew(*PREFIX_HITS), s.grew(*PREFIX_QUERIES))),
        "server_input_tokens_per_second": ("tokens/s", lambda s: s.per_second(*PROMPT_TOKENS)),
        "server_output_tokens_per_second": ("tokens/s", lambda s: s.per_second(*OUTPUT_TOKENS)),
        "batches_per_second": ("batches/s", lambda s: s.per_second(*STEPS)),
        **{name: ("s", _mean_of_histogram(metric)) for name, metric in PHASES.items()},
    }
)
