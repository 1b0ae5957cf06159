"""From a configuration and run folders to a capacity plan with its cross-check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..capacity.candidates import engine_of, from_model, from_profile, lengths, limits_of, simulator_of
from ..capacity.plan import Candidate, Question, plan
from ..capacity.scaling import LINEAR, Scaling, fit_scaling
from ..config.blocks import CapacityHardware, CapacityPlanning, CapacityScenario
from ..config.defaults import fill, fill_load
from ..config.layers import load_resolved
from ..config.load import Length, LoadConfig, load_of
from ..config.model import BenchmarkConfig
from ..config.simulator import SimulatorTargetConfig
from ..domain.capacity import CapacityPlan, Requirement
from ..domain.errors import ConfigError
from ..domain.result import Measured, RunResult
from ..perfmodel.model import PerformanceModel, fit_runs
from ..perfmodel.queueing import closed_loop
from ..perfmodel.service import Lengths, Requests, service_times
from ..simulator.calibrate import Given
from ..simulator.calibrate.fit import fit as fit_steps
from ..simulator.calibrate.levels import levels_of
from ..simulator.calibrate.served import served_by
from ..simulator.profiles import load_profile
from ..store.folder import RunFolder, run_input, runs_at
from .capacity_check import Simulated, cross_check

DEFAULT_SCENARIOS = (
    CapacityScenario(name="steady_state", multiplier=1.0),
    CapacityScenario(name="peak_load", multiplier=2.0),
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan rests on: the question, the candidates, and for each what simulates it."""

    question: Question
    candidates: Sequence[Candidate]
    simulated: dict[str, Simulated]


def make_plan(
    config: BenchmarkConfig, runs: Sequence[Path], *, check: bool = True, say: Say = lambda _: None
) -> CapacityPlan:
    """The capacity plan of ``config.spec.capacity_planning``.

    Args:
        runs: run folders, or folders that hold some, of one deployment: their fitted model is the first option.
        check: simulate every feasible requirement as well, in virtual time.
        say: told what is going on.

    Raises:
        ConfigError: the load or the hardware is not known, or the runs have fewer than 4 levels of load.
        StoreError: a path is no run folder, or has no result.
    """
    folders = [RunFolder.open(path) for path in runs_at(runs)] if runs else []
    basis = gather(config, [f.result() for f in folders])
    if check and folders:
        say("calibrating the simulator on the requests of the runs")
        basis.simulated["measured"] = replace_engine(basis.simulated["measured"], folders)
    found = plan(basis.question, basis.candidates)
    return checked(found, basis, say) if check else found


def replace_engine(what: Simulated, folders: Sequence[RunFolder]) -> Simulated:
    """With an engine that is calibrated on the requests of the runs, which knows nothing of the fitted model; as it is
    where the runs do not tell enough for that (another tool's figures, several replicas)."""
    inputs = [run_input(f, load_resolved(f.config_text)) for f in folders]
    try:
        levels = [level for one in inputs for level in levels_of(one)]
        if not levels:
            return what
        longest = max(int((level.prompt + level.output).max()) for level in levels)
        served = served_by(inputs, Given(), longest)
        found = fit_steps(levels, served.max_num_batched_tokens)
    except ConfigError:
        return what
    longest = max(longest, int(max(what.requests.input.values) + max(what.requests.output.values)) + 1)
    limits = served.limits(longest)
    return dataclasses.replace(what, cost=found.cost, limits=limits, overhead=found.request_overhead)


def checked(found: CapacityPlan, basis: Basis, say: Say) -> CapacityPlan:
    """With what the simulator says beside each requirement, and a warning where it differs by more than a replica."""
    rows: list[Requirement] = []
    warnings = list(found.warnings)
    for row in found.requirements:
        what = basis.simulated[row.option]
        if row.needed is None:
            rows.append(row)
            continue
        say(f"simulating {row.scenario} on {row.option}: {row.rate:.3g} requests/s on about {row.needed} replicas")
        check = cross_check(what, basis.question.slos, row.rate, row.needed)
        rows.append(dataclasses.replace(row, check=check))
        if not check.agrees:
            warnings.append(f"{row.scenario} on {row.option}: {check.message}")
    return dataclasses.replace(found, requirements=rows, warnings=warnings)


