"""The metrics of a stage of which a tool kept no requests: its own figures under our names, and nothing beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..domain.result import (
    PERCENTILES,
    Absent,
    Distribution,
    DistributionOrAbsent,
    Lengths,
    Measured,
    Metrics,
    Percentile,
    Reported,
    RequestCounts,
    Scalar,
    StageResult,
    SteadyState,
    Window,
)
from .windows import StageWindow

NO_REQUESTS = "the tool kept no requests and does not report it"
_PERCENTILE = re.compile(r"p\d+(\.\d+)?")
_OUTCOMES = ("succeeded", "failed", "cancelled")


def only_reported(window: StageWindow) -> bool:
    """Whether the tool's own figures are all there is of this stage."""
    return bool(window.told) and not window.told.get("records", True)


def figures(window: StageWindow) -> dict[str, Measured]:
    """The tool's own figures by our names (``ttft.mean``, ``requests_per_second``)."""
    found = window.told.get("reported") or {}
    return {str(k): Measured(float(v["value"]), str(v["unit"])) for k, v in found.items()}


def reported_stage(window: StageWindow) -> StageResult:
    """A stage of the tool's own figures; its percentiles have no limits."""
    metrics = _metrics(figures(window), window)
    return StageResult(
        index=window.index,
        name=str(window.plan.get("name", window.index)),
        load_generator=window.generator,
        load=dict(window.plan),
        label=str(window.plan.get("label", "")),
        window=Window(window.start, window.end, window.seconds),
        metrics=metrics,
        by_model={},
        steady_state=SteadyState(None, None, "none", "not judged: the tool kept no requests"),
    )


def measured_something(stage: StageResult) -> bool:
    """Whether some request succeeded and the window saw any, or a tool that counts none reports latencies."""
    m = stage.metrics
    reported = isinstance(m.e2e, Distribution) or isinstance(m.ttft, Distribution)
    return reported or (m.requests_total.succeeded > 0 and not missed(stage))


def missed(stage: StageResult) -> bool:
    """Whether there were requests, but none of them was sent or answered inside the window."""
    m = stage.metrics
    inside = any(isinstance(x, Measured) and x.value > 0 for x in (m.requests_per_second, m.output_tokens_per_second))
    return m.requests_total.sent > 0 and m.requests.sent == 0 and not inside


def counts(told: Mapping[str, Any]) -> RequestCounts | None:
    """The tool's counts, what they leave out by difference; None where it counts nothing.

    Counts that cannot be all true stay as they are told, for the identity of the counts to say so; but nothing is
    made of them that no number of requests can be.
    """
    known = {k: int(v) for k, v in (told.get("counts") or {}).items() if k in ("sent", *_OUTCOMES) and v >= 0}
    if "sent" not in known and "succeeded" not in known:
        return None
    failed, cancelled = known.get("failed", 0), known.get("cancelled", 0)
    succeeded = known.get("succeeded", max(0, known.get("sent", 0) - failed - cancelled))
    sent = known.get("sent", succeeded + failed + cancelled)
    return RequestCounts(sent, succeeded, failed, cancelled, {"unknown": failed} if failed else {})


def _metrics(own: Mapping[str, Measured], window: StageWindow) -> Metrics:
    counted = counts(window.told)
    requests = counted or RequestCounts(0, 0, 0, 0)

    def scalar(*names: str) -> Scalar:
        return next((own[n] for n in names if n in own), Absent(NO_REQUESTS))

    def spread(name: str) -> DistributionOrAbsent:
        return _distribution(name, own, requests.succeeded)

    finished = requests.succeeded + requests.failed
    rate = own.get("error_rate") or (
        Measured(requests.failed / finished, "fraction") if finished else Absent("the tool counts no requests")
    )
    absent_or_known: dict[str, Any] = {name: spread(name) for name in _DISTRIBUTIONS}
    absent_or_known |= {name: scalar(name) for name in _SCALARS}
    return Metrics(
        requests=requests,
        requests_total=requests,
        error_rate=rate,
        **absent_or_known,
        requested_rate=scalar("requested_rate") if window.rate is None else Measured(window.rate, "requests/s"),
        input_length=_length(scalar("input_length", "input_length.mean", "input_tokens.mean")),
        output_length=_length(scalar("output_length", "output_length.mean", "output_tokens.mean")),
    )


_DISTRIBUTIONS = (
    "ttft", "tpot", "itl", "itl_per_token", "ntpot", "e2e", "connect", "ttft_scheduled", "e2e_scheduled",
    "schedule_delay", "cap_wait",
)  # fmt: skip
_SCALARS = (
    "output_tokens_per_second", "input_tokens_per_second", "total_tokens_per_second", "requests_per_second",
    "batches_per_second", "goodput", "goodput_fraction", "achieved_rate", "sent_gap_cv", "concurrency",
    "concurrency_max", "prefix_hit_rate",
)  # fmt: skip


def _distribution(name: str, own: Mapping[str, Measured], succeeded: int) -> DistributionOrAbsent:
    mean = own.get(f"{name}.mean")
    if mean is None:
        return Absent(NO_REQUESTS)

    def number(statistic: str) -> float | None:
        found = own.get(f"{name}.{statistic}")
        return None if found is None else found.value

    percentiles: dict[str, Percentile] = {}
    for level in _levels(name, own):
        value = number(level)
        percentiles[level] = Absent("the tool does not report it") if value is None else Reported(value)
    count = number("count")
    return Distribution(
        mean.unit,
        succeeded if count is None else int(count),
        mean.value,
        number("sd"),
        number("min"),
        number("max"),
        percentiles,
        "reported",
    )


def _levels(name: str, own: Mapping[str, Measured]) -> list[str]:
    """The percentiles that every result has, and whatever others the tool tells (p25, say), ascending."""
    statistics = (key.removeprefix(f"{name}.") for key in own if key.startswith(f"{name}."))
    told = (s for s in statistics if _PERCENTILE.fullmatch(s))
    return sorted({*told, *(level for level, _ in PERCENTILES)}, key=lambda level: float(level[1:]))


def _length(achieved: Scalar) -> Lengths:
    unknown = Absent("the tool's result does not tell")
    return Lengths(unknown, achieved, unknown, None if isinstance(achieved, Absent) else "reported")
