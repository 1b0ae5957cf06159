"""Two arms of finished runs: every metric at every level of load, one verdict for all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...config.aliases import MetricRef
from ...domain.comparison import Arm, Effect, MetricComparison, Quarantined, Verdict
from ...domain.result import Absent, Measured, RunResult, Scalar, StageResult
from .effects import ALPHA, FloatArray, holm, slowness
from .levels import DECIDING, SHOWN, levels, metric_refs, unit_of, value_of
from .outliers import outliers
from .verdicts import Judged, further_runs, measure, verdict_of, worst

LEAST_RUNS = 2
LEAST_BASELINE = 5
"""Runs of the baseline that a single test run can be held against."""


@dataclass(frozen=True, slots=True)
class Arms:
    """The runs of both sides, in the order they ran. ``paired``: run i of both ran one after the other."""

    baseline: Sequence[RunResult]
    test: Sequence[RunResult]
    paired: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        limit: the most it may be slower, a fraction; None where nothing is judged.
        deciding, shown: metrics that the verdict rests on, and those set beside them.
        alpha: how often a verdict may be wrong; less where the number of runs is chosen on the way (``plan.ALPHA``).
    """

    limit: float | None = 0.05
    deciding: Sequence[MetricRef] = field(default_factory=lambda: metric_refs(DECIDING))
    shown: Sequence[MetricRef] = field(default_factory=lambda: metric_refs(SHOWN))
    alpha: float = ALPHA


@dataclass(frozen=True, slots=True)
class Performance:
    """The answer. ``further_runs``: of each arm, where inconclusive and more of them would help."""

    verdict: Verdict
    metrics: Sequence[MetricComparison]
    quarantined: Sequence[Quarantined]
    further_runs: int | None
    notes: Sequence[str] = ()

    @property
    def sd(self) -> float | None:
        """The greatest noise of a deciding metric (log scale), which says how many runs are needed."""
        found = [m.effect.sd for m in self.metrics if m.decides and isinstance(m.effect, Effect)]
        return max((sd for sd in found if sd is not None), default=None)


@dataclass(frozen=True, slots=True)
class _Case:
    """One metric at one load before it is judged."""

    load: str
    ref: MetricRef
    unit: str
    decides: bool
    baseline: Arm
    test: Arm
    logs: tuple[FloatArray, FloatArray] | Absent


def compare_arms(arms: Arms, question: Question) -> Performance:
    """Judge the test against the baseline at every load that both have.

    Raises:
        ValueError: paired arms of unequal length.
    """
    if arms.paired and len(arms.baseline) != len(arms.test):
        raise ValueError("paired arms have equally many runs")
    cases, notes = _cases(arms, question)
    quarantined = _quarantine(cases)
    judged = {i: _measure(c, question, arms.paired) for i, c in enumerate(cases) if not isinstance(c.logs, Absent)}
    deciding = [i for i in judged if cases[i].decides]
    adjusted = dict(zip(deciding, holm([judged[i].p for i in deciding]), strict=True))
    found = [
        _conclude(case, judged.get(i), adjusted.get(i), question, arms.paired, quarantined)
        for i, case in enumerate(cases)
    ]
    verdict = worst([m.verdict for m in found if m.decides and m.verdict is not None])
    more = [m.further_runs for m in found if m.decides and m.verdict == "inconclusive"]
    needed = [n for n in more if n is not None]
    further = max(needed) if verdict == "inconclusive" and needed and len(needed) == len(more) else None
    return Performance(verdict, found, quarantined, further, notes)


def _cases(arms: Arms, question: Question) -> tuple[list[_Case], list[str]]:
    runs = [*arms.baseline, *arms.test]
    split = len(arms.baseline)
    cases: list[_Case] = []
    notes = []
    for load, stages in levels(runs).items():
        sides = (stages[:split], stages[split:])
        if not all(any(s is not None for s in side) for side in sides):
            notes.append(f"the load {load} was measured on one side only; it is left out")
            continue
        for refs, decides in ((question.deciding, True), (question.shown, False)):
            for ref in refs:
                if decides or ref not in question.deciding:
                    case = _case(load, ref, decides, runs, stages, split, arms.paired)
                    cases += [case] if case is not None else []
    return cases, notes


def _case(
    load: str,
    ref: MetricRef,
    decides: bool,
    runs: Sequence[RunResult],
    stages: Sequence[StageResult | None],
    split: int,
    paired: bool,
) -> _Case | None:
    """None where neither side has the metric at all."""
    values: list[Scalar] = [
        Absent("no such load in this run") if s is None else value_of(s.metrics, ref, s) for s in stages
    ]
    if all(isinstance(v, Absent) for v in values):
        return None
    keep = [isinstance(v, Measured) for v in values]
    if paired:
        both = [a and b for a, b in zip(keep[:split], keep[split:], strict=True)]
        keep = [*both, *both]
    sides = []
    for part in (range(split), range(split, len(runs))):
        kept = [i for i in part if keep[i]]
        sides.append(
            _arm([runs[i].run_id for i in kept], [v.value for i in kept if isinstance(v := values[i], Measured)])
        )
    unit = unit_of(values, ref)
    baseline, test = (_with_unit(side, unit) for side in sides)
    return _Case(load, ref, unit, decides, baseline, test, _logs(baseline, test, ref))


