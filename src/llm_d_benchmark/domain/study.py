"""What exploring configurations found, as types: study.json. Its JSON Schema is generated from here.

Changes are fractions of the value they are compared with: 0.1 is 10 % more. ``gain`` is positive when better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .result import Absent, Claim, Scalar

STUDY_SCHEMA_VERSION = "1.0"
Value = bool | int | float | str
Settings = Mapping[str, Value]
"""Factor name -> value; factors whose condition does not hold are not in it."""

Purpose = Literal["search", "reference", "final"]
RunState = Literal["ok", "failed", "interrupted"]
TrialState = Literal["feasible", "infeasible", "failed"]
EffectVerdict = Literal["matters", "inert", "unclear"]


@dataclass(frozen=True, slots=True)
class FactorInfo:
    """What was varied. ``values`` of a list or a stepped range; ``low`` and ``high`` of a range; ``present`` is what
    the configuration says, None where it leaves it to the server."""

    name: str
    key: str
    values: Sequence[Value] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    present: Value | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to optimise: ``e2e.p95``, ``output_tokens_per_second``, ..."""

    metric: str
    unit: str
    direction: Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class StudyLimit:
    """A constraint: ``metric`` at most (``is_upper``) or at least ``value``. A value that is missing breaks it."""

    name: str
    metric: str
    text: str
    value: float
    is_upper: bool


@dataclass(frozen=True, slots=True)
class StudyMeasurement:
    """One run of a study, in the order they ran.

    Attributes:
        settings: None for the configuration as it is (the reference).
        repeat: how often this configuration was run for this purpose before; it also shifts the seeds of the load.
        values: metric -> value; a metric that is missing has its reason in ``absent``.
        path: the run's folder, relative to the study's; empty where there is none here.
    """

    run: str
    path: str
    purpose: Purpose
    settings: Settings | None
    repeat: int
    method: str
    state: RunState
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration of the search, over its runs.

    Attributes:
        number: from 1, in the order they were first measured.
        methods: which methods proposed it.
        values: metric -> mean over its runs (geometric where positive).
        reason: why it is infeasible or failed.
        stopped_early: why it was not repeated as often as allowed.
        best: not beaten by any other feasible configuration on every objective.
    """

    number: int
    methods: Sequence[str]
    settings: Settings
    state: TrialState
    runs: Sequence[str]
    values: Mapping[str, Scalar]
    reason: str = ""
    stopped_early: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class MethodOutcome:
    """What one method did. ``runs`` are those that nobody had measured before."""

    method: str
    trials: int
    runs: int
    best_trial: int | None
    message: str


@dataclass(frozen=True, slots=True)
class LevelMean:
    """The metric at one level of a factor, averaged over the other factors, with 95 % limits."""

    level: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FactorEffect:
    """The main effect of a factor on a metric.

    Attributes:
        change: the last level against the first, with simultaneous 95 % limits over the levels.
        strongest: the level that differs most from the first.
    """

    metric: str
    unit: str
    factor: str
    levels: Sequence[LevelMean]
    relative: bool
    change: float
    low: float
    high: float
    strongest: str
    verdict: EffectVerdict
    message: str


@dataclass(frozen=True, slots=True)
class Interaction:
    """How much more one factor changes the metric at the other's last level than at its first (of two categories: the
    pair of levels where it is most), with 95 % limits."""

    metric: str
    factors: tuple[str, str]
    relative: bool
    change: float
    low: float
    high: float
    verdict: EffectVerdict
    message: str


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better one configuration is than another on a metric: fractions, 95 % limits over rounds of fresh
    interleaved runs."""

    metric: str
    against: str
    gain: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Finalist:
    """A configuration that was measured again at the end. ``trial``: the best of the search with these settings; None
    is the reference. Factors that are not in ``settings`` are left as they are."""

    trial: int | None
    settings: Settings
    runs: Sequence[str]
    values: Mapping[str, Scalar]
    feasible: bool
    reason: str
    gains: Sequence[Gain] = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A change that the diagnosis of a run suggests. It is to be tested, not believed.

    Attributes:
        flag: the server's own name of it.
        key: configuration key that sets it on this target; None where nothing here can.
        values: values worth measuring, the present one first where it is known.
        because: the claim and its evidence.
        run: id of the run that was diagnosed.
    """

    flag: str
    change: str
    because: str
    key: str | None = None
    values: Sequence[Value] = ()
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunAdvice:
    """What ``recommend RUN`` prints: what limited one run, and what that suggests to test."""

    run: str
    diagnosis: Sequence[Claim]
    hypotheses: Sequence[Hypothesis]
    schema_version: str = STUDY_SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to set, and why.

    Attributes:
        trial: number of the configuration; None: stay with the present one, or nothing can be recommended.
        sure: whether the gain over the present configuration is beyond the noise, in fresh runs.
        binding: the constraint that is nearest to its limit.
        evidence: ids of the runs it rests on.
        leave: factors that were varied without any effect to be seen: ``settings`` leaves them as they are.
    """

    trial: int | None
    settings: Settings
    message: str
    sure: bool
    why: Sequence[str] = ()
    gain: Gain | Absent = field(default_factory=lambda: Absent("nothing was measured again"))
    runner_up: str = ""
    binding: str = ""
    evidence: Sequence[str] = ()
    measure_next: Sequence[str] = ()
    leave: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """The reference over the course of the study: ``change`` from its first to its last run, as a straight line."""

    metric: str
    runs: int
    change: float | None
    low: float | None
    high: float | None
    message: str


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The whole of study.json."""

    study_id: str
    name: str
    status: Literal["done", "interrupted", "failed"]
    tool_version: str
    started: int
    ended: int
    simulated: bool
    factors: Sequence[FactorInfo]
    objectives: Sequence[Objective]
    limits: Sequence[StudyLimit]
    methods: Sequence[MethodOutcome]
    trials: Sequence[Trial]
    runs: Sequence[StudyMeasurement]
    reference: Mapping[str, Scalar]
    effects: Sequence[FactorEffect]
    interactions: Sequence[Interaction]
    drift: Drift
    finalists: Sequence[Finalist]
    recommendation: Recommendation
    hypotheses: Sequence[Hypothesis]
    notes: Sequence[str] = ()
    schema_version: str = STUDY_SCHEMA_VERSION
