"""Custom generators that misbehave: each way ends in a clear error or a flagged result, and no request is lost."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint, Secret
from llm_d_benchmark.domain.errors import ConfigError, GeneratorError
from llm_d_benchmark.domain.events import EventType
from llm_d_benchmark.domain.records import MISSING, RECORD_COLUMNS
from llm_d_benchmark.domain.schedule import Stage, Turn
from llm_d_benchmark.loadgen.command import messages
from llm_d_benchmark.loadgen.command.generator import CommandLoadGenerator
from tests.loadgen.fakes import Ran, Sessions, Stages, closed, collect, make_job, open_loop

PROGRAM = Path(__file__).with_name("command_program.py")
ENDPOINT = Endpoint("http://127.0.0.1:9", "test-model", api_key=Secret("very-secret-key"))


def run(mode: str, folder: Path, *stages: Stage, stop_after: float | None = None, **more: Any) -> Ran:
    """Run the program in this mode; ``more``: its ``config``, and keys of ``native``."""
    native = {"command": [sys.executable, str(PROGRAM), mode], "config": more.pop("config", {}), **more}

    async def go() -> Ran:
        source = Stages(*(stages or (closed(2, num_requests=6),)))
        job = make_job(ENDPOINT, source, Sessions(count=6), folder, config={"native": native})
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, job.stop.set)
        return await collect(CommandLoadGenerator().run(job))

    return asyncio.run(go())


def failure(ran: Ran) -> str:
    assert isinstance(ran.error, GeneratorError), ran.error
    assert ran.error.exit_code == 6
    return ran.error.message


def test_what_the_tool_knows_is_filled_in(tmp_path: Path) -> None:
    ran = run("honest", tmp_path, closed(2, num_requests=6, index=3))
    assert ran.error is None
    assert set(ran.records.columns) == {c.name for c in RECORD_COLUMNS}
    assert sorted(ran.records.ints("request_id").tolist()) == list(range(6))
    assert set(ran.records.ints("stage").tolist()) == {3}
    assert set(ran.records.ints("input_asked").tolist()) == {3}
    assert ran.labels("model") == ["test-model"] * 6
    assert (ran.records.ints("connect") == MISSING).all()
    (client,) = ran.of(EventType.CLIENT)
    assert client["loop_lag_ms"] == {"p50": 0.01, "p99": 0.02, "max": 3.0}
    (start,) = ran.of(EventType.STAGE_START)
    assert (start["generator"], start["tool"]) == ("fake", {"name": "fake", "version": "1"})


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("dies_at_start", ["ended with exit code 3", "cannot load libfoo.so"]),
        ("chatty", ["broke the protocol", "malformed"]),
        ("newer", ["llm-d-benchmark.loadgen/9", "not 'llm-d-benchmark.loadgen/1'"]),
        ("silent", ["did not say it is ready within 1 s"]),
        ("never_ready", ["not ready for stage 0 within 1 s"]),
        ("ends_at_once", ["broke the protocol", "'load_end' before the stage was started"]),
        ("sent_in_seconds", ["request 0: 'sent' lies outside the stage; times are nanoseconds", "boom"]),
    ],
)
def test_one_that_never_measures_anything(mode: str, says: list[str], tmp_path: Path) -> None:
    began = time.monotonic()
    ran = run(mode, tmp_path, ready_timeout=1)
    message = failure(ran)
    assert all(text in message for text in says), message
    assert len(ran.records) == 0
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("dies_in_stage", ["ended with exit code 4", "boom: out of file handles"]),
        ("killed_in_stage", ["ended by signal SIGKILL"]),
        ("silent_in_stage", ["said nothing for 1 s"]),
        ("malformed_in_stage", ["broke the protocol"]),
        ("fatal_in_stage", ["the disk is full"]),
    ],
)
def test_one_that_fails_in_a_stage_keeps_what_was_sent(mode: str, says: list[str], tmp_path: Path) -> None:
    ran = run(mode, tmp_path, silence_timeout=1)
    message = failure(ran)
    assert all(text in message for text in says), message
    assert ran.labels("status") == ["cancelled"] * 6
    assert (ran.records.ints("sent") != MISSING).all()
    assert set(ran.labels("error")) == {"the generator never reported it"}
    (end,) = ran.of(EventType.STAGE_END)
    assert end["reason"] == "interrupted"
    assert sum(i["cancelled"] for i in ran.of(EventType.INTERVAL)) == 6


def test_one_that_dies_in_a_conversation_keeps_every_turn_that_was_sent(tmp_path: Path) -> None:
    native = {"command": [sys.executable, str(PROGRAM), "dies_in_a_turn"]}

    async def go() -> Ran:
        sessions = Sessions(turns=[Turn("one", input_asked=1, output_asked=4)] * 3, count=2)
        source = Stages(closed(2, num_requests=6))
        return await collect(CommandLoadGenerator().run(make_job(ENDPOINT, source, sessions, tmp_path,
                                                                 config={"native": native})))  # fmt: skip

    ran = asyncio.run(go())
    assert "ended with exit code 4" in failure(ran)
    found = sorted(zip(ran.records.ints("request_id").tolist(), ran.labels("status"), strict=True))
    assert found == [(0, "failed"), (1, "cancelled"), (3, "cancelled"), (4, "cancelled")]
    assert ran.of(EventType.INTERVAL)[-1]["in_flight"] == 0


def test_the_end_of_a_stage_is_told_in_nanoseconds(tmp_path: Path) -> None:
    ran = run("ends_in_seconds", tmp_path)
    assert "'load_end' lies outside the stage; times are nanoseconds" in failure(ran)
    assert ran.labels("status") == ["ok"] * 6


@pytest.mark.parametrize("credit", [2, 100], ids=["waits for credit", "has it all"])
def test_one_that_is_alive_and_sends_nothing(credit: int, tmp_path: Path) -> None:
    ran = run("idle_in_stage", tmp_path, idle_timeout=0.5, config={"credit": credit})
    assert "has sent nothing for 0.5 s" in failure(ran)
    assert len(ran.records) == 0


def test_a_stage_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_d_benchmark.loadgen.command.stage.END_SLACK_S", -59.5)  # the drain is 60 s
    ran = run("ignores_stop", tmp_path, closed(2, duration_s=0.5))
    assert "has not ended stage 0" in failure(ran)


def test_stopping_one_that_does_not_care_kills_its_whole_tree(tmp_path: Path) -> None:
    ran = run("ignores_stop", tmp_path, stop_after=1.0, stop_grace=0.5)
    assert ran.error is None
    assert ran.labels("status") == ["cancelled"] * 6
    assert "killed" in ran.of(EventType.FINDING)[0]["message"]
    grandchild = int((tmp_path / "generator.log").read_text().split()[-1])
    deadline = time.monotonic() + 5
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_it_does_not_report_is_cancelled_and_flagged(tmp_path: Path) -> None:
    ran = run("honest", tmp_path, config={"rows": 4})
    assert ran.error is None
    assert sorted(ran.labels("status")) == ["cancelled"] * 2 + ["ok"] * 4
    (finding,) = ran.of(EventType.FINDING)
    assert finding["code"] == "requests_unreported"
    assert "2 requests" in finding["message"]


def test_one_that_dies_when_all_is_measured_spoils_nothing(tmp_path: Path) -> None:
    ran = run("dies_at_the_end", tmp_path)
    assert ran.error is None
    assert ran.labels("status") == ["ok"] * 6
    (finding,) = ran.of(EventType.FINDING)
    assert "exit code 9" in finding["message"]


def test_a_note_is_a_finding_and_the_run_goes_on(tmp_path: Path) -> None:
    ran = run("note_in_stage", tmp_path)
    assert ran.error is None
    assert ran.labels("status") == ["ok"] * 6
    assert "TCP_NODELAY" in ran.of(EventType.FINDING)[0]["message"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"first_tokn": 1}, "unknown field `first_tokn`"),
        ({"sent": None}, "missing required field `sent`"),
        ({"status": "fine"}, "'fine'"),
        ({"status": "failed", "error_class": "gremlins"}, "'gremlins'"),
        ({"status": "failed"}, "'error_class' belongs to a failed request"),
        ({"error_class": "connect"}, "'error_class' belongs to a failed request"),
        ({"sent": 1_700_000_000}, "'sent' lies outside the stage; times are nanoseconds"),
        ({"ready": 2**61}, "'ready' is after 'sent'"),
        ({"end": 2**61}, "'end' lies in the future"),
        ({"first_token": None}, "come together"),
        ({"chunk_times": [1, 2]}, "microseconds after sent"),
        ({"chunk_times": [1000, 900, 2000]}, "not in order"),
        ({"chunk_tokens": [1]}, "differ in length"),
        ({"first_token": None, "last_token": None, "chunk_times": []}, "no_content"),
        ({"request_id": 77}, "request 77 is not one it was given"),
        ({"output_tokens": -1}, ">= 0"),
        ({"error": "x" * 400, "status": "failed", "error_class": "connect"}, "length <= 300"),
    ],
)
def test_a_row_that_cannot_be_true_is_refused(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    message = failure(run("honest", tmp_path, config={"row": row}))
    assert "broke the protocol" in message
    assert says in message


def test_in_an_open_loop_it_cannot_hide_its_own_delay(tmp_path: Path) -> None:
    """The program says nothing of when a request was free to go, and sends it 50 ms late."""
    native = {"command": [sys.executable, str(PROGRAM), "honest"], "config": {"late_s": 0.05, "row": {"connect": 1000}}}

    async def go() -> Ran:
        sessions = Sessions(count=3, offsets=[0.0, 0.0, 0.0])
        job = make_job(ENDPOINT, Stages(open_loop(10, num_requests=3)), sessions, tmp_path, config={"native": native})
        return await collect(CommandLoadGenerator().run(job))

    ran = asyncio.run(go())
    scheduled, ready = ran.records.ints("scheduled"), ran.records.ints("ready")
    assert (ready == scheduled + 1000).all()
    assert ran.of(EventType.INTERVAL)[0]["schedule_delay_ms_max"] >= 50


def test_machines_that_are_told_to_start_at_a_time_do(tmp_path: Path) -> None:
    native = {"command": [sys.executable, str(PROGRAM), "honest"]}
    at = time.time_ns() + 2_000_000_000

    async def go() -> Ran:
        source, sessions = Stages(closed(1, num_requests=3)), Sessions(count=3)
        job = make_job(ENDPOINT, source, sessions, tmp_path, config={"native": native}, start_at=at)
        return await collect(CommandLoadGenerator().run(job))

    ran = asyncio.run(go())
    assert ran.of(EventType.STAGE_START)[0]["start"] == at
    assert ran.records.ints("sent").min() >= at - 100_000_000


def test_a_request_counts_once(tmp_path: Path) -> None:
    ran = run("honest", tmp_path, config={"twice": True})
    assert "was reported before" in failure(ran)
    assert sorted(ran.records.ints("request_id").tolist()) == list(range(6))


def test_no_more_is_sent_than_it_gave_credit_for(tmp_path: Path) -> None:
    ran = run("honest", tmp_path, config={"credit": 2})
    assert ran.error is None
    assert sorted(ran.records.ints("request_id").tolist()) == [0, 1]


def test_what_it_cannot_do_is_refused_before_any_load(tmp_path: Path) -> None:
    ran = run("honest", tmp_path, config={"can": ["chat", "open_loop"]})
    assert isinstance(ran.error, ConfigError)
    assert "closed_loop, streaming" in ran.error.message
    assert ran.events == []


def test_secrets_are_cut_out_of_its_log(tmp_path: Path) -> None:
    run("leaks", tmp_path)
    log = (tmp_path / "generator.log").read_text()
    assert "headers: " in log
    assert "very-secret-key" not in log


def test_a_program_that_is_not_there_is_found_before_the_run(tmp_path: Path) -> None:
    (finding,) = CommandLoadGenerator().check(LoadConfig(native={"command": ["./no-such-generator"]}))
    assert "no-such-generator" in finding.message
    (finding,) = CommandLoadGenerator().check(LoadConfig())
    assert "native.command" in finding.message
    found = CommandLoadGenerator().check(LoadConfig(native={"command": "python3 x.py", "shell": True}))
    assert {"native.command", "native.shell"} == {f.message.split(":")[0] for f in found}
    (finding,) = CommandLoadGenerator().check(LoadConfig(native={"command": [sys.executable]}, workers=2))
    assert "workers" in finding.message
    script = tmp_path / "mine"
    script.write_text("#!/bin/sh\n")
    assert CommandLoadGenerator().check(LoadConfig(native={"command": ["./mine"], "cwd": str(tmp_path)})) != []
    script.chmod(0o755)
    assert CommandLoadGenerator().check(LoadConfig(native={"command": ["./mine"], "cwd": str(tmp_path)})) == []
    (finding,) = CommandLoadGenerator().check(LoadConfig(native={"command": [sys.executable], "cwd": "./no-such"}))
    assert finding.message == "native.cwd: './no-such' is no folder that is there"


def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    out = tmp_path / "args.json"
    code = f"import sys, json; json.dump(sys.argv[1:], open({str(out)!r}, 'w'))"
    native = {"command": [sys.executable, "-c", code, "$(touch x)", "a b; c"], "env": {"MINE": "1"}}

    async def go() -> None:
        job = make_job(ENDPOINT, Stages(closed(1, num_requests=1)), Sessions(), tmp_path, config={"native": native})
        await collect(CommandLoadGenerator().run(job))

    asyncio.run(go())
    assert json.loads(out.read_text()) == ["$(touch x)", "a b; c"]


def test_the_published_schema_is_that_of_the_types() -> None:
    published = json.loads(messages.SCHEMA.read_text())
    Draft202012Validator.check_schema(published)
    assert published == messages.schema(), f"run: {sys.executable} -m llm_d_benchmark.loadgen.command.schema"


def test_the_lines_that_the_protocols_page_shows_are_messages_of_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    lines = text.split("```json\n")[1].split("```")[0].splitlines()
    validator = Draft202012Validator(messages.schema())
    for line in lines:
        validator.validate(json.loads(line))
    shown = {json.loads(line)["type"] for line in lines}
    kinds = (messages.ToGenerator | messages.FromGenerator).__args__
    assert shown == {kind.__struct_config__.tag for kind in kinds} - {"stop", "quit", "error"}


def test_rows_are_published_record_columns() -> None:
    assert set(messages.Row.__struct_fields__) < {c.name for c in RECORD_COLUMNS}
    assert messages.PROTOCOL.endswith("/1")
    assert messages.SCHEMA.name == "protocol-1.schema.json"
