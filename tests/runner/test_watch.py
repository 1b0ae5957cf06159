"""When a run is ended early, and how a result becomes an exit code."""

from __future__ import annotations

from typing import Any

import pytest

from llm_d_benchmark.domain.errors import ExitCode
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.runner.bus import EventBus
from llm_d_benchmark.runner.watch import FailureStreak

SECOND = 10**9


def interval(second: int, **data: Any) -> Event:
    return Event(EventType.INTERVAL, second * SECOND, {"start": second * SECOND, "end": (second + 1) * SECOND, **data})


def test_only_failures_for_long_enough_trip_the_streak() -> None:
    streak = FailureStreak(3.0)
    for second in range(3):
        streak(interval(second, succeeded=0, chunks=0, failed=10, errors={"connect": 10}))
    assert streak.tripped.is_set()
    assert "30 connect" in streak.error().message
    assert streak.error().exit_code is ExitCode.TARGET_FAILED


@pytest.mark.parametrize("life", [{"succeeded": 1, "chunks": 4}, {"succeeded": 0, "chunks": 1}])
def test_any_sign_of_life_starts_the_count_anew(life: dict[str, int]) -> None:
    streak = FailureStreak(3.0)
    for second in range(8):
        dead = {"succeeded": 0, "chunks": 0, "failed": 5, "errors": {"http_5xx": 5}}
        streak(interval(second, **(life if second % 3 == 2 else dead)))
    assert not streak.tripped.is_set()


def test_a_slow_server_that_has_answered_nothing_yet_is_not_failing() -> None:
    streak = FailureStreak(3.0)
    for second in range(20):
        streak(interval(second, succeeded=0, chunks=0, failed=0, in_flight=4))
    assert not streak.tripped.is_set()


def test_every_observer_sees_every_event_in_order() -> None:
    first: list[str] = []
    second: list[str] = []
    bus = EventBus([lambda e: first.append(e.type)])
    bus.subscribe(lambda e: second.append(e.type))
    bus.emit(EventType.RUN_START, run_id="x")
    bus.emit(EventType.PHASE, phase="setup", state="start")
    assert first == second == ["run_start", "phase"]


def test_a_step_of_the_wall_clock_does_not_move_events(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []
    bus = EventBus([lambda e: times.append(e.time)])
    bus.emit(EventType.PHASE, phase="benchmark", state="start")
    monkeypatch.setattr("time.time_ns", lambda: 0)
    bus.emit(EventType.PHASE, phase="benchmark", state="end")
    assert 0 <= times[1] - times[0] < SECOND
