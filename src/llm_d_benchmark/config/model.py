"""``BenchmarkConfig``: the whole configuration file as one validated, immutable model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from .blocks import (
    CapacityPlanning,
    ConfigurationOptimization,
    ExperimentDesign,
    PerformanceEvaluation,
    PerformanceTargets,
    RegressionTesting,
)
from .collectors import CollectorsConfig
from .fields import Model, Seconds
from .load import LoadConfig
from .observe import (
    Cluster,
    CostMetrics,
    DataPipeline,
    GeneratorFeatures,
    KnownIssue,
    KpiMetrics,
    ModelDeployment,
    Monitoring,
    Workflow,
)
from .prices import PricesConfig
from .target import TargetConfig

API_VERSION: Literal["llm-d.io/v1alpha1"] = "llm-d.io/v1alpha1"
LatencyMetric = Literal["ttft", "tpot", "itl", "ntpot", "e2e"]


class LoadGeneratorSpec(Model):
    """One load generator and its configuration."""

    type: str = Field("native", description="which load generator; see llm-d-benchmark generators list")
    config: LoadConfig = LoadConfig()


class ValidityLimits(Model):
    """Beyond these the client, not the server, was measured, and the run is marked invalid.

    A limit in seconds is the greater of the value here and ``relative`` times the stage's median TTFT (schedule delay)
    or median chunk gap (loop lag).
    """

    schedule_delay: Seconds = Field(0.010, gt=0, description="p99 of sent - ready")
    loop_lag: Seconds = Field(0.005, gt=0, description="p99 of the event loop's lateness in any worker")
    relative: float = Field(0.05, ge=0, description="fraction of what is measured that is allowed in any case")
    length_tolerance: float = Field(0.05, gt=0, description="input or output tokens achieved against asked")


class BenchmarkSpec(Model):
    """``spec.benchmark``: how long, with which load generators, and when a request counts as good."""

    duration: Seconds = Field(
        30.0, gt=0, description="length of the measured window of each stage, warm-up and cool-down not included"
    )
    warmup: Seconds = Field(0.0, ge=0, description="load before the window of each stage")
    cooldown: Seconds = Field(0.0, ge=0, description="load after the window of each stage")
    drain: Seconds = Field(
        60.0, ge=0, description="time for requests in flight at a stage's end before they are cancelled"
    )
    give_up: Seconds = Field(
        30.0, gt=0, description="end the run early after this long with nothing but failed requests"
    )
    load_generators: list[LoadGeneratorSpec] = Field(
        [LoadGeneratorSpec()], min_length=1, description="run in this order"
    )
    goodput: dict[LatencyMetric, Seconds] = Field(
        {}, description="per-request limits; a request that meets all of them counts as goodput"
    )
    validity: ValidityLimits = ValidityLimits()

    @field_validator("goodput")
    @classmethod
    def _reachable(cls, limits: dict[LatencyMetric, float]) -> dict[LatencyMetric, float]:
        if wrong := [name for name, limit in limits.items() if limit <= 0]:
            raise ValueError(f"a limit must be above 0: {', '.join(wrong)}")
        return limits


class Metadata(Model):
    """What the run is called."""

    name: str = Field("benchmark", description="names the run and its folder")
    labels: dict[str, str] = Field({}, description="free, kept with the result")
    annotations: dict[str, str] = Field({}, description="free, kept with the result")


class Spec(Model):
    """``spec``: what to measure, how, and what is good enough. What no command executes is validated and kept."""

    target: TargetConfig | None = Field(None, description="default: what spec.cluster and spec.models say")
    cluster: Cluster | None = None
    models: list[ModelDeployment] = []
    benchmark: BenchmarkSpec = BenchmarkSpec()
    performance_targets: PerformanceTargets = PerformanceTargets()
    experiment_design: ExperimentDesign | None = None
    capacity_planning: CapacityPlanning | None = None
    configuration_optimization: ConfigurationOptimization | None = None
    regression_testing: RegressionTesting | None = None
    performance_evaluation: PerformanceEvaluation | None = None
    collectors: CollectorsConfig = CollectorsConfig()
    monitoring: Monitoring | None = None
    workflow: Workflow | None = None
    data_pipeline: DataPipeline | None = None
    load_generators: dict[str, GeneratorFeatures] = Field(
        {},
        description="by generator: its features and config_file, whose keys its entries in spec.benchmark start from",
    )
    kpi_metrics: KpiMetrics | None = None
    cost_metrics: CostMetrics | None = None
    prices: PricesConfig | None = None
    benchmark_issues: dict[str, KnownIssue] = {}


class BenchmarkConfig(Model):
    """A configuration file of kind BenchmarkConfig."""

    apiVersion: Literal["llm-d.io/v1alpha1"] = Field(API_VERSION, description="version of this format")  # noqa: N815 - the Kubernetes spelling
    kind: Literal["BenchmarkConfig"] = Field("BenchmarkConfig", description="kind of this document")
    metadata: Metadata = Metadata()
    spec: Spec = Spec()

    def to_dict(self) -> dict[str, Any]:
        """Every value, defaults filled in, as plain data for config.yaml. Holds no secrets: they are references."""
        return self.model_dump(mode="json", exclude_none=True)
