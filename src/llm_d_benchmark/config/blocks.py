"""Blocks of ``spec`` that say what is wanted: service levels, search, capacity, regression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .aliases import MetricRef, check_factor, parse_metric, parse_metrics
from .fields import Criterion, Latency, Limit, Model, Scalar, Seconds, TokenPrice, TokenRate
from .load import Length
from .target import TargetConfig


def _metric(name: str) -> str:
    parse_metrics(name)
    return name


def _factor(name: str) -> str:
    check_factor(name)
    return name


MetricName = Annotated[str, AfterValidator(_metric), Field(examples=["latency_p95", "ttft.p99", "throughput"])]
FactorName = Annotated[str, AfterValidator(_factor), Field(examples=["batch_size", "max_tokens", "temperature"])]
SearchMethod = Literal[
    "grid_search", "random_search", "latin_hypercube", "sobol", "bayesian_optimization", "genetic_algorithm"
]


def check_unit(metric: MetricRef, unit: str, text: str) -> None:
    """A limit must be in the unit of its metric; a bare price is per whatever the metric prices.

    Raises:
        ValueError: it cannot be compared.
    """
    if unit == metric.unit or (unit == "USD" and metric.unit.startswith("USD/")):
        return
    raise ValueError(
        f"'{text}' is in {unit or 'no unit'}, but {metric.path} is measured in {metric.unit or 'plain numbers'}"
    )


class Slo(Model):
    """One service level objective: a limit on a statistic of a metric."""

    name: str = Field(description="a metric: p95_latency, ttft.p99, throughput, cost_per_token, error_rate, ...")
    target: Limit = Field(description='the limit: "<2000ms", ">50 tokens/s", "<$0.001", "<1%"')
    weight: float | None = Field(None, ge=0, description="share in the weighted score; never hides a failed objective")

    @property
    def metric(self) -> MetricRef:
        """The metric and statistic that ``name`` means."""
        return parse_metric(self.name, statistic_needed=True)

    @model_validator(mode="after")
    def _comparable(self) -> Slo:
        check_unit(self.metric, self.target.unit, str(self.target))
        return self


class PerformanceTargets(Model):
    """``spec.performance_targets``."""

    slos: list[Slo] = Field([], description="each is judged on the confidence bound of its metric")

    @model_validator(mode="after")
    def _distinct(self) -> PerformanceTargets:
        names = [(s.metric.path, s.target.is_upper) for s in self.slos]
        twice = sorted({n[0] for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"more than one objective of the same kind for {', '.join(twice)}")
        return self


class Variation(Model):
    """What a factor may be: a list of values, or a range; and when it is varied at all."""

    values: list[Scalar] | None = Field(None, min_length=1, description="values it takes, in their order")
    low: int | float | None = Field(None, description="least value of a range")
    high: int | float | None = Field(None, description="greatest value of a range")
    step: int | float | None = Field(None, gt=0, description="distance of the range's values; default: any in between")
    log: bool = Field(False, description="the range is searched by ratio, not by difference")
    when: dict[FactorName, list[Scalar]] = Field(
        {}, description="vary it only where these other factors, given before it, have one of these values"
    )

    @model_validator(mode="after")
    def _values_or_range(self) -> Variation:
        if self.low is None or self.high is None:
            if not self.values or (self.low, self.high) != (None, None):
                raise ValueError("give 'values', or a range with 'low' and 'high'")
            if len(set(map(repr, self.values))) < len(self.values):
                raise ValueError("a value is given more than once")
            if self.step is not None or self.log:
                raise ValueError("'step' and 'log' belong to a range with 'low' and 'high'")
            return self
        if self.values:
            raise ValueError("give either 'values' or a range with 'low' and 'high'")
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) is not below high ({self.high})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a range with 'log' starts above 0 and has no 'step'")
        return self


class Factor(Variation):
    """One thing that is varied, and the values it takes."""

    name: FactorName = Field(
        description="batch_size, max_tokens, temperature, concurrency, ... or a key that starts with spec."
    )


class Constraints(Model):
    """Limits that a recommended configuration must keep."""

    max_latency: Latency | None = Field(None, description='p95 of the end-to-end latency, e.g. "2000ms"')
    min_throughput: TokenRate | None = Field(None, description='output tokens, e.g. "50 tokens/s"')
    max_cost: TokenPrice | None = Field(None, description='e.g. "$0.001/token"')


class Search(Model):
    """How ``llm-d-benchmark explore`` measures a search, whatever chooses its configurations."""

    optimization_target: MetricName | list[MetricName] = Field(
        "throughput", description="metric to optimise; of several, the best compromises are sought (Pareto front)"
    )
    constraints: Constraints = Field(
        Constraints(), description="beside the objectives of spec.performance_targets, which are kept as well"
    )
    forbidden: list[dict[FactorName, Scalar | list[Scalar]]] = Field(
        [], description="combinations that are never run: factor: its value, or values"
    )
    max_runs: int | None = Field(None, ge=1, description="the most runs of the search; default: what its methods need")
    repeats: int = Field(1, ge=1, le=50, description="the most runs of one configuration while searching")
    reference_every: int = Field(
        8, ge=0, description="measure the configuration as it is now again after so many runs; 0: only once"
    )
    finalists: int = Field(3, ge=0, le=20, description="best configurations that are measured once more at the end")
    finalist_runs: int = Field(
        4, ge=2, le=50, description="fresh runs of each of them and of the present one, in turns"
    )
    time_budget: Seconds | None = Field(
        None,
        gt=0,
        description="of the whole study, e.g. 15m: the search ends when the time left is what the last comparison "
        "needs; that runs up to three times finalist_runs where there is time",
    )
    inert_below: float = Field(0.02, gt=0, lt=1, description="a change of a metric by less than this does not matter")
    seed: int = Field(0, ge=0, description="of every random choice")
    storage: str | None = Field(
        None, description="database of the study, e.g. sqlite:///study.db or postgresql://..., shared by its workers"
    )

    @property
    def database(self) -> str | None:
        """``storage`` with the driver of the [postgresql] extra where it names none."""
        return self.storage and re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.storage)


class ExperimentDesign(Search):
    """``spec.experiment_design``: which configurations to measure."""

    type: Literal["factorial_design"] | SearchMethod = Field(description="how the combinations are chosen")
    factors: list[Factor] = Field(min_length=1, description="what is varied")

    @model_validator(mode="after")
    def _distinct(self) -> ExperimentDesign:
        _distinct_factors([f.name for f in self.factors])
        return self


def _distinct_factors(names: Sequence[str]) -> None:
    canonical = [check_factor(n) for n in names]
    twice = sorted({n for n in canonical if canonical.count(n) > 1})
    if twice:
        raise ValueError(f"factor given more than once: {', '.join(twice)}")


class CapacityScenario(Model):
    """A load to plan for: a multiple of the measured one, or a throughput."""

    name: str = Field(description="name of the scenario")
    multiplier: float | None = Field(None, gt=0, description="of the load that was measured")
    duration: Seconds | None = Field(None, gt=0, description="how long this load lasts")
    target_throughput: float | None = Field(None, gt=0, description="output tokens per second")
    max_replicas: int | None = Field(None, ge=1, description="the most replicas there may be")
    hourly_profile: list[Annotated[float, Field(ge=0)]] | None = Field(
        None,
        min_length=24,
        max_length=24,
        description="24 numbers: the load of each hour of a day as a share of this scenario's; default: constant",
    )

    @model_validator(mode="after")
    def _one_load(self) -> CapacityScenario:
        if (self.multiplier is None) == (self.target_throughput is None):
            raise ValueError(f"scenario '{self.name}': give either 'multiplier' or 'target_throughput'")
        if self.hourly_profile is not None and not any(self.hourly_profile):
            raise ValueError(f"scenario '{self.name}': hourly_profile is 0 all day")
        return self


class CapacityLoad(Model):
    """The load that scenarios are multiples of."""

    request_rate: float | None = Field(
        None, gt=0, description="requests/s; default: the most that the runs measured, else the load generator's load"
    )
    input_length: Length | None = Field(None, description="prompt tokens; default: as measured, else the generator's")
    output_length: Length | None = Field(None, description="answer tokens; default likewise")


class CapacityHardware(Model):
    """One replica that the load could be put on."""

    name: str | None = Field(None, description="name in the plan; default: its profile and GPUs")
    profile: str = Field(description="MODEL/HARDWARE of the built-in tables, or a file that simulator calibrate wrote")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs of one replica")
    max_num_seqs: int = Field(256, ge=1, description="requests in service at once on one replica")
    gpu_hour: float | None = Field(None, ge=0, description="USD; default: spec.prices.gpu_hour")


class CapacityPlanning(Model):
    """``spec.capacity_planning``: scenarios, and what to plan and produce."""

    scenarios: list[CapacityScenario] = Field([], description="loads to plan for")
    load: CapacityLoad = CapacityLoad()
    hardware: list[CapacityHardware] = Field(
        [], description="replicas that are compared; default: spec.target.simulator, and beside runs none"
    )
    max_utilization: float = Field(0.85, gt=0, le=1, description="of what a replica serves at most, at the peak")
    imbalance: float = Field(1.1, ge=1, description="load of the busiest replica over the mean")
    spare_replicas: int = Field(1, ge=0, description="replicas that may fail at the peak (N + 1)")
    zones: int = Field(3, ge=2, description="disaster recovery: failure domains that the replicas are spread over")
    use_cases: list[Literal["production_deployment", "disaster_recovery", "cost_optimization"]] = Field(
        [], description="what the plan is for"
    )
    analysis: list[Literal["resource_requirements_by_load", "scaling_recommendations", "cost_benefit_analysis"]] = (
        Field([], description="questions to answer")
    )
    outputs: list[Literal["capacity_matrix", "scaling_curves", "cost_projections"]] = Field(
        [], description="what to produce"
    )


class ConfigurationOptimization(Search):
    """``spec.configuration_optimization``: search the space for the best configuration within the constraints."""

    search_space: dict[FactorName, Annotated[list[Scalar], Field(min_length=1)] | Variation] = Field(
        min_length=1, description="factor: its values, or a range {low, high}"
    )
    optimization_methods: list[SearchMethod] = Field(["grid_search"], min_length=1, description="how to search")

    @model_validator(mode="after")
    def _distinct(self) -> ConfigurationOptimization:
        _distinct_factors(list(self.search_space))
        return self


class PassCriteria(Model):
    """When a test version passes."""

    performance_regression: Criterion | None = Field(None, description='the most it may be slower, e.g. "<5%"')
    functionality_changes: Literal["compatible", "none", "any"] | None = Field(
        None, description="which changes of behaviour are accepted"
    )
    stability: Criterion | None = Field(None, description='e.g. ">99.9% uptime" or ">99.9% success"')

    @model_validator(mode="after")
    def _sensible(self) -> PassCriteria:
        for name, upper in (("performance_regression", True), ("stability", False)):
            limit = getattr(self, name)
            if limit is not None and (limit.unit != "fraction" or limit.is_upper is not upper):
                example = "<5%" if upper else ">99.9% uptime"
                raise ValueError(f"{name} '{limit}': write a percentage such as '{example}'")
        return self


class RegressionTesting(Model):
    """``spec.regression_testing``: compare two versions, run in turns.

    What a version is: its entry in ``targets``; else ``spec.target`` with the version in place of ``{version}``.
    """

    baseline_version: str = Field("baseline", description="version compared with")
    test_version: str = Field("test", description="version under test")
    targets: dict[str, TargetConfig] = Field(
        {}, description="version: its target, as spec.target; --baseline-url and --test-url are short for two of them"
    )
    test_suite: list[Literal["functionality_tests", "performance_tests", "stability_tests"]] = Field(
        [], description="what is compared"
    )
    pass_criteria: PassCriteria = PassCriteria()
    metrics: list[MetricName] = Field(
        [], description="metrics that decide; default: ttft.mean, tpot.mean, e2e.mean, throughput, where measured"
    )
    min_runs: int = Field(5, ge=2, le=100, description="runs of each version before anything is judged")
    max_runs: int = Field(20, ge=2, le=1000, description="the most runs of each version")
    time_budget: Seconds | None = Field(None, gt=0, description="start no further pair of runs after this long")

    @model_validator(mode="after")
    def _versions(self) -> RegressionTesting:
        if self.baseline_version == self.test_version:
            raise ValueError(f"both versions are '{self.test_version}'; give the two sides different names")
        if unknown := sorted(self.targets.keys() - {self.baseline_version, self.test_version}):
            raise ValueError(
                f"targets has '{', '.join(unknown)}', which is neither baseline_version '{self.baseline_version}' "
                f"nor test_version '{self.test_version}'"
            )
        if self.max_runs < self.min_runs:
            raise ValueError(f"max_runs {self.max_runs} is under min_runs {self.min_runs}")
        return self


class EvaluationMetrics(Model):
    """Metrics by rank."""

    primary: list[MetricName] = Field([], description="metrics that decide")
    secondary: list[MetricName] = Field([], description="metrics that are shown beside them")


class PerformanceEvaluation(Model):
    """``spec.performance_evaluation``: what an evaluation is for, and what it looks at."""

    objectives: list[Literal["baseline_characterization", "regression_detection", "optimization_validation"]] = Field(
        [], description="what the evaluation is for"
    )
    metrics: EvaluationMetrics = EvaluationMetrics()
    scenarios: list[Literal["single_model_benchmark", "multi_model_comparison", "scaling_analysis"]] = Field(
        [], description="what is evaluated"
    )
