"""Results built by hand, for the reports: a sweep of several stages, with every kind of value in it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from llm_d_benchmark.domain.result import (
    Absent,
    Distribution,
    Estimate,
    FindingRecord,
    Identity,
    Insufficient,
    Lengths,
    Measured,
    Metrics,
    Percentile,
    Reason,
    RequestCounts,
    RunResult,
    Saturation,
    SloResult,
    StageResult,
    SteadyState,
    TargetInfo,
    Validity,
    Window,
    WorkerLoad,
)

START = 1_767_225_600_000_000_000
CLOSED_LOOP = "a closed loop has no schedule"


def distribution(median: float, spread: float, count: int) -> Distribution:
    """A lognormal's, with limits wherever ``count`` is large enough for them."""
    rng = np.random.default_rng(count)
    values = np.exp(rng.normal(math.log(median), spread, count))
    percentiles: dict[str, Percentile] = {}
    for key, level, least in (
        ("p50", 0.5, 6),
        ("p90", 0.9, 36),
        ("p95", 0.95, 72),
        ("p99", 0.99, 368),
        ("p99.9", 0.999, 3688),
    ):
        value = float(np.quantile(values, level))
        percentiles[key] = Estimate(value, value * 0.94, value * 1.07) if count >= least else Insufficient(value)
    return Distribution(
        "s", count, float(values.mean()), float(values.std()), float(values.min()), float(values.max()), percentiles
    )


