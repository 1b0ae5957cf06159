"""Blocks of ``spec`` about the surroundings: cluster, models, workflow, data pipeline, monitoring, indicators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .aliases import parse_metric
from .blocks import MetricName, check_unit
from .fields import Alert, Model, Resource


class ClusterMonitoring(Model):
    """Prometheus in the cluster."""

    enabled: bool = Field(False, description="collect from Prometheus during a run")
    prometheus_url: str | None = Field(None, description="where Prometheus answers")


class Cluster(Model):
    """``spec.cluster``: the Kubernetes cluster that models are deployed on."""

    provider: Literal["kubernetes"] = Field("kubernetes", description="what runs the cluster")
    namespace: str = Field("llm-d-benchmark", description="where everything is created")
    monitoring: ClusterMonitoring = ClusterMonitoring()


class Resources(Model):
    """Kubernetes requests and limits: {nvidia.com/gpu: 8, memory: 256Gi}."""

    requests: dict[str, Resource] = Field({}, description="what a replica asks for: {nvidia.com/gpu: 8, memory: 256Gi}")
    limits: dict[str, Resource] = Field({}, description="the most it gets")

    @model_validator(mode="after")
    def _requests_within_limits(self) -> Resources:
        for name, asked in self.requests.items():
            limit = self.limits.get(name)
            if limit is not None and asked.value > limit.value:
                raise ValueError(f"request of {name} ({asked}) is greater than its limit ({limit})")
        return self


class ModelDeployment(Model):
    """One model to deploy."""

    name: str = Field(description="name that requests ask for")
    image: str | None = Field(None, description="image or model repository")
    replicas: int = Field(1, ge=0, description="copies to deploy")
    resources: Resources = Resources()


SetupStep = Literal["cluster_config", "model_deployment", "monitoring_setup"]
BenchmarkStep = Literal["load_generation", "data_collection", "performance_monitoring"]
AnalysisStep = Literal["data_processing", "performance_modeling", "report_generation"]
CleanupStep = Literal["resource_cleanup", "data_backup", "report_delivery"]


class WorkflowPhase(Model):
    """One phase and its steps; exactly one key."""

    setup: list[SetupStep] | None = Field(None, description="steps before the load")
    benchmark: list[BenchmarkStep] | None = Field(None, description="steps during the load")
    analysis: list[AnalysisStep] | None = Field(None, description="steps after the load")
    cleanup: list[CleanupStep] | None = Field(None, description="steps at the end, on every exit")

    @model_validator(mode="after")
    def _one(self) -> WorkflowPhase:
        if len(self.model_fields_set) != 1:
            raise ValueError("a phase has one name: setup, benchmark, analysis or cleanup")
        return self


class Workflow(Model):
    """``spec.workflow``: the phases of a run and their steps."""

    phases: list[WorkflowPhase] = Field([], description="in this order")


class GeneratorFeatures(Model):
    """What a load generator is used for, and the file with its configuration."""

    features: list[str] = Field([], description="what it is used for")
    config_file: str | None = Field(
        None, description="file with its configuration, beside this file; its entry in spec.benchmark wins"
    )
    sdk_language: str | None = Field(None, description='languages of the kits for own generators: "python,go,rust"')

    @model_validator(mode="after")
    def _languages(self) -> GeneratorFeatures:
        given = [p.strip() for p in (self.sdk_language or "").split(",") if p.strip()]
        if wrong := [p for p in given if p not in ("python", "go", "rust")]:
            raise ValueError(f"no kit for {', '.join(wrong)}; allowed: python, go, rust")
        return self


class Collection(Model):
    """Where data come from."""

    sources: list[Literal["prometheus_metrics", "application_logs", "system_metrics", "load_generator_data"]] = Field(
        [], description="where data come from"
    )


class Processing(Model):
    """What is done to the data before the analysis."""

    stages: list[Literal["data_validation", "normalization", "aggregation", "outlier_detection"]] = Field(
        [], description="steps before the analysis"
    )


class PipelineAnalysis(Model):
    """What is computed and reported."""

    metrics: list[MetricName] = Field([], description="metrics to compute")
    reports: list[Literal["summary_report", "detailed_analysis", "trend_analysis", "optimization_recommendations"]] = (
        Field([], description="reports to write")
    )


class DataPipeline(Model):
    """``spec.data_pipeline``: what is collected, how it is processed, what is reported."""

    collection: Collection = Collection()
    processing: Processing = Processing()
    analysis: PipelineAnalysis = PipelineAnalysis()


class Monitoring(Model):
    """``spec.monitoring``: what is watched during a run, and what raises an alert."""

    metrics: list[MetricName] = Field([], description="what is watched")
    alerts: list[dict[str, Alert]] = Field([], description='name: expression, e.g. high_latency: "p95_latency > 5s"')
    dashboards: list[Literal["real_time_performance", "historical_trends", "comparative_analysis"]] = Field(
        [], description="views to offer"
    )

    @model_validator(mode="after")
    def _alerts(self) -> Monitoring:
        for entry in self.alerts:
            if len(entry) != 1:
                raise ValueError("each alert is one 'name: expression'")
            for expression in entry.values():
                metric = parse_metric(expression.metric, statistic_needed=True)
                check_unit(metric, expression.threshold.unit, str(expression))
        return self


class KpiMetrics(Model):
    """``spec.kpi_metrics``: the key performance indicators to show."""

    throughput: list[MetricName] = Field([], description="throughput metrics")
    latency: list[MetricName] = Field([], description="latency metrics")
    resource_utilization: list[MetricName] = Field([], description="resource metrics")
    quality: list[Literal["response_coherence", "content_relevance", "toxicity_scores"]] = Field(
        [], description="scores of the answers"
    )


class CostMetrics(Model):
    """``spec.cost_metrics``: the parts of the cost to account for."""

    compute_cost: list[Literal["gpu_hours", "cost_per_token", "cost_per_request"]] = Field(
        [], description="cost of the accelerators"
    )
    infrastructure_cost: list[Literal["storage_cost", "network_cost", "monitoring_cost"]] = Field(
        [], description="cost around them"
    )
    operational_cost: list[Literal["maintenance_cost", "engineering_effort", "downtime_cost"]] = Field(
        [], description="cost of people and outages"
    )


class KnownIssue(Model):
    """Symptoms of a problem and what to try."""

    symptoms: list[str] = Field([], description="what one sees")
    solutions: list[str] = Field([], description="what to try")
