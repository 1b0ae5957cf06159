"""What the user should know about a result, with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..domain.events import Event, EventType
from ..domain.result import Distribution, FindingRecord, Identity, Insufficient, Measured, RequestCounts, StageResult
from .api import RunInput
from .reported import measured_something, missed

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "connect": "check the URL and that the server runs and listens there",
        "tls": "give the server's CA with spec.target.existing.ca_file, or check its certificate",
        "http_4xx": "check the model name, the API key and the request parameters",
        "http_429": "the server limits the rate: lower the load, or raise its limit",
        "http_5xx": "look into the server's log",
        "redirect": "give the final URL; redirects are not followed",
        "timeout_connect": "the server's accept queue is full or a firewall drops packets: lower the load",
        "timeout_first_token": "the server is overloaded: lower the load, or raise timeouts.first_token",
        "timeout_total": "answers take too long: lower the load or the output length, or raise timeouts.total",
        "protocol": "the server sent what is no valid answer; check that the URL is an OpenAI-compatible API",
        "truncated": "the server, or a proxy, closed the connection in the middle of answers; look into its log",
        "server_error_event": "the server reported errors inside streams; look into its log",
        "no_content": "answers held no content; check the endpoint (chat or completions) and the model",
    }
)


def findings(
    run: RunInput,
    stages: Sequence[StageResult],
    requests: RequestCounts,
    checks: Sequence[Identity],
    others: Sequence[FindingRecord] = (),
) -> list[FindingRecord]:
    """What the run said while it went on, every finding of the analysis, and ``others``; errors first."""
    found = list(dict.fromkeys(_said(e) for e in run.events if e.type is EventType.FINDING))
    found += failed_generators(run.events)
    idle = idle_shard(run, stages)
    if idle:
        text = "no request of the schedule was this shard's: it has fewer requests than shards"
        found.append(FindingRecord("idle_shard", "info", text))
    elif not requests.succeeded and not any(measured_something(s) for s in stages):
        what = "no request succeeded" if requests.sent else "no request was sent"
        found.append(FindingRecord("no_success", "error", what, _advice(requests) or "run llm-d-benchmark doctor"))
    for name, n in sorted(requests.errors.items(), key=lambda e: (-e[1], e[0])):
        text = f"{n} of {requests.sent} requests failed: {name}"
        found.append(FindingRecord(f"errors_{name}", "warning", text, ADVICE.get(name)))
    if run.missing_shards:
        missing = ", ".join(str(i) for i in run.missing_shards)
        text = f"shards {missing} are missing: rates and counts are those of the others"
        found.append(FindingRecord("missing_shards", "warning", text, "merge again with all run folders"))
    for check in checks:
        if check.holds is False and "rate" not in check.name:
            text = f"stage {check.stage}: {check.name} does not hold"
            found.append(FindingRecord("identity", "warning", text, "compare both sides under validity in result.json"))
    for stage in () if idle else stages:
        found += [_nothing_inside(stage)] if missed(stage) else _of_stage(stage)
    found += others
    return sorted(found, key=lambda f: ("error", "warning", "info").index(f.severity))


def idle_shard(run: RunInput, stages: Sequence[StageResult]) -> bool:
    """Whether this is one of several shards that ended as planned and sent nothing; where it should have, it failed."""
    several = int((run.manifest.get("shard") or {}).get("count", 1)) > 1
    return several and run.complete and not any(s.metrics.requests_total.sent for s in stages)


def _nothing_inside(stage: StageResult) -> FindingRecord:
    text = f"stage {stage.name}: the measured window is empty; all of its {stage.metrics.requests_total.sent} requests "
    text += "lie before or after it"
    return FindingRecord("empty_window", "error", text, "shorten the warm-up and the cool-down, or lengthen the load")


def _said(event: Event) -> FindingRecord:
    data = event.data
    advice = data.get("advice")
    return FindingRecord(
        str(data.get("code", "")),
        str(data.get("severity", "info")),
        str(data.get("message", "")),
        None if advice is None else str(advice),
    )


def failed_generators(events: Sequence[Event]) -> list[FindingRecord]:
    """The load generators that failed, in one line each; the whole error is in the events."""
    failed = [e.data for e in events if e.type is EventType.ERROR and "generator" in e.data]
    lines = [(data["generator"], str(data["message"]).partition("\n")[0]) for data in failed]
    advice = "its log is under logs/"
    return [FindingRecord("generator_failed", "error", f"{name}: {line}", advice) for name, line in lines]


def _advice(requests: RequestCounts) -> str | None:
    commonest = sorted(requests.errors.items(), key=lambda e: (-e[1], e[0]))
    return ADVICE.get(commonest[0][0]) if commonest else None


def _of_stage(stage: StageResult) -> list[FindingRecord]:
    m, name = stage.metrics, f"stage {stage.name}"
    found = []
    if isinstance(m.requested_rate, Measured) and isinstance(m.achieved_rate, Measured):
        wanted, got = m.requested_rate.value, m.achieved_rate.value
        if got < (0.95 - 2 / max(1, m.requests.sent) ** 0.5 * (_random(stage))) * wanted:
            text = f"{name}: {got:.4g} of {wanted:.4g} requests/s were sent"
            advice = "the cap, or the server behind it, did not let more through: raise concurrency or lower the rate"
            found.append(FindingRecord("rate_not_reached", "warning", text, advice))
    wait, ttft = m.cap_wait, m.e2e
    if isinstance(wait, Distribution) and isinstance(ttft, Distribution):
        held = wait.at("p90") or 0.0
        if held > max(0.001, 0.01 * ttft.mean):
            text = f"{name}: the concurrency cap held requests back ({held:.3g} s at p90): a closed loop in disguise"
            found.append(
                FindingRecord(
                    "cap_bound", "warning", text, "raise concurrency, or read ttft_scheduled and e2e_scheduled"
                )
            )
    if stage.steady_state.steady is False:
        text = f"{name}: {stage.steady_state.message}"
        found.append(FindingRecord("not_steady", "warning", text, "set a longer warmup, or a lower load"))
    few = [n for n in ("ttft", "tpot", "e2e") if _insufficient(getattr(m, n))]
    if few:
        levels = _insufficient(getattr(m, few[0]))
        text = f"{name}: too few requests for limits of {', '.join(levels)} ({', '.join(few)})"
        found.append(FindingRecord("insufficient", "info", text, "run longer: p95 needs 72, p99 368, p99.9 3688"))
    if m.output_length.source and "chunks" in m.output_length.source:
        text = f"{name}: the server sent no usage; output tokens are counted as one a chunk"
        found.append(
            FindingRecord(
                "tokens_from_chunks", "warning", text, "install the [tokenizers] extra, or let the server send usage"
            )
        )
    return found


def _random(stage: StageResult) -> float:
    """0 for constant arrivals, where the rate is exact; else 1."""
    load = stage.load.get("load", {})
    return 0.0 if load.get("arrival", {}).get("type", "constant") == "constant" else 1.0


def _insufficient(found: object) -> list[str]:
    if not isinstance(found, Distribution):
        return []
    return [n for n, p in found.percentiles.items() if isinstance(p, Insufficient)]
