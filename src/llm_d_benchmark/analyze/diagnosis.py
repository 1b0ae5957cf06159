"""What limited a stage: each claim with the measurements it rests on, and how sure it is.

The time of a request is split into queueing, prefill and decode by the server's own histograms, or, where it tells
nothing, into the time to the first token and the rest by the client's. Thresholds are in ``docs/diagnosis.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..config.model import BenchmarkConfig
from ..domain.result import Claim, Distribution, DistributionOrAbsent, Measured, Scalar, StageResult, Validity

Confidence = Literal["high", "medium", "low", "unknown"]
MAIN_SHARE = 0.5
"""A phase with more than this share of a request's time is what limited it."""
SOME_SHARE = 0.2
FULL_CACHE = 0.95
ERRORS = 0.01
LOW_HIT_RATE = 0.2
ROUND_TRIP_SHARE = 0.2
REUSING = frozenset({"shared_prefix", "conversation"})
"""Workloads whose prompts share prefixes."""


def diagnose(stages: Sequence[StageResult], validity: Validity, config: BenchmarkConfig) -> list[Claim]:
    """Every claim of every stage, the surest first within a stage; "unknown" where nothing can be claimed."""
    reuses = any(g.config.workload.get("type") in REUSING for g in config.spec.benchmark.load_generators)
    local = config.spec.target is not None and config.spec.target.type == "local"
    found: list[Claim] = []
    for stage in stages:
        look = _Look(stage, validity, reuses, local)
        claims = [c for find in _FINDERS for c in find(look)]
        order: Sequence[Confidence] = ("high", "medium", "low")
        found += sorted(claims, key=lambda c: order.index(c.confidence)) or [_unknown(stage)]
    return found


@dataclass(frozen=True, slots=True)
class _Look:
    """One stage as the finders see it."""

    stage: StageResult
    validity: Validity
    reuses: bool
    local: bool

    def resource(self, name: str) -> float | None:
        return _value(self.stage.resources.get(name))

    def claim(self, text: str, confidence: Confidence, evidence: Sequence[str], advice: str | None = None) -> Claim:
        return Claim(text, confidence, tuple(evidence), advice, self.stage.index)

    def advice(self, limit: str) -> str:
        return (_LOCAL_ADVICE if self.local else _ADVICE)[limit]

    def shares(self) -> tuple[dict[str, float], str, Confidence] | None:
        """Shares of a request's time by phase, where they come from, and how sure that is."""
        phases = {n: self.resource(f"server_{n}_time") for n in ("queue", "prefill", "decode")}
        known = {n: v for n, v in phases.items() if v is not None}
        if len(known) == len(phases) and sum(known.values()) > 0:
            total = sum(known.values())
            return {n: v / total for n, v in known.items()}, "the server's own histograms", "high"
        first, whole = _mean(self.stage.metrics.ttft), _mean(self.stage.metrics.e2e)
        if first is None or not whole:
            return None
        return {"before the first token": first / whole, "decode": 1 - first / whole}, "the client's times", "medium"


def _client(look: _Look) -> Iterator[Claim]:
    reasons = [r for r in look.validity.reasons if r.stage in (None, look.stage.index)]
    if reasons:
        yield look.claim("the client, not the server, limited this stage", "high", [r.message for r in reasons],
                         reasons[0].remedy)  # fmt: skip


def _errors(look: _Look) -> Iterator[Claim]:
    rate = _value(look.stage.metrics.error_rate)
    if rate is not None and rate > ERRORS:
        errors = look.stage.metrics.requests_total.errors
        worst = ", ".join(f"{n} {c}" for n, c in sorted(errors.items(), key=lambda e: -e[1])[:3])
        yield look.claim("requests failed; the others had the server to themselves", "high",
                         [f"error_rate {rate:.1%}: {worst}"], "read the server's log under logs/")  # fmt: skip


