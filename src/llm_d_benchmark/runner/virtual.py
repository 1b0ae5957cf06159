"""Runs in virtual time: which configurations are such runs, and how any becomes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..config.layers import LoadedConfig, digest_of
from ..config.model import BenchmarkConfig, LoadGeneratorSpec
from ..config.simulator import SimulatorTargetConfig
from ..config.target import TargetConfig
from ..domain.errors import ConfigError
from ..domain.events import Finding, Severity
from .options import RunOptions

GENERATOR = "virtual"


def in_virtual_time(loaded: LoadedConfig) -> LoadedConfig:
    """The same configuration with every load generator replaced by the one of virtual time.

    Keys that only the replaced one knows (``native``) are left out, with a warning.
    """
    spec = loaded.config.spec
    virtual = [_virtual(g) for g in spec.benchmark.load_generators]
    benchmark = spec.benchmark.model_copy(update={"load_generators": virtual})
    config = loaded.config.model_copy(update={"spec": spec.model_copy(update={"benchmark": benchmark})})
    left_out = loaded.placed(_left_out(spec.benchmark.load_generators))
    return replace(loaded, config=config, digest=digest_of(config), warnings=[*loaded.warnings, *left_out])


def _virtual(spec: LoadGeneratorSpec) -> LoadGeneratorSpec:
    own = spec.config.native if spec.type == GENERATOR else {}
    return LoadGeneratorSpec(type=GENERATOR, config=spec.config.model_copy(update={"native": own}))


def _left_out(specs: Sequence[LoadGeneratorSpec]) -> Iterator[Finding]:
    for number, spec in enumerate(specs):
        if spec.type != GENERATOR and spec.config.native:
            yield Finding(
                "native_without_effect",
                Severity.WARNING,
                f"spec.benchmark.load_generators.{number}.config.native: in virtual time these keys of {spec.type} "
                f"change nothing: {', '.join(sorted(spec.config.native))}",
            )


def simulated_in(config: BenchmarkConfig, target: TargetConfig) -> SimulatorTargetConfig | None:
    """The deployment that a run in virtual time simulates; None for a run in real time.

    Raises:
        ConfigError: only a part of the run would be in virtual time, or its target is no simulator.
    """
    kinds = {g.type for g in config.spec.benchmark.load_generators}
    if GENERATOR not in kinds:
        return None
    if others := sorted(kinds - {GENERATOR}):
        raise ConfigError(
            f"the load generator 'virtual' cannot run beside {', '.join(others)}: it has a time of its own",
            advice="llm-d-benchmark simulator run puts every load generator into virtual time",
        )
    if target.simulator is None:
        raise ConfigError(
            f"the load generator 'virtual' needs a simulated deployment, and spec.target.type is '{target.type}'",
            advice="set spec.target: {type: simulator}, or use the load generator native",
        )
    return target.simulator


def refuse(options: RunOptions) -> None:
    """Raises ConfigError for what has no meaning in virtual time."""
    if options.shard.count > 1:
        raise ConfigError(
            "a run in virtual time cannot be sharded: every part would have the whole server to itself",
            advice="leave --shard out; the run takes one core of one machine",
        )
    if options.start_at is not None:
        raise ConfigError("a run in virtual time starts at once", advice="leave --start-at out")
