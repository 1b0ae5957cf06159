"""What the server, its host and its GPUs did over a stage's window, from their own metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..domain.result import Absent, Measured, Scalar
from .timeseries import Line, Lines

_S = 1e9
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
GPU_USE = ("DCGM_FI_DEV_GPU_UTIL", "gpu_utilization_percent")
GPU_MEMORY_USED, GPU_MEMORY_FREE = (
    ("DCGM_FI_DEV_FB_USED", "gpu_memory_used_mib"),
    ("DCGM_FI_DEV_FB_FREE", "gpu_memory_free_mib"),
)
GPU_POWER = ("DCGM_FI_DEV_POWER_USAGE", "gpu_power_watts")
MIB = 2.0**20


@dataclass(frozen=True, slots=True)
class Span:
    """The window a resource is looked at in, epoch ns."""

    lines: Lines
    start: int
    end: int

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / _S

    def grew(self, *metrics: str) -> float | None:
        return self.lines.growth(self.start, self.end, *metrics)

    def mean(self, *metrics: str, total: bool = False) -> float | None:
        return self.lines.mean(self.start, self.end, *metrics, total=total)

    def max(self, *metrics: str) -> float | None:
        return self.lines.max(self.start, self.end, *metrics)

    def per_second(self, *metrics: str) -> float | None:
        grown = self.grew(*metrics)
        return None if grown is None or self.seconds <= 0 else grown / self.seconds


def resources(lines: Lines, start: int, end: int) -> dict[str, Scalar]:
    """Every resource of a window by name; what nobody saw is absent with the reason."""
    span = Span(lines, start, end)
    found: dict[str, Scalar] = {}
    for name, (unit, read) in _READERS.items():
        value = read(span)
        found[name] = NOT_COLLECTED if value is None else Measured(value, unit)
    for name, metric in PHASES.items():
        value = _mean_of_histogram(span, metric)
        found[name] = NOT_COLLECTED if value is None else Measured(value, "s")
    return found


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _mean_of_histogram(span: Span, metric: str) -> float | None:
    return _ratio(span.grew(f"{metric}_sum"), span.grew(f"{metric}_count"))


def _host(span: Span, metric: str, source: str = "host") -> list[Line]:
    return [line for line in span.lines.named(metric) if line.series.source == source]


def _grew(span: Span, lines: list[Line]) -> float | None:
    grown = [g for line in lines if (g := line.growth(span.start, span.end)) is not None]
    return sum(grown) if grown else None


def _cpu(span: Span) -> float | None:
    """Share of this machine's cores that was busy."""
    return _ratio(_grew(span, _host(span, "cpu_busy_seconds_total")), _grew(span, _host(span, "cpu_seconds_total")))


def _server_cores(span: Span) -> float | None:
    """Cores that the server's processes used on average."""
    used = _grew(span, _host(span, "cpu_seconds_total", "server process"))
    return None if used is None or span.seconds <= 0 else used / span.seconds


def _memory(span: Span) -> float | None:
    return _ratio(span.mean("memory_used_bytes"), span.mean("memory_total_bytes"))


def _server_memory(span: Span) -> float | None:
    return span.mean("memory_resident_bytes", total=True)


def _network(span: Span) -> float | None:
    """Bytes/s in and out over every device of this machine, loopback apart."""
    lines = [
        line
        for metric in ("network_received_bytes_total", "network_sent_bytes_total")
        for line in span.lines.named(metric)
        if line.label("device") != "lo"
    ]
    grown = _grew(span, lines)
    return None if grown is None or span.seconds <= 0 else grown / span.seconds


def _percent(value: float | None) -> float | None:
    return None if value is None else value / 100


def _gpu_memory(span: Span) -> float | None:
    used, free = span.mean(*GPU_MEMORY_USED, total=True), span.mean(*GPU_MEMORY_FREE, total=True)
    return None if used is None or free is None else _ratio(used, used + free)


def _gpus(span: Span) -> float | None:
    """GPUs that were seen in the window."""
    seen = [line for line in span.lines.named(*GPU_USE) if line.mean(span.start, span.end) is not None]
    return float(len(seen)) if seen else None


_READERS: Mapping[str, tuple[str, Callable[[Span], float | None]]] = MappingProxyType(
    {
        "cpu_utilization": ("fraction", _cpu),
        "memory_usage": ("fraction", _memory),
        "network_io_rate": ("bytes/s", _network),
        "server_cpu_cores": ("cores", _server_cores),
        "server_memory": ("bytes", _server_memory),
        "gpu_utilization": ("fraction", lambda s: _percent(s.mean(*GPU_USE))),
        "gpu_memory_usage": ("fraction", _gpu_memory),
        "gpu_power": ("W", lambda s: s.mean(*GPU_POWER, total=True)),
        "gpus": ("", _gpus),
        "server_running": ("", lambda s: s.mean(*RUNNING, total=True)),
        "server_waiting": ("", lambda s: s.mean(*WAITING, total=True)),
        "server_waiting_max": ("", lambda s: s.max(*WAITING)),
        "kv_cache_utilization": ("fraction", lambda s: s.mean(*KV_USE)),
        "kv_cache_utilization_max": ("fraction", lambda s: s.max(*KV_USE)),
        "preemptions": ("", lambda s: s.grew(*PREEMPTIONS)),
        "server_prefix_hit_rate": ("fraction", lambda s: _ratio(s.grew(*PREFIX_HITS), s.grew(*PREFIX_QUERIES))),
        "server_input_tokens_per_second": ("tokens/s", lambda s: s.per_second(*PROMPT_TOKENS)),
        "server_output_tokens_per_second": ("tokens/s", lambda s: s.per_second(*OUTPUT_TOKENS)),
        "batches_per_second": ("batches/s", lambda s: s.per_second(*STEPS)),
    }
)
