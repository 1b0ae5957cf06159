"""result.json: what a run found, as types. ``schemas/result-1.schema.json`` is generated from this module.

A scalar is ``{value, unit}`` or ``{absent: reason}``; a percentile is ``{value, low, high}`` or
``{value, insufficient: true}``. Nothing is 0 because it was not measured. Sections that later work fills (resources,
slos, diagnosis, cost, quality, agreement) are part of the schema now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = "1.0"
PERCENTILES: tuple[tuple[str, float], ...] = (
    ("p50", 0.50),
    ("p90", 0.90),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
)

RunStatus = Literal["ok", "invalid", "partial", "failed"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its unit (s, tokens/s, requests/s, fraction, ...)."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A number that could not be measured, and why."""

    absent: str


Scalar = Measured | Absent


@dataclass(frozen=True, slots=True)
class Estimate:
    """A percentile with its two-sided 95 % confidence limits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Insufficient:
    """A sample percentile from too few requests for confidence limits."""

    value: float
    insufficient: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Reported:
    """A percentile that another tool reported; without its requests there are no confidence limits."""

    value: float
    reported: Literal[True] = True


Percentile = Estimate | Insufficient | Reported | Absent
"""Absent where the numbers are another tool's, and it does not report this one."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A latency or length distribution. ``percentiles`` has the keys p50, p90, p95, p99, p99.9.

    ``limits`` names how the limits were made: order_statistic or block_bootstrap; ``reported``: another tool's own
    figures, where ``min`` and ``max`` may be missing, and there may be other percentiles that it told (p25, say).
    """

    unit: str
    count: int
    mean: float
    sd: float | None
    min: float | None
    max: float | None
    percentiles: Mapping[str, Percentile]
    limits: str = "order_statistic"

    def at(self, name: str) -> float | None:
        """The value of a percentile by name; None where it is absent."""
        found = self.percentiles[name]
        return None if isinstance(found, Absent) else found.value


DistributionOrAbsent = Distribution | Absent


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Counts of requests: sent = succeeded + failed + cancelled. ``errors`` counts failures by class."""

    sent: int
    succeeded: int
    failed: int
    cancelled: int
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Requested against achieved token lengths (means over successful requests)."""

    asked: Scalar
    achieved: Scalar
    deviation: Scalar
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of one stage, or of one model within it. Definitions: docs/metrics.md.

    ``requests`` counts the requests sent inside the window, ``requests_total`` those of the whole stage with warm-up,
    cool-down and drain.
    """

    requests: RequestCounts
    requests_total: RequestCounts
    error_rate: Scalar
    ttft: DistributionOrAbsent
    tpot: DistributionOrAbsent
    itl: DistributionOrAbsent
    itl_per_token: DistributionOrAbsent
    ntpot: DistributionOrAbsent
    e2e: DistributionOrAbsent
    connect: DistributionOrAbsent
    ttft_scheduled: DistributionOrAbsent
    e2e_scheduled: DistributionOrAbsent
    schedule_delay: DistributionOrAbsent
    cap_wait: DistributionOrAbsent
    output_tokens_per_second: Scalar
    input_tokens_per_second: Scalar
    total_tokens_per_second: Scalar
    requests_per_second: Scalar
    batches_per_second: Scalar
    goodput: Scalar
    goodput_fraction: Scalar
    requested_rate: Scalar
    achieved_rate: Scalar
    sent_gap_cv: Scalar
    concurrency: Scalar
    concurrency_max: Scalar
    input_length: Lengths
    output_length: Lengths
    prefix_hit_rate: Scalar


@dataclass(frozen=True, slots=True)
class Window:
    """The measured interval of a stage, epoch ns."""

    start: int
    end: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What MSER-5 saw inside the window. It never cuts: ``truncation`` is the fraction it would have dropped."""

    steady: bool | None
    truncation: float | None
    series: str
    message: str


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU over a window; ``gpu`` is its index, with its machine where there are several."""

    gpu: str
    model: str | None
    utilization: Scalar
    memory_usage: Scalar
    power: Scalar


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage of one load generator.

    Attributes:
        resource_sources: where each resource that was seen came from.
        gpus: each by itself, where there are several.
    """

    index: int
    name: str
    load_generator: str
    load: Mapping[str, Any]
    label: str
    window: Window
    metrics: Metrics
    by_model: Mapping[str, Metrics]
    steady_state: SteadyState
    resources: Mapping[str, Scalar] = field(default_factory=dict)
    resource_sources: Mapping[str, str] = field(default_factory=dict)
    gpus: Sequence[GpuUse] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is said to be, and what to do about it."""

    code: str
    message: str
    remedy: str | None = None
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """The client's own load over the measured windows, one worker process."""

    worker: str
    cpu: Scalar
    loop_lag_p50: Scalar
    loop_lag_p99: Scalar
    loop_lag_max: Scalar