def gather(config: BenchmarkConfig, results: Sequence[RunResult]) -> Basis:
    """Load, lengths and candidates; each assumption that had to be made as a sentence."""
    block = config.spec.capacity_planning or CapacityPlanning()
    assumptions: list[str] = []
    requests = _requests(config, block, results, assumptions)
    candidates: list[Candidate] = []
    simulated: dict[str, Simulated] = {}
    hour = config.spec.prices.gpu_hour if config.spec.prices else None
    if results:
        model = fit_runs(results)
        candidates.append(_measured(config, model, requests, results, hour))
        simulated[candidates[0].name] = Simulated(*engine_of(model, requests), requests)
    for hardware in _hardware(config, block, bool(results), assumptions):
        settings = simulator_of(hardware) if isinstance(hardware, CapacityHardware) else hardware
        name = hardware.name if isinstance(hardware, CapacityHardware) else None
        own = hardware.gpu_hour if isinstance(hardware, CapacityHardware) else None
        candidate = from_profile(settings, requests, name=name, gpu_hour=own if own is not None else hour)
        if candidate.name in simulated:
            raise ConfigError(
                f"spec.capacity_planning.hardware: two options are called '{candidate.name}'", advice="give each a name"
            )
        profile = load_profile(settings)
        candidates.append(candidate)
        simulated[candidate.name] = Simulated(profile.cost, limits_of(settings, profile), requests)
    rate = _base_rate(config, block, results, candidates[0], assumptions)
    if not block.scenarios:
        assumptions.append("no scenarios are given: the base load, and twice as much, are planned for")
    question = Question(
        name=config.metadata.name,
        block=block,
        slos=config.spec.performance_targets.slos,
        base_rate=rate,
        runs=[r.run_id for r in results],
        assumptions=[*assumptions, *_general(block)],
        warnings=_warnings(config, candidates),
        scenarios=block.scenarios or DEFAULT_SCENARIOS,
    )
    return Basis(question, candidates, simulated)


def _general(block: CapacityPlanning) -> list[str]:
    found = ["requests arrive independently of each other (Poisson) and share no prefixes"]
    if any(s.hourly_profile is None and (s.duration or 0) >= 86400 for s in block.scenarios):
        found.append("a day without hourly_profile has a constant load")
    return found


def _warnings(config: BenchmarkConfig, candidates: Sequence[Candidate]) -> list[str]:
    found = []
    if not config.spec.performance_targets.slos:
        found.append("no objectives are given (spec.performance_targets.slos): only the utilisation limit decides")
    if any(c.basis == "roofline" for c in candidates):
        found.append(
            "a roofline of published figures decides where nothing was measured: measure one replica and give --runs"
        )
    return found


