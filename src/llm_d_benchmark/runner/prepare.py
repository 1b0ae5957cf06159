"""Setup: from a configuration and a ready endpoint to the jobs of the load generators."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.layers import LoadedConfig
from ..config.load import LoadConfig
from ..config.model import BenchmarkConfig, LoadGeneratorSpec
from ..domain.endpoint import Endpoint
from ..domain.errors import ConfigError
from ..domain.events import Finding
from ..domain.schedule import StageSource, next_start
from ..loadgen.api import LoadGenerator, LoadJob, NeedsInstalling
from ..loadgen.native.feeder import bounded
from ..loadgen.registry import default_endpoint, load_generator
from ..target.probe import ServerProbe
from ..workload.api import HasFindings, PromptSizer, Schedule, Workload, WorkloadContext
from ..workload.registry import create_workload
from ..workload.replay import needs_text
from ..workload.schedule import build_schedule, workload_options
from ..workload.sizers import WordSizer, array_of
from ..workload.sizing import SizerReport, build_sizer
from ..workload.stages import stage_source
from ..workload.words import words
from .options import RunOptions

if TYPE_CHECKING:
    from ..simulator.deployment import VirtualDeployment


@dataclass(frozen=True, slots=True)
class Prepared:
    """One load generator with the job it is about to do."""

    spec: LoadGeneratorSpec
    generator: LoadGenerator
    job: LoadJob
    sizer: SizerReport


def endpoint_of(spec: LoadGeneratorSpec) -> str:
    """``chat`` or ``completions``: what its configuration says, else what the generator uses."""
    return spec.config.endpoint or default_endpoint(spec.type)


def stages_of(config: BenchmarkConfig, spec: LoadGeneratorSpec, first_index: int) -> StageSource:
    """The stages of one load generator under the run's defaults."""
    benchmark = config.spec.benchmark
    return stage_source(
        spec.config,
        duration_s=benchmark.duration,
        warmup_s=benchmark.warmup,
        cooldown_s=benchmark.cooldown,
        first_index=first_index,
        endpoint=endpoint_of(spec),
    )


def check_workloads(loaded: LoadedConfig, *, read: bool = True) -> list[Finding]:
    """What is wrong with the workloads, said before any server is started or asked.

    Args:
        read: also make the first session of each stage, which opens the files.

    Returns:
        What the workloads have to say of their files.

    Raises:
        ConfigError: a workload's options, or its file, with the place of the key.
    """
    found: list[Finding] = []
    sizer = WordSizer(array_of(words()), "none", 0, None)
    for i, spec in enumerate(loaded.config.spec.benchmark.load_generators):
        try:
            workload = _workload(spec.config, endpoint_of(spec), sizer)
            # A tool of its own may read files in forms that are not known here.
            if read and not isinstance(load_generator(spec.type), NeedsInstalling):
                schedule = build_schedule(spec.config, workload, seed=spec.config.seed, default_model="")
                for stage in stages_of(loaded.config, spec, 0).planned():
                    next(schedule.sessions(stage), None)
        except ConfigError as error:
            key = f"spec.benchmark.load_generators.{i}.config"
            key += ".workload" if "workload" in spec.config.model_fields_set else ""
            lines = [loaded.located(f"{key}: {line}") for line in error.message.splitlines()]
            raise ConfigError("\n".join(lines), advice=error.advice) from None
        if isinstance(workload, HasFindings):
            found += workload.findings()
    return found


async def prepare(
    config: BenchmarkConfig,
    endpoint: Endpoint,
    *,
    options: RunOptions,
    tokenizer_path: str | None,
    log_dir: Path,
    stop: asyncio.Event,
    clock_offset: int,
    deployment: VirtualDeployment | None = None,
) -> list[Prepared]:
    """Jobs for every load generator of the configuration, in order. With ``deployment``, in virtual time.

    Raises:
        ConfigError: a workload or a load that cannot be run.
        TargetError: the server refused the probes that exact prompt lengths need.
    """
    sizers: dict[tuple[str, bool], SizerReport] = {}
    prepared: list[Prepared] = []
    next_stage = 0
    start_at = options.start_at
    given = {} if deployment is None else {"deployment": deployment}
    async with AsyncExitStack() as stack:
        probe = None if deployment else await stack.enter_async_context(ServerProbe(endpoint))
        for spec in config.spec.benchmark.load_generators:
            load = spec.config
            kind, text = endpoint_of(spec), needs_text(load.workload)
            if (kind, text) not in sizers:
                if probe is None:
                    from .simulated import sizer_report

                    sizers[kind, text] = sizer_report(kind)
                else:
                    sizers[kind, text] = await build_sizer(
                        probe, endpoint=kind, tokenizer_path=tokenizer_path, seed=load.seed, text=text
                    )
            sizer = sizers[kind, text]
            stages = stages_of(config, spec, next_stage)
            if stages.adaptive and options.shard.count > 1:
                raise ConfigError(
                    "a sweep chooses each load from the last one's result, so it cannot be sharded",
                    advice="run the sweep on one machine, or list the loads as 'stages' and shard those",
                )
            next_stage += len(stages.planned())
            prepared.append(
                Prepared(
                    spec,
                    load_generator(spec.type),
                    LoadJob(
                        endpoint=endpoint,
                        config=load,
                        stages=stages,
                        schedule=_schedule(load, kind, sizer.sizer, endpoint),
                        log_dir=log_dir / spec.type,
                        stop=stop,
                        clock_offset=clock_offset,
                        goodput={str(k): v for k, v in config.spec.benchmark.goodput.items()},
                        shard=options.shard,
                        start_at=start_at,
                        first_stage=next_stage - len(stages.planned()),
                        options={
                            "drain_s": config.spec.benchmark.drain,
                            "worker": None if prepared else options.worker,
                            **given,
                        },
                        tokenizer=None if tokenizer_path is None else Path(tokenizer_path),
                        template_tokens=sizer.sizer.overhead if kind == "chat" else 0,
                    ),
                    sizer,
                )
            )
            start_at = _start_after(start_at, stages, config.spec.benchmark.drain)
    return prepared


def _start_after(start_at: int | None, stages: StageSource, drain_s: float) -> int | None:
    """When the next load generator starts, the same on every machine; None where that cannot be said beforehand."""
    if stages.adaptive:
        return None
    for stage in stages.planned():
        start_at = next_start(start_at, stage, drain_s)
    return start_at


def nothing_due(job: LoadJob) -> bool:
    """Whether no request of the schedule is this shard's, as where there are fewer requests than shards."""
    for stage in job.stages.planned():
        for position, session in enumerate(bounded(job.schedule.sessions(stage), stage.num_requests)):
            if stage.load_s is not None and (session.offset_s or 0.0) >= stage.load_s:
                break  # the rest lies behind the end of the load
            if job.shard.owns(position, stage.load.concurrency):
                return False
    return True


def _workload(load: LoadConfig, kind: str, sizer: PromptSizer) -> Workload:
    options = workload_options(load)
    return create_workload(options, WorkloadContext(sizer=sizer, endpoint=kind, options=options))


def _schedule(load: LoadConfig, kind: str, sizer: PromptSizer, endpoint: Endpoint) -> Schedule:
    return build_schedule(load, _workload(load, kind, sizer), seed=load.seed, default_model=endpoint.model or "")