@dataclass(frozen=True, slots=True)
class Identity:
    """A relation that sound data satisfies, e.g. Little's law: ``left`` and ``right`` agree within ``tolerance``."""

    name: str
    stage: int
    left: Scalar
    right: Scalar
    tolerance: float
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether the numbers describe the server. ``valid`` is false when the client was the bottleneck."""

    valid: bool
    reasons: Sequence[Reason]
    workers: Sequence[WorkerLoad]
    schedule_delay_p99: Scalar
    idle_round_trip: Scalar
    limits: Mapping[str, Scalar]
    identities: Sequence[Identity]


@dataclass(frozen=True, slots=True)
class Saturation:
    """What a sweep found. The knee is the highest load that the server still carried.

    ``load_generator`` swept; ``stages`` are its stages.
    """

    over: Literal["rate", "concurrency"]
    knee: Scalar
    knee_stage: int | None
    reason: str
    curve: Sequence[Mapping[str, float | None]]
    load_generator: str = ""
    stages: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class SloResult:
    """One service level objective: a hard verdict on the confidence bound of its metric."""

    name: str
    metric: str
    target: str
    weight: float | None
    verdict: Literal["pass", "fail", "inconclusive"]
    value: Scalar
    bound: Scalar
    stage: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A diagnosis: what limited the run, how sure that is, and what it rests on."""

    claim: str
    confidence: Literal["high", "medium", "low", "unknown"]
    evidence: Sequence[str]
    advice: str | None = None
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One stage's value of a metric, with simultaneous confidence limits; None where there are none."""

    stage: int
    value: Scalar
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """A cause of a difference, known by its own evidence in the data."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Two stages on one metric: ``second`` over ``first`` minus 1 (of fractions: second minus first).

    Attributes:
        verdict: differ (the limits exclude 0 and the difference is beyond the margin), agree (the limits lie within the
            margin), else inconclusive.
        whys: causes that the data show; of a difference without any, nothing here explains it.
    """

    first: int
    second: int
    difference: float
    low: float | None
    high: float | None
    verdict: Literal["agree", "differ", "inconclusive"]
    whys: Sequence[Why] = ()


@dataclass(frozen=True, slots=True)
class MetricAgreement:
    """One metric over the stages of a group. ``relative``: whether differences and ``margin`` are ratios."""

    metric: str
    unit: str
    margin: float
    relative: bool
    readings: Sequence[Reading]
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class OwnFigure:
    """A figure of the tool itself that is not what its records give under our definitions."""

    stage: int
    metric: str
    own: Measured
    ours: Measured
    difference: float
    whys: Sequence[Why] = ()


@dataclass(frozen=True, slots=True)
class Agreement:
    """Stages of different load generators (or one alone) with the same load, set side by side.

    Attributes:
        load: what they were all asked for.
        stages: indices, in the order they ran.
        confidence: of every limit in the group together.
        own_figures: where a tool's own figures differ from what its records give.
    """

    load: str
    stages: Sequence[int]
    confidence: float
    metrics: Sequence[MetricAgreement]
    own_figures: Sequence[OwnFigure] = ()


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What was measured."""

    type: str
    url: str
    model: str | None
    server: str | None
    fingerprint: str
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """A finding of the run: code, severity (info, warning, error), message and advice."""

    code: str
    severity: str
    message: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """The whole of result.json."""

    run_id: str
    name: str
    status: RunStatus
    simulated: bool
    config_digest: str
    tool_version: str
    started: int
    ended: int
    target: TargetInfo
    validity: Validity
    stages: Sequence[StageResult]
    requests: RequestCounts
    saturation: Saturation | None = None
    """Of the first load generator that swept; ``saturations`` has those of all."""
    saturations: Sequence[Saturation] = ()
    slos: Sequence[SloResult] = ()
    slo_score: Scalar = Absent("no SLOs are configured")
    diagnosis: Sequence[Claim] = ()
    cost: Mapping[str, Scalar] = field(default_factory=dict)
    quality: Mapping[str, Scalar] = field(default_factory=dict)
    agreement: Sequence[Agreement] = ()
    findings: Sequence[FindingRecord] = ()
    missing_shards: Sequence[int] = ()
    schema_version: str = SCHEMA_VERSION