def _measured(
    config: BenchmarkConfig,
    model: PerformanceModel,
    requests: Requests,
    results: Sequence[RunResult],
    hour: float | None,
) -> Candidate:
    info = results[-1].target.info
    replicas = info.get("replicas")
    many = replicas if isinstance(replicas, int) and replicas > 0 else 1
    prices = config.spec.prices
    told = next((n for k in ("tensor_parallel_size", "gpus") if isinstance(n := info.get(k), int) and n > 0), None)
    notes = []
    gpus = told or (max(1, (prices.gpus or many) // many) if prices else 1)
    if told is None and (prices is None or prices.gpus is None):
        notes.append("the runs do not tell the GPUs of a replica: one is assumed (spec.prices.gpus gives another)")
    if any(r.simulated for r in results):
        notes.append("the runs are of a simulated server")
    return from_model(
        model,
        requests,
        name="measured",
        hardware=str(info.get("hardware") or results[-1].target.server or results[-1].target.type),
        gpus=gpus,
        gpu_hour=hour,
        notes=notes,
        scaling=_scaling(results),
    )


def _scaling(results: Sequence[RunResult]) -> Scaling:
    """From the most that was measured at each number of replicas, where four or more of them were."""
    most: dict[int, float] = {}
    for result in results:
        replicas = result.target.info.get("replicas")
        for stage in result.stages:
            value = stage.metrics.output_tokens_per_second
            if isinstance(replicas, int) and isinstance(value, Measured):
                most[replicas] = max(most.get(replicas, 0.0), value.value)
    return fit_scaling(list(most), list(most.values())) if most else LINEAR


def _hardware(
    config: BenchmarkConfig, block: CapacityPlanning, measured: bool, assumptions: list[str]
) -> Sequence[CapacityHardware | SimulatorTargetConfig]:
    if block.hardware or measured:
        return block.hardware
    target = config.spec.target
    if target is not None and target.simulator is not None:
        return [target.simulator]
    default = SimulatorTargetConfig()
    models = ", ".join(m.name for m in config.spec.models)
    instead = f" instead of {models}" if models else ""
    assumptions.append(
        "no hardware is given (spec.capacity_planning.hardware) and no runs: "
        f"the plan is for {default.profile}{instead}"
    )
    return [default]


def _load(config: BenchmarkConfig) -> LoadConfig:
    return fill_load(fill(config).spec.benchmark.load_generators[0].config)


def _requests(
    config: BenchmarkConfig, block: CapacityPlanning, results: Sequence[RunResult], assumptions: list[str]
) -> Requests:
    load = _load(config)

    def pick(what: str, own: Length | None, asked: Length | None) -> Lengths:
        if own is not None:
            return lengths(own)
        measured = _achieved(results, what)
        if measured is not None:
            assumptions.append(f"{what} tokens: {measured:,.0f}, the mean that the runs measured, for every request")
            return Lengths.fixed(measured)
        if asked is None:
            raise ConfigError(
                f"how many {what} tokens the requests have is not known",
                advice=f"give spec.capacity_planning.load.{what}_length",
            )
        return lengths(asked)

    return Requests(
        pick("input", block.load.input_length, load.input_length),
        pick("output", block.load.output_length, load.output_length),
    )


def _achieved(results: Sequence[RunResult], what: str) -> float | None:
    """Mean over the requests of all stages."""
    total = weight = 0.0
    for stage in (s for r in results for s in r.stages):
        found = getattr(stage.metrics, f"{what}_length").achieved
        if isinstance(found, Measured):
            many = stage.metrics.requests.succeeded
            total, weight = total + found.value * many, weight + many
    return total / weight if weight else None


def _base_rate(
    config: BenchmarkConfig,
    block: CapacityPlanning,
    results: Sequence[RunResult],
    first: Candidate,
    assumptions: list[str],
) -> float:
    if block.load.request_rate is not None:
        return block.load.request_rate
    measured = [
        s.metrics.requests_per_second.value
        for r in results
        for s in r.stages
        if isinstance(s.metrics.requests_per_second, Measured)
    ]
    if measured:
        assumptions.append(f"base load: {max(measured):.4g} requests/s, the most that a stage of the runs answered")
        return max(measured)
    load = _load(config)
    shapes = [load_of(s, load) for s in load.stages] or [load]
    rates = [s.request_rate for s in shapes if s.request_rate is not None]
    if rates:
        assumptions.append(f"base load: {max(rates):.4g} requests/s, of the load generator")
        return max(rates)
    users = [s.concurrency for s in shapes if s.concurrency is not None]
    if not users:
        raise ConfigError(
            "the load that scenarios are multiples of is not known",
            advice="give spec.capacity_planning.load.request_rate, or --runs",
        )
    rate, _ = closed_loop(max(users), service_times(first.replica.service, first.replica.requests, None))
    assumptions.append(
        f"base load: {rate:.4g} requests/s, what {max(users)} users of a closed loop send to one {first.name}"
    )
    return rate
