"""``--dry-run``: what a run would do, without touching the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.layers import LoadedConfig
from ..config.load import Length
from ..config.model import BenchmarkConfig
from ..config.resolve import resolve_target
from ..config.simulator import SimulatorTargetConfig
from ..domain.events import Finding
from ..domain.schedule import Shard, Stage
from ..loadgen.native.fleet import worker_count
from ..target.api import Target
from ..target.registry import create_target
from ..workload.arrivals import expected_arrivals
from ..workload.conversation import expected_turns
from ..workload.schedule import workload_options
from .prepare import stages_of
from .run import preflight
from .virtual import simulated_in

# Resident memory under a light load as measured on Linux with Python 3.11: main process 101 MiB, a worker 41 MiB.
BASE_BYTES = 101 * 2**20
WORKER_BYTES = 41 * 2**20


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage as it would run. ``requests`` is None where the server's speed decides."""

    generator: str
    stage: Stage
    adaptive: bool
    requests: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``--dry-run`` shows."""

    target: Mapping[str, Any]
    stages: list[PlannedStage]
    findings: list[Finding]
    client_bytes: int
    requests: float | None = None
    seconds: float | None = None
    lengths: Sequence[Mapping[str, str]] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": dict(self.target),
            "stages": [
                {
                    "load_generator": s.generator,
                    **s.stage.to_dict(),
                    "index": s.stage.index,
                    "adaptive": s.adaptive,
                    "expected_requests": s.requests,
                    "expected_seconds": s.seconds,
                }
                for s in self.stages
            ],
            "expected_requests": self.requests,
            "expected_seconds": self.seconds,
            "expected_client_memory_bytes": self.client_bytes,
            "lengths": list(self.lengths),
            "findings": [f.to_dict() for f in self.findings],
        }


def plan(loaded: LoadedConfig, shard: Shard) -> Plan:
    """The plan of a run.

    Raises:
        ConfigError: the configuration cannot run.
    """
    findings = preflight(loaded)
    config = loaded.config
    target_config = resolve_target(config)
    simulated = simulated_in(config, target_config)
    stages: list[PlannedStage] = []
    lengths = []
    workers = 0
    for spec in config.spec.benchmark.load_generators:
        source, turns = stages_of(config, spec, len(stages)), expected_turns(workload_options(spec.config))
        stages += [
            PlannedStage(spec.type, s, source.adaptive, _share(expected_requests(s, turns), s, shard), s.load_s)
            for s in source.planned()
        ]
        streams = max((s.load.concurrency or 1 for s in source.planned()), default=1)
        if simulated is None:
            workers = max(workers, spec.config.workers or worker_count(shard.share(streams)))
        lengths.append({"input": _length(spec.config.input_length), "output": _length(spec.config.output_length)})
    target = create_target(target_config) if simulated is None else _simulated(config, simulated)
    return Plan(
        target={"type": target_config.type, **target.plan()},
        stages=stages,
        findings=findings,
        client_bytes=BASE_BYTES + workers * WORKER_BYTES,
        requests=_total(s.requests for s in stages),
        seconds=_total(s.seconds for s in stages),
        lengths=lengths,
    )


def _simulated(config: BenchmarkConfig, settings: SimulatorTargetConfig) -> Target:
    from .simulated import VirtualTarget, check_requests

    target = VirtualTarget(settings)
    check_requests(config, target.profile)
    return target


def expected_requests(stage: Stage, turns: float = 1.0) -> float | None:
    """Requests a stage releases, of so many turns a session; None for a closed loop bounded by time, where the server's
    speed decides."""
    by_rate = None
    if stage.load.open_loop and stage.load_s is not None:
        sessions = expected_arrivals(stage.load, stage.load_s)
        by_rate = None if sessions is None else sessions * turns
    known = [n for n in (by_rate, stage.num_requests) if n is not None]
    return min(known) if known else None


def extent(config: BenchmarkConfig) -> tuple[int | None, float | None]:
    """Number of stages and seconds of load in all; None where a sweep or the server's speed decides."""
    stages: list[Stage] = []
    for spec in config.spec.benchmark.load_generators:
        source = stages_of(config, spec, len(stages))
        if source.adaptive:
            return None, None
        stages += source.planned()
    return len(stages), _total(s.load_s for s in stages)


def _share(requests: float | None, stage: Stage, shard: Shard) -> float | None:
    return None if requests is None else requests * shard.fraction(stage.load.concurrency)


def _total(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if any(v is None for v in values) else sum(v for v in values if v is not None)


def _length(length: Length | None) -> str:
    if length is None:
        return "as the workload says"
    return ", ".join(
        f"{k} {v}" for k, v in length.model_dump(exclude_none=True).items() if k != "distribution" or v != "fixed"
    )
