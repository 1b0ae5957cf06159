"""What a result says in one line and a few sentences; the same words in every report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..domain.events import Event, EventType
from ..domain.result import Distribution, Measured, Reason, RunResult, StageResult

Tone = Literal["good", "warning", "bad"]
SIMULATED = "The server is simulated: these numbers describe a model, not a machine."

CONTRADICTIONS = frozenset({"inconsistent_data", "identity"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a run.

    Attributes:
        word: OK, SLO MISSED, INVALID, PARTIAL or FAILED.
        sentence: what that means for the reader.
        reasons: why, each with its remedy where there is one.
    """

    word: str
    tone: Tone
    sentence: str
    reasons: Sequence[Reason] = ()


def verdict(result: RunResult, events: Sequence[Event] = ()) -> Verdict:
    """The verdict of ``result``; ``events`` tell why a run failed or ended early."""
    said = _verdict(result, events)
    return replace(said, sentence=f"{said.sentence} {SIMULATED}") if result.simulated else said


def _verdict(result: RunResult, events: Sequence[Event]) -> Verdict:
    troubles = tuple(_troubles(events))
    if result.status == "failed":
        sentence = "The run measured nothing that describes the server."
        return Verdict("FAILED", "bad", sentence, (*troubles, *result.validity.reasons))
    if not result.validity.valid:
        sentence = "These numbers describe the client or the workload, not the server. Do not use them."
        return Verdict("INVALID", "bad", sentence, (*result.validity.reasons, *troubles))
    if result.status == "partial":
        missing = ", ".join(str(i) for i in result.missing_shards)
        broken = any(f.code == "generator_failed" for f in result.findings)
        early = "A load generator failed" if broken else "The run ended early"
        early += "; what was measured is kept."
        why = f"Shards missing: {missing}. The numbers are those of the others." if missing else early
        return Verdict("PARTIAL", "warning", why, troubles)
    missed = [s for s in result.slos if s.verdict == "fail"]
    if missed:
        names = ", ".join(s.name for s in missed)
        return Verdict("SLO MISSED", "warning", f"The numbers are valid, and say that the server missed: {names}.")
    return Verdict("OK", "good", _client_words(result) + _slo_words(result))


def _client_words(result: RunResult) -> str:
    """Whether the client was the bottleneck: the run is vouched for where every stage tells how late its requests were,
    and somebody watched how busy the client was."""
    late = any(f.code == "client_unknown" for f in result.findings) or not all(map(_lateness_known, result.stages))
    if not late and result.validity.workers:
        described = "." if result.simulated else ": these numbers describe the server."
        return f"The client was not the bottleneck{described}"
    if result.simulated and all(stage.load_generator == "virtual" for stage in result.stages):
        return "In virtual time there is no client that could be the bottleneck."
    contradicted = any(f.code in CONTRADICTIONS for f in result.findings)
    sound = "Findings say what contradicts these numbers" if contradicted else "Nothing contradicts these numbers"
    return f"{sound}; how {'late' if late else 'busy'} the client was is not known."


def _lateness_known(stage: StageResult) -> bool:
    """Whether a stage tells how late its requests were, if any was answered."""
    measured = stage.metrics
    return isinstance(measured.schedule_delay, Distribution) or not isinstance(measured.e2e, Distribution)


def _slo_words(result: RunResult) -> str:
    if not result.slos:
        return ""
    met = sum(s.verdict == "pass" for s in result.slos)
    return f" {met} of {len(result.slos)} service level objectives were met, none was missed."


def _troubles(events: Sequence[Event]) -> list[Reason]:
    seen: dict[str, Reason] = {}
    for event in events:
        if event.type is EventType.ERROR and event.data.get("message"):
            message = str(event.data["message"])
            seen.setdefault(message, Reason("error", message, event.data.get("advice")))
    return list(seen.values())


def headline_stage(result: RunResult) -> tuple[StageResult, str] | None:
    """The stage whose numbers stand for the run, and why it is that one; None where nothing was measured."""
    if not result.stages:
        return None
    if len(result.stages) == 1:
        return result.stages[0], ""
    if result.saturation is not None and result.saturation.knee_stage is not None:
        for stage in result.stages:
            if stage.index == result.saturation.knee_stage:
                return stage, "the knee: the highest load the server still carried"
    best = max(result.stages, key=_throughput)
    return best, "the stage with the highest output throughput"


def _throughput(stage: StageResult) -> float:
    rates = (stage.metrics.output_tokens_per_second, stage.metrics.requests_per_second)
    return next((r.value for r in rates if isinstance(r, Measured)), -1.0)