def metrics(rate: float, load: float = 0.5, *, requests: int = 400, failed: int = 0) -> Metrics:
    """Metrics at ``rate`` requests/s, with the server loaded to the fraction ``load``."""
    slow = 1 / max(0.08, 1 - load)
    errors = {"http_429": failed - failed // 3, "timeout_first_token": failed // 3} if failed else {}
    counts = RequestCounts(requests, requests - failed, failed, 0, {k: v for k, v in errors.items() if v})
    whole = dataclasses.replace(counts, sent=requests + 40, succeeded=requests + 38 - failed, cancelled=2)
    absent = Absent("no per-chunk usage from this server")
    return Metrics(
        requests=counts,
        requests_total=whole,
        error_rate=Measured(failed / requests, "fraction"),
        ttft=distribution(0.045 * slow, 0.35, requests),
        tpot=distribution(0.0121 * slow**0.5, 0.10, requests),
        itl=distribution(0.0117 * slow**0.5, 0.30, requests * 127),
        itl_per_token=absent,
        ntpot=distribution(0.0128 * slow**0.5, 0.12, requests),
        e2e=distribution(1.62 * slow**0.5, 0.12, requests),
        connect=distribution(0.00031, 0.4, 16),
        ttft_scheduled=distribution(0.0457 * slow, 0.36, requests),
        e2e_scheduled=distribution(1.63 * slow**0.5, 0.12, requests),
        schedule_delay=distribution(0.00012, 0.5, requests),
        cap_wait=Absent("no concurrency cap"),
        output_tokens_per_second=Measured(rate * 127.6, "tokens/s"),
        input_tokens_per_second=Measured(rate * 512.0, "tokens/s"),
        total_tokens_per_second=Measured(rate * 639.6, "tokens/s"),
        requests_per_second=Measured(rate, "requests/s"),
        batches_per_second=Absent("the server does not tell"),
        goodput=Measured(rate * (0.99 if load < 0.85 else 0.41), "requests/s"),
        goodput_fraction=Measured(0.99 if load < 0.85 else 0.41, "fraction"),
        requested_rate=Measured(rate * 1.001, "requests/s"),
        achieved_rate=Measured(rate * 1.0005, "requests/s"),
        sent_gap_cv=Measured(1.013, ""),
        concurrency=Measured(rate * 1.62 * slow**0.5, "requests"),
        concurrency_max=Measured(float(round(rate * 2.4 * slow**0.5)), "requests"),
        input_length=Lengths(
            Measured(512.0, "tokens"), Measured(512.4, "tokens"), Measured(0.00078, "fraction"), "usage"
        ),
        output_length=Lengths(
            Measured(128.0, "tokens"), Measured(127.6, "tokens"), Measured(-0.0031, "fraction"), "usage"
        ),
        prefix_hit_rate=Absent("the server does not tell"),
    )


def stage(index: int, rate: float, load: float, **more: Any) -> StageResult:
    seconds = 30.0
    start = START + int((5 + index * 40) * 1e9)
    shape = {"rate": rate, "concurrency": None, "arrival": {"type": "poisson"}, "ramp": 0.0}
    measured = metrics(rate if load < 0.95 else rate * 0.88, load, requests=int(rate * seconds), **more)
    return StageResult(
        index=index,
        name=f"level-{index}",
        load_generator="native",
        load={"name": f"level-{index}", "load": shape, "duration": seconds},
        label=f"{rate:g}/s poisson",
        window=Window(start, start + int(seconds * 1e9), seconds),
        metrics=measured,
        by_model={"meta/llama-3~8b": measured},
        steady_state=SteadyState(True, 0.02, "e2e", "steady: MSER-5 would drop 2 %"),
    )


def validity(valid: bool = True) -> Validity:
    reason = Reason(
        "schedule_delay",
        "requests left the client 48 ms (p99) after they should have; the limit is 5 ms",
        "give the client more cores, or split the load over machines with --shard",
        2,
    )
    workers = [
        WorkerLoad(str(i), Measured(0.31 + i / 50, "fraction"), *(Measured(v, "s") for v in (4e-5, 0.0007, 0.0021)))
        for i in range(2)
    ]
    identities = [
        Identity("Little's law", i, Measured(14.1, "requests"), Measured(14.3, "requests"), 0.05, True)
        for i in range(3)
    ]
    return Validity(
        valid=valid,
        reasons=() if valid else (reason,),
        workers=workers,
        schedule_delay_p99=Measured(0.00041 if valid else 0.048, "s"),
        idle_round_trip=Measured(0.00027, "s"),
        limits={"schedule_delay_p99": Measured(0.005, "s"), "loop_lag_p99": Measured(0.01, "s")},
        identities=identities,
    )


def result(stages: int = 5, **changes: Any) -> RunResult:
    """A sweep whose last stages saturate the server."""
    growth = 1.6 if stages <= 5 else 9.7 ** (1 / (stages - 1))
    levels = [(2.0 * growth**i, min(0.97, 0.15 * growth**i)) for i in range(stages)]
    found = [stage(i, rate, load, failed=7 if load > 0.9 else 0) for i, (rate, load) in enumerate(levels)]
    sent, failed = (sum(getattr(s.metrics.requests_total, k) for s in found) for k in ("sent", "failed"))
    errors: dict[str, int] = {}
    for s in found:
        for name, n in s.metrics.requests_total.errors.items():
            errors[name] = errors.get(name, 0) + n
    cancelled = 2 * len(found)
    knee = max(0, stages - 2)
    made = RunResult(
        run_id="20260101-000000-llama-sweep-3f9a",
        name="llama-sweep",
        status="ok",
        simulated=False,
        config_digest="5b0c7f0e6f9d",
        tool_version="0.3.0",
        started=START,
        ended=START + int((10 + stages * 40) * 1e9),
        target=TargetInfo(
            "existing", "http://gpu-1:8000", "meta/llama-3~8b", "vLLM 0.11.0", "c0ffee12", {"version": "0.11.0"}
        ),
        validity=validity(),
        stages=found,
        requests=RequestCounts(sent, sent - failed - cancelled, failed, cancelled, errors),
        saturation=Saturation(
            "rate",
            Measured(levels[knee][0], "requests/s"),
            knee,
            "beyond it the server completed less than was offered",
            (),
        )
        if stages > 1
        else None,
        slos=(
            SloResult(
                "p95_latency",
                "e2e.p95",
                "<3000ms",
                1.0,
                "pass",
                Measured(2.41, "s"),
                Measured(2.58, "s"),
                knee,
                "the upper bound is under the target",
            ),
            SloResult(
                "ttft_p99",
                "ttft.p99",
                "<200ms",
                None,
                "inconclusive",
                Measured(0.193, "s"),
                Absent("too few requests for limits"),
                knee,
                "367 requests are too few",
            ),
        ),
        findings=(
            FindingRecord("lengths", "info", "output length was 0.3 % off what was asked"),
            FindingRecord(
                "saturated",
                "warning",
                "the last stage offered more than the server completes",
                "read its latencies as those of a growing queue",
            ),
        ),
    )
    return dataclasses.replace(made, **changes)
