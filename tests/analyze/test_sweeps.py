"""Sweeps of several generators in one run are kept apart."""

from __future__ import annotations

from typing import Any

from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Measured, RunResult

from ..support.records import START, S, make_records, run_input, stage_events


def swept(*levels: tuple[str, int, float, float], slos: list[dict[str, Any]]) -> RunResult:
    """Stages as (generator, its position, requests/s, completed fraction)."""
    events: list[Event] = []
    parts: list[Records] = []
    for index, (name, position, rate, done) in enumerate(levels):
        begun = START + index * 100 * S
        events.append(Event(EventType.GENERATOR_START, begun, {"generator": name, "index": position}))
        for e in stage_events(20, index=index, rate=rate, start=begun):
            more = {"generator": name} if e.type is EventType.STAGE_START else {}
            events.append(Event(e.type, e.time, {**e.data, **more}))
        parts.append(make_records(round(20 * rate * done), stage=index, rate=rate * done, start=begun))
    generators = [
        {"type": "native", "config": {"sweep": {"over": "rate"}}},
        {"type": "guidellm", "config": {"request_rate": 3}},
        {"type": "aiperf", "config": {"sweep": {"over": "rate"}}},
    ]
    spec = {"benchmark": {"load_generators": generators}, "performance_targets": {"slos": slos}}
    return analyze(run_input(parts, events, spec=spec))


def test_the_knee_of_conversations_counts_them_and_not_their_turns() -> None:
    """Of 40 conversations/s of three turns each a server that carries 60 requests/s completes the half."""
    events, parts = [], []
    for index, (rate, done) in enumerate([(10, 30.0), (20, 60.0), (40, 60.0)]):
        begun = START + index * 100 * S
        events += stage_events(20, index=index, rate=rate, start=begun)
        opened = make_records(round(20 * done / 3), stage=index, rate=done / 3, start=begun)
        more = [
            make_records(len(opened), stage=index, rate=done / 3, start=begun, turn=t, scheduled=None) for t in (1, 2)
        ]
        parts += [opened, *more]
    spec = {"benchmark": {"load_generators": [{"type": "native", "config": {"sweep": {"over": "rate"}}}]}}
    result = analyze(run_input(parts, events, spec=spec))
    assert result.saturation is not None
    assert result.saturation.knee == Measured(20.0, "conversations/s")
    assert "59.5 of 120 requests/s were completed" in result.saturation.reason


def test_each_sweep_has_its_own_knee_and_stages() -> None:
    result = swept(
        ("native", 0, 10, 1.0), ("native", 0, 20, 1.0), ("native", 0, 40, 0.6),
        ("guidellm", 1, 3, 1.0),
        ("aiperf", 2, 10, 1.0), ("aiperf", 2, 20, 0.6),
        slos=[{"name": "request_throughput", "target": ">5 requests/s"}],
    )  # fmt: skip
    found = [(s.load_generator, list(s.stages), s.knee_stage, s.knee) for s in result.saturations]
    assert found == [
        ("native", [0, 1, 2], 1, Measured(20.0, "requests/s")),
        ("aiperf", [4, 5], 4, Measured(10.0, "requests/s")),
    ]
    assert result.saturation == result.saturations[0]
    (slo,) = result.slos
    assert (slo.verdict, slo.stage) == ("fail", 3), "judged at both knees and where nothing was swept"
