"""What a configuration asks for that this installation cannot do: said before a run, never passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import MappingProxyType

from ..domain.errors import ConfigError
from ..domain.events import Finding, Severity
from .aliases import parse_metric
from .model import BenchmarkConfig
from .resolve import resolve_target
from .simulator import SimulatorTargetConfig
from .sources import pipeline_findings
from .spelling import nearest

BUILT_IN_TARGETS = frozenset({"existing", "process", "local", "simulator", "kubernetes"})
PRICED = frozenset({"cost_per_token", "cost_per_request"})
"""Metrics that need ``spec.prices``."""

KEPT: Mapping[str, str] = MappingProxyType(
    {
        "experiment_design": "choosing the configurations to measure",
        "configuration_optimization": "searching configurations",
        "capacity_planning": "planning capacity, which llm-d-benchmark capacity does",
        "regression_testing": "comparing two versions, which llm-d-benchmark regress does",
        "performance_evaluation": "evaluating by objective",
        "workflow": "choosing the steps of a workflow (every run does setup, benchmark, analysis, cleanup)",
        "kpi_metrics": "choosing the indicators that are shown",
        "cost_metrics": "choosing parts of the cost; spec.prices decides which are known",
    }
)
"""Block -> what it would choose; validated and kept, but without effect on a run."""


def unavailable(config: BenchmarkConfig, target_types: Set[str], generator_types: Set[str]) -> list[Finding]:
    """Every part of a configuration that a run cannot carry out here.

    Errors make the run impossible; warnings and infos name what is validated and kept, but has no effect.

    Args:
        target_types, generator_types: what is installed.
    """
    return [
        *_target(config, target_types),
        *_generators(config, generator_types),
        *_files(config),
        *_monitoring(config),
        *pipeline_findings(config),
        *_objectives(config),
        *_kept(config),
    ]


def _target(config: BenchmarkConfig, installed: Set[str]) -> Iterator[Finding]:
    try:
        kind = resolve_target(config).type
    except ConfigError:
        return  # the caller resolves the target itself and gets the same error
    if kind not in installed:
        hint = "" if kind in BUILT_IN_TARGETS else nearest(kind, installed)
        reason = f"spec.target.type '{kind}' is not available{hint}"
        if config.spec.target is None:
            reason = "spec.cluster and spec.models describe a deployment on Kubernetes, which this version cannot make"
        yield Finding(
            "target_unavailable",
            Severity.ERROR,
            reason,
            f"--url URL measures a server that is running; available targets: {', '.join(sorted(installed))}",
        )
    elif kind == "simulator" and config.spec.models:
        yield _not_simulated(config)
    elif kind != "kubernetes" and config.spec.models:
        yield Finding(
            "models_not_deployed",
            Severity.INFO,
            f"spec.models is not deployed; the target is '{kind}'",
        )


def _not_simulated(config: BenchmarkConfig) -> Finding:
    """What is measured is not what ``spec.models`` says; a warning where nobody chose what is."""
    target = config.spec.target
    simulated = (target and target.simulator) or SimulatorTargetConfig()
    asked = ", ".join(f"{model.name} x {model.replicas}" for model in config.spec.models)
    return Finding(
        "models_not_simulated",
        Severity.INFO if "profile" in simulated.model_fields_set else Severity.WARNING,
        f"spec.models is not simulated ({asked}), but what spec.target.simulator says: {simulated.profile} x "
        f"{simulated.replicas}, on {simulated.tensor_parallel_size} GPU(s) each",
        "set spec.target.simulator.profile (llm-d-benchmark simulator profiles lists them), replicas and "
        "tensor_parallel_size",
    )


def _files(config: BenchmarkConfig) -> Iterator[Finding]:
    """Files of prompts and lengths that are not there: said before a server is started for them."""
    for key, path in _named_files(config):
        if isinstance(path, str) and not Path(path).exists():
            yield Finding(
                "file_missing",
                Severity.ERROR,
                f"{key}.path: {path} does not exist",
                "paths start at the folder that the command is started in",
            )


def _named_files(config: BenchmarkConfig) -> Iterator[tuple[str, object]]:
    """Blocks whose ``path`` is read by us, and that path."""
    for i, spec in enumerate(config.spec.benchmark.load_generators):
        load, key = spec.config, f"spec.benchmark.load_generators.{i}.config"
        if spec.type not in ("native", "virtual"):
            continue
        if load.workload.get("type") in ("dataset", "trace"):
            yield f"{key}.workload", load.workload.get("path")
        for name in ("input_length", "output_length"):
            yield f"{key}.{name}", getattr(getattr(load, name), "path", None)
    target = config.spec.target
    if target is not None and target.type == "simulator" and target.simulator is not None:
        yield "spec.target.simulator.output_length", getattr(target.simulator.output_length, "path", None)


def _generators(config: BenchmarkConfig, installed: Set[str]) -> Iterator[Finding]:
    for kind in dict.fromkeys(g.type for g in config.spec.benchmark.load_generators):
        if kind in installed:
            continue
        hint = nearest(kind, installed)
        yield Finding(
            "generator_unavailable",
            Severity.ERROR,
            f"load generator '{kind}' is not available{hint}",
            f"--load-generator native runs the same keys; available: {', '.join(sorted(installed))}",
        )
    if config.spec.load_generators:
        yield _info("load_generators", "choosing features of load generators (config_file is used)")


def _monitoring(config: BenchmarkConfig) -> Iterator[Finding]:
    cluster, monitoring = config.spec.cluster, config.spec.monitoring
    named = config.spec.collectors.prometheus.url or (cluster and cluster.monitoring.prometheus_url)
    if cluster is not None and cluster.monitoring.enabled and not named:
        yield Finding(
            "prometheus_unnamed",
            Severity.WARNING,
            "spec.cluster.monitoring is enabled, but nothing says where Prometheus answers; nothing is taken from it",
            "set spec.cluster.monitoring.prometheus_url",
        )
    if monitoring is not None and monitoring.alerts:
        names = ", ".join(name for entry in monitoring.alerts for name in entry)
        yield Finding(
            "alerts_unavailable", Severity.WARNING, f"alerts are not evaluated during a run in this version: {names}"
        )
    if monitoring is not None and (monitoring.metrics or monitoring.dashboards):
        yield _info("monitoring", "choosing what is watched")


def _objectives(config: BenchmarkConfig) -> Iterator[Finding]:
    for slo in config.spec.performance_targets.slos:
        metric = parse_metric(slo.name).metric
        if metric in PRICED and config.spec.prices is None:
            yield Finding(
                "slo_not_measured",
                Severity.WARNING,
                f"the objective '{slo.name}' cannot be judged: {metric} needs prices",
                "give spec.prices, e.g. with -c prices.yaml (llm-d-benchmark config schema shows its keys)",
            )


def _kept(config: BenchmarkConfig) -> Iterator[Finding]:
    for block, what in KEPT.items():
        if getattr(config.spec, block) is not None:
            yield _info(block, what)


def _info(block: str, what: str) -> Finding:
    return Finding(
        "kept", Severity.INFO, f"spec.{block} is validated and kept; it has no effect on a run in this version ({what})"
    )
