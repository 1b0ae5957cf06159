"""Custom generators through the command line, as a user has them."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.command import bench, events_of, only_run, result_of, sets, start, wait_for_event
from tests.sdk.build import SDK
from tests.support.openai_server import OpenAIServer

KIT = [sys.executable, str(SDK / "python/examples/openai_asyncio.py")]
FAKE = [sys.executable, str(Path(__file__).parents[1] / "loadgen" / "command_program.py")]


def options(server: OpenAIServer, command: list[str], **keys: object) -> list[str]:
    native = {"command": command}
    more = sets(native=native, input_length=8, output_length=4, **keys)
    return ["--url", server.url, "--load-generator", "command", "-o", "out", "--progress", "none", *more]


def test_a_run_with_a_custom_generator_is_a_run_like_any_other(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        done = bench("run", *options(server, KIT, num_requests=30, concurrency=3), "--fail-on", "none", cwd=tmp_path)
        inference = [r for r in server.inference if r.body.get("stream")]
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    (stage,) = result["stages"]
    assert stage["load_generator"] == "openai-asyncio"
    requests = stage["metrics"]["requests"]
    assert (requests["sent"], requests["succeeded"]) == (30, 30)
    assert stage["metrics"]["ttft"]["count"] == 30
    assert len([r for r in inference if r.output_tokens == 4]) >= 30
    workers = {e["worker"] for e in events_of(only_run(tmp_path / "out")) if e["type"] == "client"}
    assert workers == {"0"}


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [("dies_in_stage", 6, "boom: out of file handles"), ("chatty", 6, "broke the protocol")],
)
def test_one_that_fails_is_exit_code_6_with_its_log(mode: str, code: int, says: str, tmp_path: Path) -> None:
    with OpenAIServer() as server:
        done = bench("run", *options(server, [*FAKE, mode], num_requests=4, concurrency=2), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stdout
    assert "generator.log" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_what_it_cannot_do_is_exit_code_2(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        retries = {"retries": {"max": 2}}
        done = bench("run", *options(server, KIT, num_requests=4, concurrency=2, **retries), cwd=tmp_path)
        assert not [r for r in server.inference if r.body.get("stream") and r.body.get("max_tokens") == 4]
    assert done.returncode == 2, done.stderr
    assert "openai-asyncio 1.0 cannot do" in done.stdout
    assert "retries" in done.stdout


def test_an_interrupt_ends_it_and_keeps_what_was_measured(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        keys = {"duration": 60, "warmup": 0, "concurrency": 2}
        process = start("run", *options(server, KIT, **keys), cwd=tmp_path)
        folder = wait_for_event(tmp_path / "out", "interval")
        ours = [p for p in psutil.Process(process.pid).children(recursive=True) if "openai_asyncio" in str(p.cmdline())]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(ours) == 1
    deadline = time.monotonic() + 5
    while ours[0].is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not ours[0].is_running()
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] in ("partial", "invalid")  # the latter where others keep this machine busy
    assert result["stages"][0]["metrics"]["requests"]["succeeded"] > 0
