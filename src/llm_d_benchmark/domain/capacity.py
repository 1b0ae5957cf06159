"""capacity.json: what a capacity plan says, as types. Rates are requests/s, throughput output tokens/s, costs USD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .result import Absent, Scalar

CAPACITY_SCHEMA_VERSION = "1.0"
Basis = Literal["fitted", "roofline", "calibrated"]
"""What the speed of a replica rests on: a model fitted to measured runs; published figures of the hardware; a
simulator profile that was calibrated on measured runs."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """One objective at a number of replicas.

    Attributes:
        verdict: pass and fail are of the ``bound``; not_judged: nothing here predicts the metric.
        value: what is expected.
        bound: its one-sided 95 % confidence bound; equal to ``value`` where the basis has no error of its own.
    """

    name: str
    metric: str
    target: str
    weight: float | None
    verdict: Literal["pass", "fail", "not_judged"]
    value: Scalar
    bound: Scalar
    message: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One kind of replica.

    Attributes:
        gpus: of one replica.
        places: requests in service at once.
        requests_per_second, output_tokens_per_second: the most that one replica serves.
        within_slos: requests/s of one replica that keep every objective's bound and the utilisation limit; absent
            where none does.
        limited_by: what binds there.
        replica_hour: USD.
        error: mean relative error of the basis on configurations held out; absent where it has none.
    """

    name: str
    hardware: str
    gpus: int
    basis: Basis
    source: str
    places: int
    requests_per_second: float
    output_tokens_per_second: float
    within_slos: Scalar
    limited_by: str
    replica_hour: Scalar
    error: Scalar
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the replicas running: ``day`` and ``month`` (30 days) follow the hourly profile; ``constant_day`` does not.

    Attributes:
        per_million_tokens: of output, at the load of the scenario.
        per_million_low, per_million_high: with the replicas needed without spare ones, and with one more than planned.
    """

    hour: Scalar
    day: Scalar
    month: Scalar
    constant_day: Scalar
    per_million_tokens: Scalar
    per_million_low: Scalar
    per_million_high: Scalar


@dataclass(frozen=True, slots=True)
class HourNeed:
    """One hour of a day: its load and the replicas for it."""

    hour: int
    rate: float
    replicas: int
    utilization: float


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What the simulator saw with so many replicas. ``values``: each latency objective's metric, s."""

    replicas: int
    holds: bool
    values: Mapping[str, float]
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """The planner's count before margins, and the simulator's at that count and one either side.

    Attributes:
        planned: replicas, before spare ones, imbalance and headroom.
        simulated: the fewest of those tried that hold; None where none of them does.
        agrees: within one replica.
    """

    seconds: float
    planned: int
    simulated: int | None
    agrees: bool
    rows: Sequence[CheckRow]
    message: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one scenario needs on one option.

    Attributes:
        needed: replicas that keep every objective, before any margin; None where no number does.
        replicas: with headroom, imbalance and spare replicas; None where infeasible.
        utilization: of the replicas, at the peak, all of them up.
        attainable: output tokens/s within the objectives at ``max_replicas``, where that is given.
        extrapolated: sentences on how the load lies outside what was measured.
    """

    scenario: str
    option: str
    rate: float
    output_tokens_per_second: float
    feasible: bool
    reason: str
    needed: int | None
    replicas: int | None
    gpus: int | None
    utilization: Scalar
    attainable: Scalar
    slos: Sequence[Outlook]
    score: Scalar
    cost: Cost | Absent
    hours: Sequence[HourNeed] = ()
    check: CrossCheck | None = None
    extrapolated: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the capacity matrix: a load, as a multiple of the base load, on one option."""

    load: float
    rate: float
    option: str
    feasible: bool
    needed: int | None
    replicas: int | None
    gpus: int | None
    utilization: Scalar
    cost_hour: Scalar


@dataclass(frozen=True, slots=True)
class ScalingCurve:
    """Output tokens/s over replicas: at most, and within the objectives.

    Attributes:
        scaling: "linear, unverified", or the law that was fitted to measured replica counts.
    """

    option: str
    replicas: Sequence[int]
    most: Sequence[float]
    within_slos: Sequence[float]
    scaling: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What remains after a loss at the peak, and what it takes to keep the objectives all the same."""

    scenario: str
    option: str
    loss: Literal["replica", "zone"]
    lost: int
    survives: bool
    utilization: Scalar
    replicas: int | None
    extra_cost_hour: Scalar


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """The whole of capacity.json."""

    name: str
    tool_version: str
    runs: Sequence[str]
    base_rate: float
    input_tokens: float
    output_tokens: float
    assumptions: Sequence[str]
    options: Sequence[Option]
    requirements: Sequence[Requirement]
    matrix: Sequence[Cell]
    curves: Sequence[ScalingCurve]
    recovery: Sequence[Recovery]
    recommendations: Sequence[str]
    warnings: Sequence[str] = ()
    use_cases: Sequence[str] = ()
    analysis: Sequence[str] = ()
    outputs: Sequence[str] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    schema_version: str = CAPACITY_SCHEMA_VERSION
