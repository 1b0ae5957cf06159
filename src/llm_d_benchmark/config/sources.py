"""What a run collects, from the blocks that say so: ``spec.data_pipeline``, ``spec.collectors``, ``spec.cluster``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..domain.events import Finding, Severity
from .model import BenchmarkConfig

SOURCES = frozenset({"prometheus_metrics", "application_logs", "system_metrics", "load_generator_data"})
STAGES = frozenset({"data_validation", "normalization", "aggregation", "outlier_detection"})
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "trend_analysis": "llm-d-benchmark trend",
        "optimization_recommendations": "llm-d-benchmark explore, then recommend",
    }
)
"""Report of the pipeline that no single run can make -> the command that does."""


def sources_of(config: BenchmarkConfig) -> frozenset[str]:
    """Sources that are collected: those that ``spec.data_pipeline`` names, else all."""
    pipeline = config.spec.data_pipeline
    return frozenset(pipeline.collection.sources if pipeline is not None else ()) or SOURCES


def prometheus_url(config: BenchmarkConfig) -> str | None:
    """Where Prometheus answers: ``spec.collectors.prometheus.url``, else the cluster's where that is enabled."""
    cluster = config.spec.cluster
    enabled = cluster is not None and cluster.monitoring.enabled
    return config.spec.collectors.prometheus.url or (cluster.monitoring.prometheus_url if cluster and enabled else None)


def pipeline_findings(config: BenchmarkConfig) -> Iterator[Finding]:
    """What of ``spec.data_pipeline`` is done in another way than it says."""
    pipeline = config.spec.data_pipeline
    if pipeline is None:
        return
    wanted = sources_of(config)
    if "prometheus_metrics" in wanted and pipeline.collection.sources and prometheus_url(config) is None:
        yield _info(
            "the source prometheus_metrics is the server's own /metrics page: nothing says where Prometheus answers",
            "set spec.collectors.prometheus.url to take its series, too",
        )
    if "load_generator_data" not in wanted:
        yield _info("the source load_generator_data is taken although it is not named: every result is made of it")
    if left_out := STAGES.difference(pipeline.processing.stages) if pipeline.processing.stages else None:
        yield _info(f"the processing stages {', '.join(sorted(left_out))} are done although they are not named")
    if pipeline.analysis.metrics:
        yield _info("every metric is computed, also those that spec.data_pipeline.analysis.metrics does not name")
    if elsewhere := [f"{r} ({ELSEWHERE[r]})" for r in pipeline.analysis.reports if r in ELSEWHERE]:
        yield _info(f"a run writes its summary and its detailed report; other commands make {', '.join(elsewhere)}")


def _info(message: str, advice: str | None = None) -> Finding:
    return Finding("data_pipeline", Severity.INFO, f"spec.data_pipeline: {message}", advice)
