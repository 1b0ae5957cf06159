"""Whether the numbers describe the server: the client's lateness, the lengths, and the identities of sound data."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.model import ValidityLimits
from ..domain.result import (
    Absent,
    Distribution,
    DistributionOrAbsent,
    Estimate,
    Lengths,
    Measured,
    Reason,
    Scalar,
    StageResult,
    Validity,
    WorkerLoad,
)
from .api import RunInput
from .client import worker_loads
from .identities import identities
from .windows import StageWindow

_REMEDY = (
    "use more workers (config.workers) or more machines (--shard), a lower rate or fewer streams, "
    "or free a core of this machine for the client"
)


def validity(run: RunInput, windows: Sequence[StageWindow], stages: Sequence[StageResult]) -> Validity:
    """The verdict on the client. Lag, delay and lengths decide; CPU use alone does not."""
    limits = run.config.spec.benchmark.validity
    reasons: list[Reason] = []
    workers = worker_loads(run.events, windows)
    for window, stage in zip(windows, stages, strict=True):
        reasons += _delay(stage, limits)
        reasons += _lag(worker_loads(run.events, [window]), stage, limits)
        reasons += _length(stage, "input", stage.metrics.input_length, limits.length_tolerance)
        reasons += _length(stage, "output", stage.metrics.output_length, limits.length_tolerance)
    virtual = bool(run.manifest.get("virtual_time"))
    trip = run.manifest.get("idle_round_trip_s")
    return Validity(
        valid=not reasons,
        reasons=reasons,
        workers=workers,
        schedule_delay_p99=Absent("virtual time has no client") if virtual else _worst_delay(stages),
        idle_round_trip=_round_trip(trip, virtual),
        limits={
            "schedule_delay_p99": Measured(limits.schedule_delay, "s"),
            "loop_lag_p99": Measured(limits.loop_lag, "s"),
            "relative": Measured(limits.relative, "fraction"),
            "length_tolerance": Measured(limits.length_tolerance, "fraction"),
        },
        identities=[i for stage in stages for i in identities(stage)],
    )


def _round_trip(seconds: float | None, virtual: bool) -> Scalar:
    if seconds is not None:
        return Measured(float(seconds), "s")
    return Absent("virtual time has no network" if virtual else "not measured")


def _median(*candidates: DistributionOrAbsent) -> float:
    """Median of the first that was measured, else 0."""
    return next((c.at("p50") or 0.0 for c in candidates if isinstance(c, Distribution)), 0.0)


def _worst_delay(stages: Sequence[StageResult]) -> Scalar:
    found = [s.metrics.schedule_delay for s in stages]
    values = [v for d in found if isinstance(d, Distribution) and (v := d.at("p99")) is not None]
    return Measured(max(values), "s") if values else Absent("no request was sent inside a window")


def _delay(stage: StageResult, limits: ValidityLimits) -> list[Reason]:
    delay = stage.metrics.schedule_delay
    if not isinstance(delay, Distribution):
        return []
    allowed = max(limits.schedule_delay, limits.relative * _median(stage.metrics.ttft, stage.metrics.e2e))
    name, late = _surely(delay)
    if late <= allowed:
        return []
    text = (
        f"stage {stage.name}: requests left the client {(delay.at('p99') or 0.0) * 1e3:.3g} ms (p99) after they "
        f"were ready, and surely more than {late * 1e3:.3g} ms ({name}); the limit is {allowed * 1e3:.3g} ms"
    )
    return [Reason("schedule_delay", text, _REMEDY, stage.index)]


def _surely(found: Distribution) -> tuple[str, float]:
    """The lower confidence limit of the p99, or of the highest percentile that has limits: of few requests the sample's
    p99 is its largest value, and one late request does not make the client the bottleneck."""
    for name in ("p99", "p95", "p90", "p50"):
        percentile = found.percentiles[name]
        if isinstance(percentile, Estimate):
            return name, percentile.low
    return "p50", found.at("p50") or 0.0


def _lag(workers: Sequence[WorkerLoad], stage: StageResult, limits: ValidityLimits) -> list[Reason]:
    allowed = max(limits.loop_lag, limits.relative * _median(stage.metrics.itl))
    late = [(w.loop_lag_p99.value, w.worker) for w in workers if isinstance(w.loop_lag_p99, Measured)]
    if not late or max(late)[0] <= allowed:
        return []
    lag, worker = max(late)
    text = (
        f"stage {stage.name}: the event loop of worker {worker} was {lag * 1e3:.3g} ms late (p99); "
        f"the limit is {allowed * 1e3:.3g} ms"
    )
    return [Reason("loop_lag", text, _REMEDY, stage.index)]


def _length(stage: StageResult, side: str, lengths: Lengths, tolerance: float) -> list[Reason]:
    """Lengths are judged where they were asked for and counted in tokens (not in chunks)."""
    if not isinstance(lengths.deviation, Measured) or lengths.source is None or "chunks" in lengths.source:
        return []
    off = lengths.deviation.value
    if abs(off) <= tolerance:
        return []
    asked, got = lengths.asked, lengths.achieved
    numbers = " instead of ".join(f"{x.value:.4g}" for x in (got, asked) if isinstance(x, Measured))
    text = f"stage {stage.name}: {side} was {numbers} tokens ({off:+.1%}; the limit is {tolerance:.0%})"
    return [Reason(f"{side}_length", text, _length_remedy(side, off), stage.index)]


def _length_remedy(side: str, off: float) -> str:
    if side == "input":
        return "use endpoint completions with token ids, or the [tokenizers] extra, for exact prompts"
    if off < 0:
        return (
            "the model stopped by itself: set parameters.ignore_eos: true where the server knows it, or leave "
            "output_length out to accept the model's own lengths; a short context of the server cuts answers too"
        )
    return "the server does not keep to max_tokens; check that it, or a proxy before it, passes that parameter on"
