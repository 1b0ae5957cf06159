"""From a run to its result: the whole analysis, pure and deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..domain.events import EventType
from ..domain.latencies import per_request
from ..domain.result import (
    Absent,
    Measured,
    RequestCounts,
    RunResult,
    RunStatus,
    Scalar,
    StageResult,
    SteadyState,
    TargetInfo,
    Validity,
    Window,
)
from ..domain.samples import Samples
from .agreement import agreement
from .api import RunInput
from .canonical import names, normalise
from .comparison.stability import downtime, watched
from .cost import bill, gpus_paid_for, run_cost, with_cost
from .diagnosis import diagnose
from .findings import failed_generators, findings, idle_shard
from .gather import StageData, gather
from .metrics import View, metrics, view
from .quality import quality
from .reported import measured_something, only_reported, reported_stage
from .resources import resources
from .saturation import saturations
from .slos import judge, score
from .steady import steady_state
from .timeseries import Lines
from .validity import validity


def analyze(run: RunInput) -> RunResult:
    """The result of a run. The same input gives the same result, however its records are cut into parts."""
    data = gather(run)
    benchmark = run.config.spec.benchmark
    lines, normalised = normalise(Lines.of(Samples.concat(list(run.samples()))))
    target, prices = _target(run.manifest.get("target") or {}, lines), run.config.spec.prices
    limits = {str(k): x for k, x in benchmark.goodput.items()}
    stages = [_with_resources(_stage(d, limits), lines) for d in data]
    bills = [
        bill(s, prices, gpus_paid_for(prices, s, target), _down(d)) for s, d in zip(stages, data, strict=True) if prices
    ]
    stages = [with_cost(s, b) for s, b in zip(stages, bills, strict=True)] if bills else stages
    windows = [d.window for d in data]
    requests = _total([s.metrics.requests_total for s in stages])
    valid = validity(run, windows, stages)
    knees = saturations(benchmark.load_generators, windows, stages, [d.turns for d in data])
    slos = judge(run.config.spec.performance_targets.slos, stages, knees)
    return RunResult(
        run_id=run.run_id,
        name=run.config.metadata.name,
        status=_status(run, stages, valid, all(w.ended for w in windows)),
        simulated=bool(run.manifest.get("simulated", False)),
        config_digest=str(run.manifest.get("config_digest", "")),
        tool_version=str(run.manifest.get("tool_version", "")),
        started=_started(run),
        ended=_ended(run),
        target=target,
        validity=valid,
        stages=stages,
        requests=requests,
        saturation=next(iter(knees), None),
        saturations=knees,
        slos=slos,
        slo_score=score(slos),
        cost=run_cost(stages, bills),
        diagnosis=diagnose(stages, valid, run.config),
        agreement=agreement(data, stages, benchmark.load_generators, valid.reasons),
        findings=findings(run, stages, requests, valid.identities, [*normalised, *quality(lines, stages)]),
        missing_shards=tuple(run.missing_shards),
    )


def _stage(data: StageData, goodput: Mapping[str, float]) -> StageResult:
    if only_reported(data.window) and not len(data.table):
        return reported_stage(data.window)
    w, whole = data.window, view(data, goodput)
    found = metrics(whole)
    models = sorted(data.table.labels["model"].counts())
    by_model = {m: found if len(models) == 1 else metrics(view(data, goodput, m)) for m in models}
    return StageResult(
        index=w.index,
        name=str(w.plan.get("name", w.index)),
        load_generator=w.generator,
        load=dict(w.plan),
        label=str(w.plan.get("label", "")),
        window=Window(w.start, w.end, w.seconds),
        metrics=found,
        by_model=by_model,
        steady_state=_steady(whole),
    )


def _with_resources(stage: StageResult, lines: Lines) -> StageResult:
    """The stage with what collectors saw over its window."""
    if not lines:
        return stage
    found = resources(lines, stage.window.start, stage.window.end)
    values = {k: v for k, v in found.values.items() if k != "batches_per_second"}
    metrics = replace(stage.metrics, batches_per_second=found.values["batches_per_second"])
    return replace(stage, resources=values, resource_sources=found.sources, gpus=found.gpus, metrics=metrics)


def _down(data: StageData) -> Scalar:
    """Share of the time between the first and the last answer of a stage without a working server."""
    table = data.table
    down, seen = downtime(*watched(table["end"], table.labels["status"], table.labels["error_class"]))
    return Measured(down / seen, "fraction") if seen else Absent("too few requests ended to tell")


def _steady(v: View) -> SteadyState:
    """Judged on ttft, which grows with the queue; on e2e where nothing was streamed."""
    latency = per_request(v.ok)
    name = "ttft" if np.isfinite(latency["ttft"]).any() else "e2e"
    return steady_state(latency[name][np.isfinite(latency[name])], name)


def _total(counts: Sequence[RequestCounts]) -> RequestCounts:
    errors: dict[str, int] = {}
    for c in counts:
        for name, n in c.errors.items():
            errors[name] = errors.get(name, 0) + n
    return RequestCounts(
        sum(c.sent for c in counts),
        sum(c.succeeded for c in counts),
        sum(c.failed for c in counts),
        sum(c.cancelled for c in counts),
        dict(sorted(errors.items())),
    )


def _status(run: RunInput, stages: Sequence[StageResult], valid: Validity, ended: bool) -> RunStatus:
    """failed (nothing succeeded) before invalid (the client's fault) before partial (not whole) before ok.

    A run that was cut before anything had ended is partial, not failed.
    """
    whole = run.complete and ended and not run.missing_shards
    if not any(measured_something(s) for s in stages) and (
        (whole and not idle_shard(run, stages)) or any(s.metrics.requests_total.failed for s in stages)
    ):
        return "failed"
    if not valid.valid:
        return "invalid"
    return "ok" if whole and not failed_generators(run.events) else "partial"


def _started(run: RunInput) -> int:
    first = run.events[0].time if run.events else 0
    return int(run.manifest.get("started") or first)


def _ended(run: RunInput) -> int:
    """When the load was over; of a run that was cut short, when it last said something."""
    over = [
        e.time
        for e in run.events
        if e.type is EventType.PHASE and e.data.get("phase") == "benchmark" and e.data.get("state") != "start"
    ]
    return max(over or [e.time for e in run.events], default=_started(run))


def _target(info: Mapping[str, object], lines: Lines) -> TargetInfo:
    more = info.get("info")
    found = TargetInfo(
        type=str(info.get("type", "")),
        url=str(info.get("url", "")),
        model=None if info.get("model") is None else str(info["model"]),
        server=None if info.get("server") is None else str(info["server"]),
        fingerprint=str(info.get("fingerprint", "")),
        info=dict(more) if isinstance(more, Mapping) else {},
    )
    called = names(found, lines)
    return replace(found, info={**found.info, "canonical": called}) if called else found
