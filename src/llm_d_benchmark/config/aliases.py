"""The one table of names: which metric an SLO or alert means, which configuration key a factor sets.

Names are normalised, not guessed: ``p95_latency``, ``latency_p95`` and ``e2e.p95`` are the same statistic of the same
metric for every command, and a name that is in no table is an error with its nearest spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..domain.result import PERCENTILES
from .spelling import nearest

PERCENTILE_NAMES: tuple[str, ...] = tuple(name for name, _ in PERCENTILES)
STATISTICS: tuple[str, ...] = ("mean", "min", "max", *PERCENTILE_NAMES)

DISTRIBUTIONS: tuple[str, ...] = (
    "ttft", "tpot", "itl", "itl_per_token", "ntpot", "e2e", "connect", "ttft_scheduled", "e2e_scheduled",
    "schedule_delay", "cap_wait",
)  # fmt: skip
"""Metrics in seconds that need a statistic: one number per request or per chunk."""

SCALARS: Mapping[str, str] = MappingProxyType(
    {
        "output_tokens_per_second": "tokens/s",
        "input_tokens_per_second": "tokens/s",
        "total_tokens_per_second": "tokens/s",
        "requests_per_second": "requests/s",
        "batches_per_second": "batches/s",
        "goodput": "requests/s",
        "goodput_fraction": "fraction",
        "achieved_rate": "requests/s",
        "error_rate": "fraction",
        "concurrency": "",
        "prefix_hit_rate": "fraction",
        "cost_per_token": "USD/token",
        "cost_per_request": "USD/request",
        "gpu_utilization": "fraction",
        "memory_usage": "fraction",
        "cpu_utilization": "fraction",
        "network_io_rate": "bytes/s",
    }
)
"""Metrics that are one number per stage, with their unit."""

METRIC_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "latency": "e2e",
        "response_time": "e2e",
        "end_to_end_latency": "e2e",
        "time_to_first_token": "ttft",
        "time_per_output_token": "tpot",
        "inter_token_latency": "itl",
        "throughput": "output_tokens_per_second",
        "tokens_per_second": "output_tokens_per_second",
        "throughput_tokens_per_second": "output_tokens_per_second",
        "output_throughput": "output_tokens_per_second",
        "request_rate": "requests_per_second",
        "request_throughput": "requests_per_second",
        "error_rates": "error_rate",
        "gpu_utilization_percentage": "gpu_utilization",
        "memory_usage_percentage": "memory_usage",
        "cpu_utilization_percentage": "cpu_utilization",
    }
)

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "latency_percentiles": ("e2e.p50", "e2e.p95", "e2e.p99"),
        "resource_utilization": ("gpu_utilization", "memory_usage", "cpu_utilization", "network_io_rate"),
    }
)
"""Names that stand for several metrics, where a list of metrics is asked for."""

_LOWER_IS_BETTER = frozenset(
    {*DISTRIBUTIONS, "error_rate", "cost_per_token", "cost_per_request", "memory_usage", "cpu_utilization"}
)


@dataclass(frozen=True, slots=True)
class MetricRef:
    """A metric of result.json, and the statistic of it where it is a distribution.

    Attributes:
        metric: its name in ``Metrics`` (e2e, output_tokens_per_second, ...), or of a cost or resource.
        statistic: mean, min, max, p50, p90, p95, p99, p99.9; None for a scalar, or where none was asked for.
        unit: SI unit, as in ``domain.quantities.Quantity``.
        lower_is_better: direction of improvement.
    """

    metric: str
    statistic: str | None
    unit: str
    lower_is_better: bool

    @property
    def path(self) -> str:
        """``e2e.p95``, ``output_tokens_per_second``."""
        return f"{self.metric}.{self.statistic}" if self.statistic else self.metric


def parse_metric(name: str, *, statistic_needed: bool = False) -> MetricRef:
    """The metric a name means: ``p95_latency``, ``latency_p95``, ``ttft.p99``, ``throughput``, ``error_rate``.

    Args:
        statistic_needed: refuse a distribution without one, as a limit on "the latency" says nothing.

    Raises:
        ValueError: an unknown metric or statistic, with the nearest spelling.
    """
    base, statistic = _split(name.strip().lower())
    metric = METRIC_ALIASES.get(base, base)
    if metric in SCALARS:
        if statistic:
            raise ValueError(f"'{name}': {metric} is one number per stage and has no '{statistic}'")
        return MetricRef(metric, None, SCALARS[metric], metric in _LOWER_IS_BETTER)
    if metric not in DISTRIBUTIONS:
        known = [*DISTRIBUTIONS, *SCALARS, *METRIC_ALIASES, *(f"p95_{d}" for d in (*DISTRIBUTIONS, "latency"))]
        raise ValueError(f"'{name}' is not a metric (docs/configuration.md lists them){nearest(name, known)}")
    if statistic is not None and statistic not in STATISTICS:
        raise ValueError(f"'{name}': no statistic '{statistic}'; allowed: {', '.join(STATISTICS)}")
    if statistic is None and statistic_needed:
        raise ValueError(f"'{name}' is a distribution; say which value of it, for example p95_{base} or {base}.mean")
    return MetricRef(metric, statistic, "s", True)


def _split(name: str) -> tuple[str, str | None]:
    statistic = r"p\d+(?:\.\d+)?|mean|min|max|avg|average|median"
    for pattern in (
        r"(?P<b>[a-z]\w*)\.(?P<s>[a-z]\w*(?:\.\d+)?)",
        rf"(?P<s>{statistic})_(?P<b>\w+)",
        rf"(?P<b>\w+)_(?P<s>{statistic})",
    ):
        m = re.fullmatch(pattern, name)
        if m:
            return m["b"], {"avg": "mean", "average": "mean", "median": "p50"}.get(m["s"], m["s"])
    return name, None


def parse_metrics(name: str) -> tuple[MetricRef, ...]:
    """Like ``parse_metric``, where a list of metrics is wanted; also the groups ("resource_utilization").

    Raises:
        ValueError: an unknown name.
    """
    m = re.fullmatch(r"latency_percentiles(?:\s*\(([^)]*)\))?", name.strip())
    if m and m[1]:
        return tuple(parse_metric(f"e2e.{p.strip()}", statistic_needed=True) for p in m[1].split(","))
    if name in GROUPS:
        return tuple(parse_metric(n) for n in GROUPS[name])
    return (parse_metric(name),)


LOAD_PREFIX = "spec.benchmark.load_generators.*.config"

FACTORS: Mapping[str, str] = MappingProxyType(
    {
        "max_tokens": f"{LOAD_PREFIX}.output_length",
        "output_length": f"{LOAD_PREFIX}.output_length",
        "input_length": f"{LOAD_PREFIX}.input_length",
        "temperature": f"{LOAD_PREFIX}.parameters.temperature",
        "top_p": f"{LOAD_PREFIX}.parameters.top_p",
        "concurrency": f"{LOAD_PREFIX}.concurrency",
        "request_rate": f"{LOAD_PREFIX}.request_rate",
        "replicas": "spec.models.*.replicas",
    }
)
"""Factor name -> configuration key it sets; ``*`` stands for every entry of the list."""

BATCH_SIZE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "local": "spec.target.local.slots",
        "process": "spec.target.process.args.max_num_seqs",
        "simulator": "spec.target.simulator.max_num_seqs",
        "kubernetes": "spec.target.kubernetes.max_num_seqs",
    }
)
"""Target type -> key that ``batch_size`` sets: how many sequences the server decodes at once."""

FACTOR_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "batch_sizes": "batch_size",
        "max_num_seqs": "batch_size",
        "slots": "batch_size",
        "temperatures": "temperature",
        "concurrent_requests": "concurrency",
        "connections": "concurrency",
        "rate": "request_rate",
    }
)


def check_factor(name: str) -> str:
    """The canonical name of a factor: one of the table, or a dotted key such as ``spec.target.local.batch``.

    Raises:
        ValueError: neither.
    """
    canonical = FACTOR_ALIASES.get(name, name)
    if canonical == "batch_size" or canonical in FACTORS or canonical.startswith("spec."):
        return canonical
    known = ["batch_size", *FACTORS, *FACTOR_ALIASES]
    raise ValueError(
        f"'{name}' is not a factor{nearest(name, known)}; allowed: batch_size, {', '.join(FACTORS)}, "
        "or the path of a configuration key that starts with spec."
    )


def factor_key(name: str, target_type: str) -> str:
    """The configuration key a factor sets on this type of target.

    Raises:
        ValueError: an unknown factor, or a target whose batch size is not ours to set.
    """
    canonical = check_factor(name)
    if canonical.startswith("spec."):
        return canonical
    if canonical != "batch_size":
        return FACTORS[canonical]
    if target_type not in BATCH_SIZE_KEYS:
        raise ValueError(
            f"'{name}' sets how many sequences the server decodes at once, which a target of type '{target_type}' "
            f"cannot change; use one of: {', '.join(BATCH_SIZE_KEYS)}"
        )
    return BATCH_SIZE_KEYS[target_type]
