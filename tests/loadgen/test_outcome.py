"""What a sweep is told of a stage is what the report says of it."""

from __future__ import annotations

from typing import Any

import pytest

from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Absent, Measured
from llm_d_benchmark.domain.saturation import chance, knee
from llm_d_benchmark.domain.schedule import Load, Stage, StageOutcome
from llm_d_benchmark.loadgen.native.outcome import OutcomeMeter, StageTimes, stage_times
from llm_d_benchmark.loadgen.native.wire import StageDone
from llm_d_benchmark.workload.sweep import level_of
from tests.support.records import START, S, make_records, run_input, stage_events


def outcome_of(records: Records) -> StageOutcome:
    """Of a stage whose window is [START, START + 9 s)."""
    meter, end = OutcomeMeter(), START + 9 * S
    meter.add(records)
    times = StageTimes(START - S, end, end, START, end, "duration")
    return meter.outcome(Stage(0, "s", Load(20.0), 9.0), times, {}, delay_limit_s=1.0)


LIMITS = {"ttft": 0.05, "tpot": 0.01, "itl": 0.01, "ntpot": 0.02, "e2e": 0.2}


@pytest.mark.parametrize("limits", [*([name] for name in LIMITS), list(LIMITS), ["ttft", "tpot"]])
@pytest.mark.parametrize(
    "answers",
    [{}, {"tokens": 1}, {"streaming": False}, {"tokens": 1, "streaming": False}, {"failed": 50}, {"output_tokens": 30}],
)
def test_the_sweep_and_the_report_judge_alike(answers: dict[str, Any], limits: list[str]) -> None:
    records, goodput = make_records(200, rate=20, **answers), {name: LIMITS[name] for name in limits}
    result = analyze(run_input([records], stage_events(9, rate=20), spec={"benchmark": {"goodput": goodput}}))
    metrics = result.stages[0].metrics
    meter = OutcomeMeter()
    meter.add(records)
    end = START + 9 * S
    times = StageTimes(START, end, end, START, end, "duration")
    outcome = meter.outcome(Stage(0, "s", Load(20.0), 9.0), times, goodput, delay_limit_s=1.0)
    expected = metrics.goodput
    assert outcome.goodput == (expected.value if isinstance(expected, Measured) else None)
    assert isinstance(expected, Absent) == (not answers.get("streaming", True) and bool({*limits} - {"ntpot", "e2e"}))
    assert isinstance(metrics.requests_per_second, Measured)
    assert outcome.requests_per_second == metrics.requests_per_second.value
    if not isinstance(metrics.e2e, Absent):
        assert outcome.e2e_p50 == pytest.approx(metrics.e2e.at("p50"), rel=0.02)


@pytest.mark.parametrize("window", [{}, {"failed": 7}, {"failed": 180}, {"status": "cancelled"}])
@pytest.mark.parametrize("before", [{}, {"failed": 20}, {"status": "cancelled"}])
def test_the_sweep_and_the_report_see_the_same_failures(before: dict[str, Any], window: dict[str, Any]) -> None:
    """Those of requests sent inside the window, of what was finished: neither the warm-up nor the drain decides."""
    warmup = make_records(20, rate=20, start=START - S, **before)
    after = make_records(20, rate=20, start=START + 9 * S, failed=20)
    drained = make_records(10, rate=10, start=START + 8 * S, status="cancelled")
    records = Records.concat([warmup, make_records(180, rate=20, **window), drained, after])
    outcome = outcome_of(records)
    counts = analyze(run_input([records], stage_events(9, rate=20))).stages[0].metrics
    seen = counts.requests
    assert (outcome.sent, outcome.succeeded, outcome.failed) == (seen.sent, seen.succeeded, seen.failed)
    level, error_rate = level_of(outcome, 20.0), counts.error_rate
    assert level.failed_fraction == (error_rate.value if isinstance(error_rate, Measured) else 1.0)
    assert level.chance == chance("constant", 190)


def test_a_stage_without_requests_has_an_outcome() -> None:
    end = START + 9 * S
    times = StageTimes(START, end, end, START, end, "duration")
    outcome = OutcomeMeter().outcome(Stage(0, "s", Load(20.0), 9.0), times, LIMITS, delay_limit_s=1.0)
    assert (outcome.sent, outcome.goodput, outcome.e2e_p50, outcome.client_limited) == (0, 0.0, None, False)


def test_a_stage_without_a_request_is_a_level_that_was_not_carried() -> None:
    stage = Stage(0, "s", Load(2.0), 9.0)
    times = StageTimes(START, START + 9 * S, START + 9 * S, START, START + 9 * S, "duration")
    outcome = OutcomeMeter().outcome(stage, times, {}, delay_limit_s=1.0)
    assert (outcome.sent, outcome.turns) == (0, 1.0)
    assert knee([level_of(outcome, 2.0)], "rate").load is None


@pytest.mark.parametrize(
    ("duration_s", "num_requests", "window_end"),
    [
        (4.0, None, 5.0),  # the answers to the last of it come after the planned end
        (9.0, None, 7.0),  # it was over long before
        (None, 20, 7.0),
        (4.0, 20, 7.0),  # as many requests were asked for
    ],
)
def test_a_workload_that_ends_early_never_lengthens_the_window(
    duration_s: float | None, num_requests: int | None, window_end: float
) -> None:
    stage = Stage(0, "s", Load(arrival={"type": "trace"}), duration_s, num_requests, warmup_s=1.0, cooldown_s=1.0)
    done = StageDone(START + 4 * S, START + 8 * S, START + 8 * S - 1, "exhausted")
    times = stage_times(stage, START, [done])
    assert (times.window_start, times.window_end) == (START + S, START + round(window_end * S))
    assert times.reason == ("requests" if num_requests else "exhausted")
