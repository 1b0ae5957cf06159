"""Every example loads; the mission's blocks are in it word for word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from llm_d_benchmark.config.layers import LoadedConfig, load_config, load_resolved
from llm_d_benchmark.config.model import Spec
from llm_d_benchmark.workload.api import PromptSizer, WorkloadContext
from llm_d_benchmark.workload.registry import create_workload

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
MISSION = sorted((EXAMPLES / "mission").glob("*.yaml"))


def load(path: Path) -> LoadedConfig:
    return load_config([path], env={})


@pytest.mark.parametrize("path", [*FILES, *MISSION], ids=lambda p: p.stem)
def test_it_loads_and_is_read_back(path: Path) -> None:
    loaded = load(path)
    assert load_resolved(loaded.to_yaml()) == loaded.config


WITHOUT_TARGET = {"capacity", "prices"}
"""A plan, which measures nothing, and a price file, which is given beside others."""


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_our_own_examples_need_nothing_deprecated(path: Path) -> None:
    assert load(path).warnings == ()
    assert (load(path).config.spec.target is not None) == (path.stem not in WITHOUT_TARGET)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_workload_takes_its_options(path: Path) -> None:
    for generator in load(path).config.spec.benchmark.load_generators:
        options = dict(generator.config.workload)
        context = WorkloadContext(sizer=cast(PromptSizer, None), endpoint="chat", options=options)
        assert create_workload(options, context) is not None


CHECKS: dict[str, Callable[[Spec], Any]] = {
    "benchmark-config": lambda s: (
        (s.benchmark.duration, s.models[0].replicas, [g.type for g in s.benchmark.load_generators])
        == (1800, 2, ["fmperf", "inference-perf"])
    ),
    "advanced_config": lambda s: (
        [f.name for f in s.experiment_design.factors] == ["batch_size", "max_tokens", "temperature"]
        and [x.target.value for x in s.performance_targets.slos] == [2.0, 50.0, 0.001]
        and [x.weight for x in s.performance_targets.slos] == [0.4, 0.3, 0.3]
        and [x.duration for x in s.capacity_planning.scenarios] == [3600, 86400, None]
        and s.capacity_planning.scenarios[2].max_replicas == 10
    ),
    "workflow": lambda s: s.workflow.phases[3].cleanup == ["resource_cleanup", "data_backup", "report_delivery"],
    "load_generators": lambda s: s.load_generators["custom"].sdk_language == "python,go,rust",
    "data_pipeline": lambda s: s.data_pipeline.processing.stages[-1] == "outlier_detection",
    "performance_evaluation": lambda s: s.performance_evaluation.metrics.secondary[-1] == "cost_per_token",
    "capacity_planning": lambda s: s.capacity_planning.outputs[0] == "capacity_matrix",
    "configuration_optimization": lambda s: (
        s.configuration_optimization.search_space["batch_sizes"] == [1, 2, 4, 8, 16, 32]
        and s.configuration_optimization.constraints.max_latency.value == 2.0
        and s.configuration_optimization.constraints.max_cost.value == 0.001
    ),
    "regression_testing": lambda s: s.regression_testing.pass_criteria.stability.subject == "uptime",
    "monitoring": lambda s: s.monitoring.alerts[1]["high_error_rate"].threshold.value == 0.01,
    "kpi_metrics": lambda s: "latency_percentiles (p50, p95, p99)" in s.kpi_metrics.latency,
    "cost_metrics": lambda s: s.cost_metrics.operational_cost[-1] == "downtime_cost",
    "benchmark_issues": lambda s: len(s.benchmark_issues["deployment_failure"].solutions) == 3,
    "v0.2": lambda s: s.benchmark.load_generators[0].type == "fmperf",
    "v0.3": lambda s: s.benchmark.load_generators[0].type == "fmperf",
}


@pytest.mark.parametrize("path", MISSION, ids=lambda p: p.stem)
def test_the_mission_block_means_what_it_says(path: Path) -> None:
    assert CHECKS[path.stem](load(path).config.spec)


def test_all_blocks_together_are_one_configuration() -> None:
    spec = load_config([p for p in MISSION if not p.stem.startswith("v0")], env={}).config.spec
    assert all(check(spec) for name, check in CHECKS.items() if not name.startswith("v0"))
