"""What comparing runs found, as types: regression.json and comparison.json. Their JSON Schemas are generated from here.

A slowdown is a fraction: how much more time a unit of work takes than in the baseline. It is positive when the test is
worse, of latencies and of rates alike (a rate that falls to 1/1.05 is a slowdown of 5 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .result import Absent, Scalar

COMPARISON_SCHEMA_VERSION = "1.0"
Verdict = Literal["pass", "fail", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
"""From best to worst."""
Method = Literal["welch", "paired", "prediction", "within_run"]


@dataclass(frozen=True, slots=True)
class Effect:
    """A slowdown with its limits, all fractions.

    Attributes:
        slowdown: the ratio of (geometric) means over runs, minus 1.
        low, high: two-sided 95 % limits.
        lower, upper: one-sided bounds at ``level``, which decide.
        bca_low, bca_high: two-sided 95 % limits by the bootstrap, to set beside them.
        method: welch: independent runs. paired: runs in interleaved pairs. prediction: one test run against several.
            within_run: one run a side; the limits say nothing of what another run would give.
        sd: standard deviation between runs (of a pair's difference where paired), log scale.
        degrees: degrees of freedom.
    """

    slowdown: float
    low: float
    high: float
    lower: float
    upper: float
    method: Method
    sd: float | None = None
    degrees: float | None = None
    level: float = 0.95
    bca_low: float | None = None
    bca_high: float | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """The values of one side: one for each run, in order. ``mean`` is arithmetic; ``cv`` is sd / mean."""

    runs: Sequence[str]
    values: Sequence[float]
    mean: Scalar
    cv: Scalar


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric at one level of load.

    Attributes:
        load: what the stages have in common, e.g. "native: concurrency 8".
        metric: e2e.mean, output_tokens_per_second, ...
        decides: whether the verdict of the whole depends on it.
        p_value: of "the slowdown is at most the limit", adjusted over the deciding metrics after Holm.
        further_runs: of each arm, where the verdict is inconclusive and more runs would help.
        without_outliers: the effect without quarantined runs, where there are any.
    """

    load: str
    metric: str
    unit: str
    lower_is_better: bool
    decides: bool
    baseline: Arm
    test: Arm
    effect: Effect | Absent
    verdict: Verdict | None
    message: str
    p_value: float | None = None
    further_runs: int | None = None
    without_outliers: Effect | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A run that differs from the others of its arm so much that something else happened to it."""

    run: str
    arm: Literal["baseline", "test"]
    load: str
    metric: str
    robust_z: float
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one probe of an API saw: whether the behaviour is there, and how in a few words (never response text)."""

    works: bool
    said: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One behaviour of the API, probed on both sides. ``change``: none, gained, lost or changed."""

    name: str
    baseline: str
    test: str
    change: Literal["none", "gained", "lost", "changed"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Stability:
    """How reliably one arm answered.

    Attributes:
        success: share of finished requests that succeeded.
        success_lower, success_upper: one-sided 95 % Clopper-Pearson bounds of it.
        uptime: share of the observed time in which the server answered. It is a figure of its own, and has no bound.
    """

    finished: int
    succeeded: int
    success: Scalar
    success_lower: Scalar
    success_upper: Scalar
    uptime: Scalar
    downtime: Scalar


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One criterion of the regression test with its verdict."""

    name: Literal["performance_regression", "functionality_changes", "stability"]
    criterion: str
    verdict: Verdict
    message: str


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One run of a regression test: of which arm, in which interleaved pair (None where runs were not interleaved)."""

    run: str
    arm: Literal["baseline", "test"]
    block: int | None
    seeds: Sequence[int]
    path: str
    status: str
    used: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ArmInfo:
    """What one arm is: the version asked for, and what the servers said of themselves."""

    version: str
    target: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RegressionResult:
    """The whole of regression.json. ``failure``: why the test ended before it was done, empty where it was."""

    study_id: str
    name: str
    verdict: Verdict
    message: str
    tool_version: str
    started: int
    ended: int
    simulated: bool
    baseline: ArmInfo
    test: ArmInfo
    criteria: Sequence[CriterionResult]
    metrics: Sequence[MetricComparison]
    runs: Sequence[StudyRun]
    quarantined: Sequence[Quarantined] = ()
    behaviours: Sequence[Behaviour] = ()
    stability: Mapping[str, Stability] = field(default_factory=dict)
    further_runs: int | None = None
    notes: Sequence[str] = ()
    failure: str = ""
    schema_version: str = COMPARISON_SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Difference:
    """A parameter that differs between the runs compared: its value in each, None where it has none."""

    path: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class ComparedValue:
    """A metric of one run (or group of equal runs) at one load, against the first."""

    value: Scalar
    low: float | None = None
    high: float | None = None
    delta: Effect | Absent | None = None


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """One row: a metric at one load, a value for each column; None where the column has no such load."""

    load: str
    metric: str
    unit: str
    lower_is_better: bool
    values: Sequence[ComparedValue | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole of comparison.json: ``columns`` are runs, or groups of runs of one configuration and target."""

    columns: Sequence[str]
    runs: Sequence[Sequence[str]]
    labels: Sequence[str]
    differences: Sequence[Difference]
    metrics: Sequence[ComparedMetric]
    notes: Sequence[str] = ()
    schema_version: str = COMPARISON_SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A level that changed for good between two runs of a history.

    Attributes:
        index: first run after the change.
        earliest, latest: the change lies with 95 % confidence between run ``earliest`` - 1 and run ``latest``.
        change: ratio of the medians after and before, minus 1.
        p_value: of a permutation test.
        worse: whether the metric got worse.
        before, after: medians.
    """

    index: int
    earliest: int
    latest: int
    change: float
    p_value: float
    worse: bool
    before: float
    after: float


NOT_ENOUGH_RUNS = Absent("too few runs at the present level to tell")


@dataclass(frozen=True, slots=True)
class Trend:
    """The history of one metric at one load.

    Attributes:
        keys: what orders the runs: time, version or commit of each.
        slope: Theil-Sen: change per run as a fraction of the median, with 95 % limits.
        p_value: Mann-Kendall with autocorrelation taken into account.
        direction: rising or falling where p is under 0.05, else "none"; "unknown" of fewer than 8 runs.
        noise: standard deviation between the runs of one level, a fraction of their value.
        smallest_change: what is found in 9 of 10 cases by the third run after it came, at that noise.
    """

    load: str
    metric: str
    unit: str
    lower_is_better: bool
    runs: Sequence[str]
    keys: Sequence[str]
    values: Sequence[float]
    slope: Scalar
    slope_low: Scalar
    slope_high: Scalar
    p_value: Scalar
    direction: Literal["rising", "falling", "none", "unknown"]
    noise: Scalar = NOT_ENOUGH_RUNS
    smallest_change: Scalar = NOT_ENOUGH_RUNS
    change_points: Sequence[ChangePoint] = ()
    quarantined: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class History:
    """The whole of trend.json."""

    by: Literal["date", "version", "commit"]
    trends: Sequence[Trend]
    notes: Sequence[str] = ()
    schema_version: str = COMPARISON_SCHEMA_VERSION