def _arm(runs: list[str], values: list[float]) -> Arm:
    if not values:
        none = Absent("not measured in any run of this side")
        return Arm((), (), none, none)
    mean = float(np.mean(values))
    cv: Scalar = Absent("it takes two runs to see how much they vary")
    if len(values) > 1 and mean:
        cv = Measured(float(np.std(values, ddof=1)) / abs(mean), "fraction")
    return Arm(runs, values, Measured(mean, ""), cv)


def _with_unit(arm: Arm, unit: str) -> Arm:
    return dataclasses.replace(arm, mean=Measured(arm.mean.value, unit)) if isinstance(arm.mean, Measured) else arm


def _logs(baseline: Arm, test: Arm, ref: MetricRef) -> tuple[FloatArray, FloatArray] | Absent:
    fewest = min(len(baseline.values), len(test.values))
    if fewest == 0:
        return Absent("measured on one side only")
    single = len(test.values) == 1 and len(baseline.values) >= LEAST_BASELINE
    if fewest < LEAST_RUNS and not single:
        return Absent("one run a side says nothing of how much runs differ by chance")
    try:
        return slowness(baseline.values, ref.lower_is_better), slowness(test.values, ref.lower_is_better)
    except ValueError:
        return Absent("a value is 0, so that no ratio is defined")


def _measure(case: _Case, question: Question, paired: bool) -> Judged:
    assert not isinstance(case.logs, Absent)
    return measure(*case.logs, _log_limit(question), blocks=paired, alpha=question.alpha)


def _log_limit(question: Question) -> float:
    return math.log1p(question.limit or 0.0)


def _quarantine(cases: Sequence[_Case]) -> list[Quarantined]:
    found: dict[tuple[str, str], Quarantined] = {}
    for case in cases:
        if isinstance(case.logs, Absent) or not case.decides:
            continue
        for which, arm, logs in (("baseline", case.baseline, case.logs[0]), ("test", case.test, case.logs[1])):
            for position, z in outliers(logs):
                ratio = math.exp(float(logs[position] - np.median(logs)))
                reason = (
                    f"{case.ref.path} at {case.load} is {ratio:.3g} times as slow as the median of its arm, "
                    f"{z:.0f} times as far from it as these runs usually are"
                )
                entry = Quarantined(
                    arm.runs[position],
                    "baseline" if which == "baseline" else "test",
                    case.load,
                    case.ref.path,
                    z,
                    reason,
                )
                known = found.get((entry.run, case.load))
                if known is None or known.robust_z < z:
                    found[entry.run, case.load] = entry
    return list(found.values())


def _without(case: _Case, quarantined: Sequence[Quarantined], question: Question, paired: bool) -> Judged | None:
    """The effect without the runs that are quarantined at this load; None where none are, or too few are left."""
    out = {q.run for q in quarantined if q.load == case.load}
    if isinstance(case.logs, Absent) or not out & {*case.baseline.runs, *case.test.runs}:
        return None
    keep = [np.array([run not in out for run in arm.runs]) for arm in (case.baseline, case.test)]
    if paired:
        keep = [keep[0] & keep[1]] * 2
    left = [int(k.sum()) for k in keep]
    if left[0] < LEAST_RUNS or left[1] < min(LEAST_RUNS, len(case.test.runs)):
        return None
    return measure(
        case.logs[0][keep[0]], case.logs[1][keep[1]], _log_limit(question), blocks=paired, alpha=question.alpha
    )


def _conclude(
    case: _Case,
    judged: Judged | None,
    p: float | None,
    question: Question,
    paired: bool,
    quarantined: Sequence[Quarantined],
) -> MetricComparison:
    effect: Effect | Absent = Absent("not measured") if judged is None else judged.effect
    if isinstance(case.logs, Absent):
        effect = case.logs
    other = _without(case, quarantined, question, paired)
    verdict: Verdict | None = None
    further: int | None = None
    message = effect.absent if isinstance(effect, Absent) else ""
    if case.decides and question.limit is not None:
        verdict = "inconclusive"
        if judged is not None and p is not None:
            limit = _log_limit(question)
            verdict = verdict_of(judged, limit, p)
            message = _say(judged.effect, verdict, question.limit)
            if other is not None and verdict_of(other, limit, other.p) != verdict:
                verdict = "inconclusive"
                message += "; without the quarantined runs the verdict is another"
            if verdict == "inconclusive":
                further = further_runs(judged, min(len(case.baseline.runs), len(case.test.runs)), limit)
        else:
            further = LEAST_RUNS
    return MetricComparison(
        load=case.load,
        metric=case.ref.path,
        unit=case.unit,
        lower_is_better=case.ref.lower_is_better,
        decides=case.decides,
        baseline=case.baseline,
        test=case.test,
        effect=effect,
        verdict=verdict,
        message=message,
        p_value=p,
        further_runs=further,
        without_outliers=None if other is None else other.effect,
    )


def _say(effect: Effect, verdict: Verdict, limit: float) -> str:
    if verdict == "pass":
        return f"at most {effect.upper:.1%} slower, under the limit of {limit:.1%}"
    if verdict == "fail":
        return f"at least {effect.lower:.1%} slower, over the limit of {limit:.1%}"
    return f"between {effect.lower:+.1%} and {effect.upper:+.1%} slower, the limit of {limit:.1%} lies between"
