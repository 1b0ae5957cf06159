"""Whole analyses of small runs: by hand, cut into parts, broken in every way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.analyze.curves import curves
from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Absent, Distribution, Measured, Scalar

from ..support.records import START, S, make_records, run_input, stage_events

MS = 1_000_000


def value(scalar: Scalar) -> float:
    assert isinstance(scalar, Measured), scalar
    return scalar.value


def by_hand(**changes: object) -> dict[str, object]:
    """Sent at 0, first token after 100 ms, then 50 ms and 150 ms: three chunks, five tokens."""
    return {
        "request_id": 0, "stage": 0, "model": "m", "scheduled": START - 10 * MS, "ready": START - 2 * MS, "sent": START,
        "first_token": START + 100 * MS, "last_token": START + 300 * MS, "end": START + 310 * MS,
        "chunk_times": [100_000, 150_000, 300_000], "input_tokens": 8, "input_source": "usage", "output_tokens": 5,
        "output_source": "usage", "streaming": True, "status": "ok",
    } | changes  # fmt: skip


def test_one_request_by_hand() -> None:
    m = analyze(run_input([Records.from_rows([by_hand()])], stage_events(0.2))).stages[0].metrics
    means = {n: getattr(m, n).mean for n in ("ttft", "e2e", "tpot", "ntpot", "itl", "e2e_scheduled", "schedule_delay")}
    assert means == pytest.approx(
        {
            "ttft": 0.1,
            "e2e": 0.3,
            "tpot": 0.05,
            "ntpot": 0.06,
            "itl": 0.1,
            "e2e_scheduled": 0.31,
            "schedule_delay": 0.002,
        }
    )
    assert value(m.output_tokens_per_second) == pytest.approx(5 * 2 / 3 / 0.2)  # two of three chunks are inside
    assert value(m.input_tokens_per_second) == pytest.approx(8 / 0.2)
    assert value(m.requests_per_second) == 0
    assert value(m.concurrency) == pytest.approx(1)


@pytest.mark.parametrize(("status", "end"), [("ok", 0.3), ("cancelled", 0.32)])
def test_tokens_of_a_stream_without_chunks_are_spread_from_the_first_to_the_last(status: str, end: float) -> None:
    """Half of them are inside, also where the end is not."""
    row = by_hand(chunk_times=[], status=status, end=START + round(end * S))
    m = analyze(run_input([Records.from_rows([row])], stage_events(0.2))).stages[0].metrics
    assert value(m.output_tokens_per_second) == pytest.approx(5 / 2 / 0.2)


def test_a_sound_run_is_ok_and_its_identities_hold() -> None:
    result = analyze(run_input([make_records(400, rate=20, failed=0)], stage_events(20, rate=20)))
    assert result.status == "ok"
    assert [i for i in result.validity.identities if i.holds is not True] == []
    m = result.stages[0].metrics
    assert value(m.sent_gap_cv) < 1e-6
    assert value(m.achieved_rate) == pytest.approx(20)
    assert m.requests.sent == 400


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_neither_order_nor_partition_matters(seed: int, cuts: list[int]) -> None:
    whole = make_records(60, failed=5, seed=3)
    order = np.random.default_rng(seed).permutation(60)
    parts = [whole.where(np.isin(np.arange(60), c)) for c in np.split(order, sorted(cuts))]
    a, b = run_input([whole], stage_events(4)), run_input(parts[::-1], stage_events(4))
    assert analyze(a) == analyze(b)
    assert curves(a) == curves(b)


def test_a_late_loop_makes_a_run_invalid_and_a_busy_cpu_does_not() -> None:
    records = [make_records(100)]
    late = analyze(run_input(records, stage_events(10, lag_ms=50)))
    assert (late.status, [r.code for r in late.validity.reasons]) == ("invalid", ["loop_lag"])
    assert late.validity.reasons[0].remedy
    assert analyze(run_input(records, stage_events(10, cpu=1.0))).status == "ok"


def test_requests_that_leave_late_make_a_run_invalid() -> None:
    result = analyze(run_input([make_records(100, ready=START)], stage_events(10)))
    assert "schedule_delay" in [r.code for r in result.validity.reasons]


def test_short_answers_make_a_run_invalid_with_a_remedy() -> None:
    result = analyze(run_input([make_records(100, output_asked=20)], stage_events(10)))
    assert [r.code for r in result.validity.reasons] == ["output_length"]
    assert "ignore_eos" in str(result.validity.reasons[0].remedy)


def test_without_success_the_run_failed() -> None:
    result = analyze(run_input([make_records(10, failed=10)], stage_events(1)))
    assert (result.status, dict(result.requests.errors)) == ("failed", {"http_5xx": 10})
    assert isinstance(result.stages[0].metrics.ttft, Absent)
    assert "no_success" in [f.code for f in result.findings]


def test_a_run_whose_load_ended_before_its_warm_up_did_measured_nothing() -> None:
    """All of its requests succeeded, but none of them lies in the window."""
    early = make_records(20, rate=20, start=START - 5 * S)
    result = analyze(run_input([early], stage_events(10)))
    assert (result.status, result.requests.succeeded, result.stages[0].metrics.requests.sent) == ("failed", 20, 0)
    (error,) = [f for f in result.findings if f.severity == "error"]
    assert (error.code, error.advice) == ("empty_window", "shorten the warm-up and the cool-down, or lengthen the load")


def test_a_conversation_asks_for_no_rate_of_requests() -> None:
    turns = [make_records(100, rate=10), make_records(100, rate=10, turn=1, scheduled=None, request_id=999)]
    m = analyze(run_input(turns, stage_events(10, rate=10))).stages[0].metrics
    assert isinstance(m.requested_rate, Absent)
    assert value(m.achieved_rate) == pytest.approx(20)


def test_a_run_that_died_is_partial_with_a_window_from_what_was_seen() -> None:
    result = analyze(run_input([make_records(30)], stage_events(10, ended=False), complete=False))
    assert result.status == "partial"
    assert 2.9 < result.stages[0].window.seconds < 3.5


def test_without_streaming_and_in_a_closed_loop_metrics_are_absent_with_the_reason() -> None:
    events = stage_events(10, rate=None, concurrency=2)
    m = analyze(run_input([make_records(50, streaming=False, scheduled=None)], events)).stages[0].metrics
    for name in ("ttft", "itl", "tpot", "e2e_scheduled", "requested_rate"):
        assert isinstance(getattr(m, name), Absent), name
    assert isinstance(m.e2e, Distribution)
    assert value(m.output_tokens_per_second) == pytest.approx(50 * 16 / 10)


def test_slos_are_judged_on_the_bound() -> None:
    slos = [
        {"name": "p95_latency", "target": "<2s"},
        {"name": "ttft.p50", "target": "<1ms"},
        {"name": "e2e.p99.9", "target": "<2s"},
        {"name": "cost_per_token", "target": "<$0.001"},
    ]
    spec = {"performance_targets": {"slos": slos}}
    result = analyze(run_input([make_records(200, rate=20)], stage_events(10, rate=20), spec=spec))
    assert [s.verdict for s in result.slos] == ["pass", "fail", "inconclusive", "inconclusive"]
    assert value(result.slo_score) == 0.25


def test_goodput_counts_requests_that_met_every_limit() -> None:
    spec = {"benchmark": {"goodput": {"ttft": "50ms", "e2e": "10s"}}}
    m = (
        analyze(run_input([make_records(400, rate=20, failed=100)], stage_events(20, rate=20), spec=spec))
        .stages[0]
        .metrics
    )
    assert 0.3 < value(m.goodput_fraction) < 0.45  # half of the three quarters that succeeded
    assert value(m.goodput) == pytest.approx(value(m.goodput_fraction) * 20, rel=0.02)


def test_curves_keep_every_request() -> None:
    found = curves(run_input([make_records(100, failed=10)], stage_events(10)))[0]
    assert sum(found.timeline.sent) == 100
    assert sum(found.timeline.failed) == 10
    assert len(found.quantiles["itl"]) == 201


def test_a_sweep_finds_the_last_rate_the_server_carried() -> None:
    parts, events = [], []
    for index, (rate, ttft) in enumerate([(10, 0.05), (20, 0.05), (40, 6.0)]):
        start = START + index * 100 * S
        parts.append(make_records(rate * 10, stage=index, rate=rate, ttft=ttft, start=start))
        events += stage_events(10, index=index, rate=rate, start=start)
    spec = {
        "benchmark": {"load_generators": [{"type": "native", "config": {"sweep": {"over": "rate", "start": 10}}}]},
        "performance_targets": {"slos": [{"name": "ttft.p50", "target": "<1s"}]},
    }
    result = analyze(run_input(parts, events, spec=spec))
    assert result.saturation is not None
    assert (value(result.saturation.knee), result.saturation.knee_stage) == (20, 1)
    assert len(result.saturation.curve) == 3
    assert [(s.verdict, s.stage) for s in result.slos] == [("pass", 1)]  # the overloaded stage does not count


def test_a_binding_cap_is_a_closed_loop_in_disguise() -> None:
    records = make_records(100, scheduled=START)
    records.columns["ready"][:] = records.ints("sent")  # type: ignore[index]
    result = analyze(run_input([records], stage_events(10, concurrency=1)))
    assert "cap_bound" in [f.code for f in result.findings]
    assert result.validity.valid


def test_missing_shards_and_broken_counts_are_named() -> None:
    result = analyze(run_input([make_records(100, output_source="chunks")], stage_events(10), missing_shards=(1,)))
    assert result.status == "partial"
    assert {"missing_shards", "tokens_from_chunks", "insufficient"} <= {f.code for f in result.findings}


def test_each_model_has_metrics_of_its_own() -> None:
    parts = [make_records(100), make_records(50, stage=0, model="lora", ttft=0.5, seed=1)]
    stage = analyze(run_input(parts, stage_events(10))).stages[0]
    assert {m: x.requests.sent for m, x in stage.by_model.items()} == {"m": 100, "lora": 50}
    assert {m: value(x.requested_rate) for m, x in stage.by_model.items()} == pytest.approx({"m": 10, "lora": 5})
    lora = stage.by_model["lora"]
    assert isinstance(lora.ttft, Distribution)
    assert lora.ttft.mean == pytest.approx(0.5, rel=0.1)
    assert isinstance(lora.itl, Distribution)
    assert lora.itl.count == 50 * 15


def test_usage_in_every_chunk_gives_a_gap_per_token() -> None:
    row = by_hand(chunk_tokens=[1, 1, 3])
    m = analyze(run_input([Records.from_rows([row])], stage_events(0.2))).stages[0].metrics
    assert isinstance(m.itl_per_token, Distribution)
    assert (m.itl_per_token.count, m.itl_per_token.mean) == (4, pytest.approx(0.05))
    assert value(m.output_tokens_per_second) == pytest.approx(2 / 0.2)