def _kv_cache(look: _Look) -> Iterator[Claim]:
    full, preempted = look.resource("kv_cache_utilization_max"), look.resource("preemptions")
    waiting = look.resource("server_waiting")
    if full is None or full < FULL_CACHE:
        return
    evidence = [f"kv_cache_utilization_max {full:.0%}"]
    if preempted:
        evidence.append(f"preemptions {preempted:.0f}")
    if waiting:
        evidence.append(f"server_waiting {waiting:.1f}")
    sure: Confidence = "high" if preempted else "medium" if waiting and waiting >= 1 else "low"
    yield look.claim("the KV cache was full", sure, evidence, look.advice("cache"))


def _phases(look: _Look) -> Iterator[Claim]:
    split = look.shares()
    if split is None:
        return
    shares, source, sure = split
    said = f"{source}: " + ", ".join(f"{n} {s:.0%}" for n, s in shares.items())
    waiting = look.resource("server_waiting")
    evidence = [said] + ([f"server_waiting {waiting:.1f}"] if waiting is not None else [])
    for phase, share in shares.items():
        if share > MAIN_SHARE:
            yield look.claim(_PHASE[phase], sure, evidence, look.advice(phase))
    queue = shares.get("queue", 0.0)
    if SOME_SHARE < queue <= MAIN_SHARE:
        yield look.claim("requests queued for a good part of their time", "medium", evidence, look.advice("queue"))


def _prefix(look: _Look) -> Iterator[Claim]:
    rate = look.resource("server_prefix_hit_rate")
    if rate is None:
        rate = _value(look.stage.metrics.prefix_hit_rate)
    if look.reuses and rate is not None and rate < LOW_HIT_RATE:
        yield look.claim("prompts share prefixes, but the prefix cache was hardly hit", "medium",
                         [f"prefix hit rate {rate:.0%} of prompt tokens"],
                         look.advice("prefix"))  # fmt: skip


def _network(look: _Look) -> Iterator[Claim]:
    trip, first = _value(look.validity.idle_round_trip), _median(look.stage.metrics.ttft)
    if trip is not None and first and trip / first > ROUND_TRIP_SHARE:
        yield look.claim("the network is a good part of every time", "medium",
                         [f"idle_round_trip {trip * 1e3:.1f} ms of ttft.p50 {first * 1e3:.1f} ms"],
                         "run the client nearer to the server, or take the round trip off when comparing")  # fmt: skip


def _unknown(stage: StageResult) -> Claim:
    why = "no phase took most of the time" if stage.resources else "the server's own metrics were not collected"
    return Claim("what limited this stage is unknown", "unknown", (why,), "see spec.collectors.scrape", stage.index)


_FINDERS = (_client, _errors, _kv_cache, _phases, _prefix, _network)
_PHASE = {
    "queue": "requests waited in the server's queue",
    "prefill": "prefill took most of a request's time",
    "decode": "decoding took most of a request's time",
    "before the first token": "most of a request's time passed before its first token: queueing or prefill",
}
_ADVICE = {
    "cache": "raise gpu-memory-utilization, use a smaller KV type or more GPUs, or lower max-num-seqs",
    "queue": "lower the load, add replicas, or raise max-num-seqs where the KV cache has room",
    "prefill": "raise max-num-batched-tokens, use prefix caching, or prefill on replicas of their own",
    "decode": "this is usual for long answers; more tensor parallelism or a smaller weight type makes steps shorter",
    "before the first token": "collect the server's own metrics to tell the two apart (spec.collectors.scrape)",
    "prefix": "enable prefix caching, route by prefix, or give the cache more room",
}
_LOCAL_ADVICE = {
    **_ADVICE,
    "cache": "raise spec.target.local.context, set a smaller cache_type_k, or lower slots",
    "queue": "lower the load, or raise spec.target.local.slots",
    "prefill": "raise spec.target.local.ubatch, or threads where cores are free",
    "decode": "this is usual for long answers; more threads, where cores are free, or a smaller model file "
    "(spec.target.local.model_path) makes steps shorter",
    "prefix": "raise spec.target.local.context, so that prefixes stay in the cache",
}
"""Of the model on this machine: what its own keys can do."""


def _value(scalar: Scalar | None) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _mean(found: DistributionOrAbsent) -> float | None:
    return found.mean if isinstance(found, Distribution) else None


def _median(found: DistributionOrAbsent) -> float | None:
    return found.at("p50") if isinstance(found, Distribution) else None
