"""What a search is to do: the space, what is optimised within which limits, and by which methods. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..analyze.comparison.levels import metric_refs, value_of
from ..config.aliases import MetricRef, parse_metric
from ..config.blocks import ConfigurationOptimization, ExperimentDesign
from ..config.model import BenchmarkConfig
from ..config.paths import parse_path
from ..domain.errors import ConfigError
from ..domain.result import Absent, Measured, RunResult, Scalar
from ..domain.study import Objective, StudyLimit, Value
from .space import Space, space_of

FULL = frozenset({"grid_search", "factorial_design"})
"""Methods that measure every combination."""
ADAPTIVE = frozenset({"bayesian_optimization", "genetic_algorithm"})
"""Methods that choose by what was measured; they need the [explore] extra."""
LEAST_TRIALS = 20
OPEN_TRIALS = 40
"""Configurations of a search over ranges, where there is no grid to take a fifth of."""

Block = ExperimentDesign | ConfigurationOptimization


@dataclass(frozen=True, slots=True)
class MethodPlan:
    """One method: at most so many different configurations, and so many new runs."""

    method: str
    trials: int
    runs: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a search needs to know. ``search`` is the block of the configuration."""

    search: Block
    space: Space
    objectives: Sequence[Objective]
    limits: Sequence[StudyLimit]
    methods: Sequence[MethodPlan]

    @property
    def metrics(self) -> list[str]:
        """Every metric that a run is asked for, objectives first."""
        return list(dict.fromkeys([*(o.metric for o in self.objectives), *(c.metric for c in self.limits)]))


def plan_of(config: BenchmarkConfig, target_type: str) -> Plan:
    """The search that a configuration asks for.

    Raises:
        ConfigError: it asks for none, for two, or for one that this target cannot do.
    """
    spec = config.spec
    blocks = [b for b in (spec.experiment_design, spec.configuration_optimization) if b is not None]
    if not blocks:
        raise ConfigError(
            "nothing says what to explore",
            advice="give spec.experiment_design (factors) or spec.configuration_optimization (search_space)",
        )
    if len(blocks) == 2:
        raise ConfigError(
            "both spec.experiment_design and spec.configuration_optimization say what to explore",
            advice="leave one of them out; they would be two studies",
        )
    block = blocks[0]
    said = config.to_dict()
    space = space_of(block, target_type, lambda key: _present(said, key))
    return Plan(block, space, _objectives(block), _limits(config, block), _methods(block, space))


def _present(config: Mapping[str, Any], key: str) -> Value | None:
    """What a key says, of a list (``*``) its first entry; None where it is not said."""
    at: Any = config
    for part in parse_path(key.replace(".*.", ".0.")):
        if isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        elif isinstance(at, Mapping):
            at = at.get(str(part))
        else:
            return None
    return at if isinstance(at, bool | int | float | str) else None


def _objectives(block: Block) -> list[Objective]:
    names = [block.optimization_target] if isinstance(block.optimization_target, str) else block.optimization_target
    if not names:
        raise ConfigError("optimization_target is an empty list; name a metric, e.g. throughput")
    refs = metric_refs(names)
    return [Objective(r.path, r.unit, "minimize" if r.lower_is_better else "maximize") for r in refs]


def _limits(config: BenchmarkConfig, block: Block) -> list[StudyLimit]:
    found = []
    for name, metric, is_upper in (
        ("max_latency", "e2e.p95", True),
        ("min_throughput", "output_tokens_per_second", False),
        ("max_cost", "cost_per_token", True),
    ):
        limit = getattr(block.constraints, name)
        if limit is not None:
            found.append(StudyLimit(name, metric, f"{'<=' if is_upper else '>='} {limit}", limit.value, is_upper))
    for slo in config.spec.performance_targets.slos:
        found.append(StudyLimit(slo.name, slo.metric.path, str(slo.target), slo.target.value, slo.target.is_upper))
    return found


def _methods(block: Block, space: Space) -> list[MethodPlan]:
    names = [block.type] if isinstance(block, ExperimentDesign) else list(dict.fromkeys(block.optimization_methods))
    share = None if block.max_runs is None else max(1, block.max_runs // len(names))
    found = []
    for name in names:
        trials = space.size() if name in FULL else _trials(space)
        runs = trials * block.repeats if share is None else share
        found.append(MethodPlan(str(name), min(trials, runs) if name in FULL or share is None else runs, runs))
    return found


def _trials(space: Space) -> int:
    if not space.finite:
        return OPEN_TRIALS
    return min(space.size(), max(LEAST_TRIALS, math.ceil(space.size() / 5)))


def read_metrics(result: RunResult, metrics: Sequence[str]) -> dict[str, Scalar]:
    """One number of a run for each metric: the mean over its stages, of a sweep the knee's stage.

    A metric that any of those stages lacks is absent. Of several stages every one has to be good: the worst decides
    what is a tail (percentile, max), a rate of errors or a price.
    """
    beside = {i for s in result.saturations if s.knee_stage is not None for i in s.stages if i != s.knee_stage}
    stages = [s for s in result.stages if s.index not in beside]
    found: dict[str, Scalar] = {}
    for name in metrics:
        ref = parse_metric(name)
        values = [value_of(s.metrics, ref, s) for s in stages]
        missing = next((v for v in values if isinstance(v, Absent)), None)
        if missing is not None or not values:
            found[name] = missing or Absent("no stage was measured")
        else:
            found[name] = Measured(_over_stages(ref, [v.value for v in values if isinstance(v, Measured)]), ref.unit)
    return found


def _over_stages(ref: MetricRef, values: Sequence[float]) -> float:
    worst = ref.lower_is_better and ref.statistic != "mean"
    return max(values) if worst else math.fsum(values) / len(values)
