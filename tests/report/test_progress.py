"""Progress on stderr."""

from __future__ import annotations

import io
import json

import pytest

from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.report import progress
from llm_d_benchmark.report.progress import make_progress
from llm_d_benchmark.report.tally import Tally

S = 1_000_000_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_run() -> list[Event]:
    stage = {"stage": 0, "generator": "native", "name": "warm", "label": "c=8", "duration": 10.0, "warmup": 1.0}
    interval = {
        "stage": 0,
        "sent": 10,
        "succeeded": 8,
        "failed": 1,
        "cancelled": 0,
        "in_flight": 3,
        "chunks": 800,
        "output_tokens": 800,
        "ttft_ms_p50": 41.2,
        "errors": {"http_429": 1},
        "loop_lag_ms_max": 1.0,
        "schedule_delay_ms_max": 33.0,
    }
    return [
        Event(EventType.RUN_START, 0, {"run_id": "r1", "target": "existing", "generators": ["native"]}),
        Event(EventType.PHASE, 0, {"phase": "setup", "state": "start"}),
        Event(EventType.PHASE, S, {"phase": "setup", "state": "end", "seconds": 1.0}),
        Event(EventType.PHASE, S, {"phase": "benchmark", "state": "start"}),
        Event(EventType.STAGE_START, S, stage),
        *(
            Event(EventType.INTERVAL, (i + 2) * S, {**interval, "start": (i + 1) * S, "end": (i + 2) * S})
            for i in range(3)
        ),
        Event(
            EventType.FINDING,
            5 * S,
            {"code": "x", "severity": "warning", "message": "odd [bold]", "advice": "do that"},
        ),
        Event(EventType.STAGE_END, 6 * S, {"stage": 0, "reason": "duration"}),
        Event(EventType.RUN_END, 7 * S, {"status": "ok", "exit_code": 0}),
    ]


def show(mode: str, stream: io.StringIO) -> str:
    with make_progress(mode, stream) as shown:
        shown.plan(2, 60.0)
        for event in a_run():
            shown(event)
    return stream.getvalue()


def test_plain_lines_tell_phases_stages_counts_and_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    text = show("plain", io.StringIO())
    assert "\x1b" not in text
    lines = text.splitlines()
    assert "setup done in 1 s" in lines
    assert "stage 1/2: warm c=8" in lines
    assert any("sent 30" in line and "ok 24" in line and "failed 3" in line for line in lines)
    assert any("8.00 req/s" in line and "800 tok/s" in line and "TTFT p50 41.2 ms" in line for line in lines)
    assert any("CLIENT LAG 33 ms" in line for line in lines)
    assert "warning: odd [bold]" in lines
    assert "  -> do that" in lines
    assert lines[-1] == "run ended: ok"


def test_rates_are_not_shown_until_a_request_has_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    out = io.StringIO()
    interval = {"sent": 5, "succeeded": 0, "failed": 0, "in_flight": 5, "output_tokens": 0, "start": 0, "end": S}
    with make_progress("plain", out) as shown:
        for succeeded in (0, 4, 0):
            shown(Event(EventType.INTERVAL, S, {**interval, "succeeded": succeeded}))
    first, second, third = out.getvalue().splitlines()
    assert "sent 5" in first
    assert "req/s" not in first
    assert "tok/s" not in first
    assert "2.00 req/s" in second
    assert "1.33 req/s" in third


def test_plain_lines_of_the_load_are_seconds_apart() -> None:
    assert "sent" not in show("plain", io.StringIO())


def test_plain_lines_are_flushed_one_by_one() -> None:
    class Counting(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.flushed: list[str] = []

        def flush(self) -> None:
            self.flushed.append(self.getvalue())

    out = Counting()
    text = show("plain", out)
    assert len(set(out.flushed)) == len([line for line in text.splitlines() if not line.startswith("  ")])


def test_auto_follows_the_stream() -> None:
    assert "\x1b" not in show("auto", io.StringIO())
    assert "\x1b" in show("auto", Terminal())


def test_the_live_table_shows_the_counts() -> None:
    from rich.console import Console

    from llm_d_benchmark.report.live import live_table
    from llm_d_benchmark.report.tally import Tally

    tally = Tally()
    tally.plan(2, 60.0)
    for event in a_run()[:-3]:
        tally(event)
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as captured:
        console.print(live_table(tally))
    text = captured.get()
    assert not [line for line in text.splitlines() if "━" in line and "sent" in line]
    assert "1/2" in text
    assert "30" in text.split()
    assert "24" in text.split()
    assert "errors: 3 http_429" in text
    assert "33 ms late" in text


def test_json_lines_are_the_events() -> None:
    lines = show("json", io.StringIO()).splitlines()
    assert [Event.from_dict(json.loads(line)) for line in lines] == a_run()


def test_none_is_silent() -> None:
    assert show("none", io.StringIO()) == ""


def test_an_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="auto, bar, plain, json or none"):
        make_progress("loud")


def test_a_tool_that_tells_nothing_while_it_runs_shows_no_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_d_benchmark.report.progress.PLAIN_EVERY_S", 0.0)
    out = io.StringIO()
    with make_progress("plain", out) as shown:
        shown(Event(EventType.STAGE_START, 0, {"stage": 0, "name": "c=4", "label": "c=4"}))
        shown(Event(EventType.INTERVAL, 0, {"stage": 0, "start": 0, "end": 10**9, "elapsed": 1.0}))
        waiting = out.getvalue()
        shown(Event(EventType.INTERVAL, 0, {"stage": 0, "start": 0, "end": 10**9, "sent": 7, "succeeded": 7}))
    assert "counted when the stage has ended" in waiting
    assert "sent 0" not in waiting
    assert "sent 7" in out.getvalue()


def test_virtual_time_is_shown_as_it_is_simulated() -> None:
    tally = Tally()
    tally.plan(1, 100.0)
    tally(Event(EventType.STAGE_START, 5 * S, {"stage": 0, "generator": "virtual", "duration": 100.0}))
    tally(Event(EventType.INTERVAL, 45 * S, {"stage": 0, "start": 44 * S, "end": 45 * S, "sent": 1}))
    assert tally.elapsed == 40
