"""The plan: every scenario on every option, the matrix, the curves, recovery, and what follows from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..config.blocks import CapacityPlanning, CapacityScenario, Slo
from ..domain.capacity import (
    Basis,
    CapacityPlan,
    Cell,
    HourNeed,
    Option,
    Outlook,
    Recovery,
    Requirement,
    ScalingCurve,
)
from ..domain.result import Absent, Measured, Scalar
from ..domain.version import VERSION
from .advice import recommendations
from .cost import cost, times
from .outlook import PRICES, Replica, outlooks, score
from .scaling import LINEAR, Scaling
from .size import Carries, Count, Margins, carries, count

LOADS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
"""Of the capacity matrix, as multiples of the base load."""


def _nothing(_: float) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One kind of replica to plan with.

    Attributes:
        gpus: of one replica.
        gpu_hour: USD.
        error: mean relative error of the basis on configurations held out.
        outside: for requests/s on one replica, sentences on how they lie outside what was measured.
    """

    name: str
    hardware: str
    gpus: int
    basis: Basis
    source: str
    replica: Replica
    gpu_hour: Scalar
    error: Scalar
    notes: Sequence[str] = ()
    scaling: Scaling = LINEAR
    outside: Callable[[float], Sequence[str]] = _nothing


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned for. ``base_rate``: requests/s that scenarios are multiples of."""

    name: str
    block: CapacityPlanning
    slos: Sequence[Slo]
    base_rate: float
    runs: Sequence[str] = ()
    assumptions: Sequence[str] = ()
    warnings: Sequence[str] = ()
    scenarios: Sequence[CapacityScenario] = field(default_factory=tuple)

    @property
    def margins(self) -> Margins:
        return Margins(self.block.max_utilization, self.block.imbalance, self.block.spare_replicas)


@dataclass(frozen=True, slots=True)
class Sized:
    """A candidate with what one replica of it carries."""

    candidate: Candidate
    carries: Carries
    option: Option


def plan(question: Question, candidates: Sequence[Candidate]) -> CapacityPlan:
    """The capacity plan; nothing in it is simulated yet."""
    block = question.block
    sized = [size(question, c) for c in candidates]
    requirements = [require(question, s, scenario) for scenario in question.scenarios for s in sized]
    recovery = [
        r
        for found in requirements
        for r in _recovery(question, found, next(s for s in sized if s.candidate.name == found.option))
    ]
    requests = candidates[0].replica.requests
    found = CapacityPlan(
        name=question.name,
        tool_version=VERSION,
        runs=question.runs,
        base_rate=question.base_rate,
        input_tokens=requests.input.mean,
        output_tokens=requests.output.mean,
        assumptions=question.assumptions,
        options=[s.option for s in sized],
        requirements=requirements,
        matrix=[cell(question, s, load) for load in LOADS for s in sized]
        if _wants(block.outputs, "capacity_matrix")
        else [],
        curves=[_curve(question, s, requirements) for s in sized] if _wants(block.outputs, "scaling_curves") else [],
        recovery=recovery if _wants(block.use_cases, "disaster_recovery") else [],
        recommendations=[],
        warnings=question.warnings,
        use_cases=block.use_cases,
        analysis=block.analysis,
        outputs=block.outputs,
        margins={
            "max_utilization": block.max_utilization,
            "imbalance": block.imbalance,
            "spare_replicas": float(block.spare_replicas),
            "zones": float(block.zones),
        },
    )
    return dataclasses.replace(found, recommendations=recommendations(found))


def _wants(asked: Sequence[str], what: str) -> bool:
    """An empty list asks for everything."""
    return not asked or what in asked


def size(question: Question, candidate: Candidate) -> Sized:
    """What one replica carries."""
    replica = candidate.replica
    found = carries(replica, question.slos, question.margins)
    within: Scalar = (
        Measured(found.sure, "requests/s")
        if found.sure > 0
        else Absent(f"even the lightest load misses {found.limited_by}")
    )
    option = Option(
        name=candidate.name,
        hardware=candidate.hardware,
        gpus=candidate.gpus,
        basis=candidate.basis,
        source=candidate.source,
        places=replica.service.places,
        requests_per_second=replica.capacity,
        output_tokens_per_second=replica.capacity * replica.requests.output.mean,
        within_slos=within,
        limited_by=found.limited_by,
        replica_hour=times(candidate.gpu_hour, candidate.gpus),
        error=candidate.error,
        notes=candidate.notes,
    )
    return Sized(candidate, found, option)


def peak_rate(question: Question, scenario: CapacityScenario, output_tokens: float) -> float:
    """Requests/s of a scenario, at its busiest hour."""
    if scenario.target_throughput is not None:
        rate = scenario.target_throughput / output_tokens
    else:
        rate = question.base_rate * (scenario.multiplier or 1.0)
    return rate * max(scenario.hourly_profile or [1.0])


def require(question: Question, sized: Sized, scenario: CapacityScenario) -> Requirement:
    """What a scenario needs on an option."""
    candidate, margins = sized.candidate, question.margins
    tokens = candidate.replica.requests.output.mean
    rate = peak_rate(question, scenario, tokens)
    found = count(candidate.replica, question.slos, sized.carries, rate, margins, candidate.scaling)
    attainable = _attainable(sized, scenario, margins, tokens)
    if found is None:
        reason = f"no number of replicas keeps {sized.carries.limited_by}: {_alone(question, sized)}"
        return _infeasible(scenario, sized, rate, tokens, reason, None, attainable, question)
    most = scenario.max_replicas
    if most is not None and found.replicas > most:
        assert isinstance(attainable, Measured)
        reason = (
            f"needs {found.replicas} replicas, and max_replicas is {most}: attainable within the objectives are "
            f"{attainable.value:,.0f} output tokens/s of {rate * tokens:,.0f}"
        )
        return _infeasible(scenario, sized, rate, tokens, reason, found.needed, attainable, question)
    return _feasible(question, sized, scenario, rate, found, attainable)


def _feasible(
    question: Question, sized: Sized, scenario: CapacityScenario, rate: float, found: Count, attainable: Scalar
) -> Requirement:
    candidate, margins = sized.candidate, question.margins
    tokens = candidate.replica.requests.output.mean
    hour = times(sized.option.replica_hour, found.replicas)
    busiest = rate * margins.imbalance / found.under_load
    slos = outlooks(question.slos, candidate.replica, rate, busiest, found.under_load, hour)
    missed = [o for o in slos if o.verdict == "fail"]
    hours = _hours(question, sized, scenario)
    return Requirement(
        scenario=scenario.name,
        option=candidate.name,
        rate=rate,
        output_tokens_per_second=rate * tokens,
        feasible=not missed,
        reason="" if not missed else _missed(missed),
        needed=found.needed,
        replicas=found.replicas,
        gpus=found.replicas * candidate.gpus,
        utilization=Measured(rate / (found.replicas * candidate.replica.capacity), "fraction"),
        attainable=attainable,
        slos=slos,
        score=score(slos),
        cost=cost(sized.option.replica_hour, found.replicas, found.needed, rate * tokens, hours),
        hours=hours,
        extrapolated=candidate.outside(busiest),
    )


def _missed(missed: Sequence[Outlook]) -> str:
    prices = any(o.metric in PRICES for o in missed)
    names = ", ".join(f"{o.name} {o.target}" for o in missed)
    return f"misses {names}" + (": fewer replicas would miss another objective" if prices else "")


def _infeasible(
    scenario: CapacityScenario,
    sized: Sized,
    rate: float,
    tokens: float,
    reason: str,
    needed: int | None,
    attainable: Scalar,
    question: Question,
) -> Requirement:
    most = scenario.max_replicas
    slos: Sequence[Outlook] = ()
    if most is not None and needed is not None:
        up = max(1, most - question.margins.spare)
        busiest = rate * question.margins.imbalance / up
        hour = times(sized.option.replica_hour, most)
        slos = outlooks(question.slos, sized.candidate.replica, rate, busiest, up, hour)
    return Requirement(
        scenario=scenario.name,
        option=sized.candidate.name,
        rate=rate,
        output_tokens_per_second=rate * tokens,
        feasible=False,
        reason=reason,
        needed=needed,
        replicas=None,
        gpus=None,
        utilization=Absent(reason),
        attainable=attainable,
        slos=slos,
        score=score(slos),
        cost=Absent("infeasible"),
    )


def _alone(question: Question, sized: Sized) -> str:
    """What the binding objective comes to on a replica with next to no load."""
    rate = 1e-3 * sized.candidate.replica.capacity
    hour = Absent("not asked")
    found = outlooks(question.slos, sized.candidate.replica, rate, rate, 1, hour)
    for o in found:
        if o.name == sized.carries.limited_by and isinstance(o.bound, Measured):
            return f"on an idle replica its bound is {o.bound.value:.4g} s, and the target is {o.target}"
    return "on an idle replica it is missed already"


def _attainable(sized: Sized, scenario: CapacityScenario, margins: Margins, tokens: float) -> Scalar:
    if scenario.max_replicas is None:
        return Absent("max_replicas is not given")
    up = scenario.max_replicas - margins.spare
    if up < 1:
        return Absent("max_replicas leaves none beside the spare ones")
    return Measured(sized.candidate.scaling.times(up) * sized.carries.sure / margins.imbalance * tokens, "tokens/s")


def _hours(question: Question, sized: Sized, scenario: CapacityScenario) -> list[HourNeed]:
    if scenario.hourly_profile is None:
        return []
    peak = peak_rate(question, scenario, sized.candidate.replica.requests.output.mean)
    top = max(scenario.hourly_profile)
    found = []
    for hour, share in enumerate(scenario.hourly_profile):
        rate = peak * share / top
        counted = count(
            sized.candidate.replica, question.slos, sized.carries, rate, question.margins, sized.candidate.scaling
        )
        replicas = counted.replicas if counted else 0
        used = rate / (replicas * sized.candidate.replica.capacity) if replicas else 0.0
        found.append(HourNeed(hour, rate, replicas, used))
    return found


def cell(question: Question, sized: Sized, load: float) -> Cell:
    """One cell of the capacity matrix."""
    rate = question.base_rate * load
    replica = sized.candidate.replica
    found = count(replica, question.slos, sized.carries, rate, question.margins, sized.candidate.scaling)
    if found is None:
        none = Absent(f"no number of replicas keeps {sized.carries.limited_by}")
        return Cell(load, rate, sized.candidate.name, False, None, None, None, none, none)
    return Cell(
        load=load,
        rate=rate,
        option=sized.candidate.name,
        feasible=True,
        needed=found.needed,
        replicas=found.replicas,
        gpus=found.replicas * sized.candidate.gpus,
        utilization=Measured(rate / (found.replicas * replica.capacity), "fraction"),
        cost_hour=times(sized.option.replica_hour, found.replicas),
    )


def _curve(question: Question, sized: Sized, requirements: Sequence[Requirement]) -> ScalingCurve:
    planned = [r.replicas for r in requirements if r.option == sized.candidate.name and r.replicas]
    most = max(8, min(64, math.ceil(1.5 * max(planned, default=1))))
    replicas = list(range(1, most + 1))
    tokens = sized.candidate.replica.requests.output.mean
    scale = [sized.candidate.scaling.times(r) for r in replicas]
    return ScalingCurve(
        option=sized.candidate.name,
        replicas=replicas,
        most=[s * sized.option.output_tokens_per_second for s in scale],
        within_slos=[s * sized.carries.sure / question.margins.imbalance * tokens for s in scale],
        scaling=sized.candidate.scaling.name,
    )


def _recovery(question: Question, found: Requirement, sized: Sized) -> list[Recovery]:
    """A loss at the peak: whether the rest keeps the objectives, and how many replicas would."""
    if found.replicas is None:
        return []
    counted = count(
        sized.candidate.replica, question.slos, sized.carries, found.rate, question.margins, sized.candidate.scaling
    )
    assert counted is not None
    zones, up = question.block.zones, counted.under_load
    each = sized.candidate.replica.capacity
    spread = next(r for r in range(up, 3 * up + zones + 2) if r - math.ceil(r / zones) >= up)
    rows = []
    for loss, lost, wanted in (("replica", 1, up + 1), ("zone", math.ceil(found.replicas / zones), spread)):
        left = found.replicas - lost
        used: Scalar = Measured(found.rate / (left * each), "fraction") if left > 0 else Absent("no replica is left")
        extra = times(sized.option.replica_hour, max(0, wanted - found.replicas))
        rows.append(
            Recovery(found.scenario, found.option, loss, lost, left >= up, used, max(wanted, found.replicas), extra)  # type: ignore[arg-type]
        )
    return rows
