from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.config.target import ProcessTargetConfig
from llm_d_benchmark.domain.errors import ConfigError, TargetError
from llm_d_benchmark.target.api import TargetContext
from llm_d_benchmark.target.command import render
from llm_d_benchmark.target.process import ProcessTarget
from tests.target.conftest import command, free, gone, pids_of


def target(*more: str, **block: Any) -> ProcessTarget:
    return ProcessTarget(ProcessTargetConfig(command=command(*more), **block))


async def test_it_starts_logs_and_stops(tmp_path: Path) -> None:
    made = target("--model", "{model}", "--delay", "{delay}", model="m", args={"delay": 0.5})
    async with made.open(TargetContext(tmp_path / "logs")) as endpoint:
        pid = endpoint.pid
        assert pid is not None
        assert "server_program.py" in " ".join(psutil.Process(pid).cmdline())
        assert endpoint.model == "m"
        assert endpoint.info["command"][-1] == "0.5"  # type: ignore[index]
    assert gone([pid], within=0.1)
    assert (tmp_path / "logs" / "server.log").exists()


async def test_the_environment_and_the_folder_of_the_server(tmp_path: Path) -> None:
    made = ProcessTarget(
        ProcessTargetConfig(
            command=["sh", "-c", "echo $GREETING in $PWD; exit 3 # {port}"],
            env={"GREETING": "hello"},
            cwd=str(tmp_path),
        )
    )
    with pytest.raises(TargetError, match="exit code 3") as caught:
        async with made.open(TargetContext(tmp_path)):
            pass
    assert f"hello in {tmp_path}" in caught.value.message


async def test_no_key_is_in_the_log_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed cleans nothing up."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0815")
    log = tmp_path / "server.log"
    async with target("--mode", "chatty").open(TargetContext(tmp_path)):
        said = log.read_text()
        assert "Bearer ***" in said
        assert "0815" not in said
    with pytest.raises(TargetError, match="out of memory"):
        async with target("--mode", "die").open(TargetContext(tmp_path)):
            pass
    assert log.read_text().startswith(said)
    assert "0815" not in log.read_text()


async def test_death_at_start_is_told_at_once_with_code_and_log(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TargetError, match="exit code 1") as caught:
        async with target("--mode", "die").open(TargetContext(tmp_path)):
            pass
    assert time.monotonic() - started < 5
    assert "out of memory: cannot allocate the cache" in caught.value.message
    assert "server.log" in str(caught.value.advice)


async def test_never_ready_ends_at_the_time_limit_and_leaves_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()
    with pytest.raises(TargetError, match=r"not ready within 1\.5 s"):
        async with target("--mode", "hang", "--pids", str(pids), ready_timeout=1.5).open(TargetContext(tmp_path)):
            pass
    assert time.monotonic() - started < 4
    assert gone(pids_of(pids), within=0.1)


async def test_children_and_daemons_are_stopped_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    made = target("--mode", "children", "--pids", str(pids), stop_timeout=0.5)
    async with made.open(TargetContext(tmp_path)):
        started = pids_of(pids)
        assert len(started) == 3
    assert gone(started, within=0.1)


async def test_a_server_that_ignores_sigterm_is_killed_after_stop_timeout(tmp_path: Path) -> None:
    made = target("--mode", "stubborn", stop_timeout=1.0)
    async with made.open(TargetContext(tmp_path)) as endpoint:
        started = time.monotonic()
    assert 0.9 < time.monotonic() - started < 3
    assert endpoint.pid is not None
    assert gone([endpoint.pid], within=0.1)


async def test_a_server_that_dies_later_is_seen_by_its_pid(tmp_path: Path) -> None:
    async with target().open(TargetContext(tmp_path)) as endpoint:
        assert endpoint.pid is not None
        os.kill(endpoint.pid, signal.SIGKILL)
        assert gone([endpoint.pid], within=2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_tool(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    program = f"""
        import asyncio
        from pathlib import Path
        from llm_d_benchmark.config.target import ProcessTargetConfig
        from llm_d_benchmark.target.api import TargetContext
        from llm_d_benchmark.target.process import ProcessTarget
        command = {command("--mode", "children", "--pids", str(pids))!r}
        async def main():
            config = ProcessTargetConfig(command=command, stop_timeout=0.5)
            async with ProcessTarget(config).open(TargetContext(Path({str(tmp_path)!r}))):
                print("ready", flush=True)
                await asyncio.sleep(600)
        asyncio.run(main())
    """
    tool = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert tool.stdout is not None
    assert tool.stdout.readline() == b"ready\n"
    tool.send_signal(number)
    tool.wait(10)
    assert gone(pids_of(pids), within=5)


async def test_an_unknown_executable_is_named(tmp_path: Path) -> None:
    made = ProcessTarget(ProcessTargetConfig(command=["no-such-server", "{port}"]))
    with pytest.raises(TargetError, match="'no-such-server' cannot be started: No such file") as caught:
        async with made.open(TargetContext(tmp_path)):
            pass
    assert "PATH" in str(caught.value.advice)


async def test_a_taken_port_is_refused(serve: Any, tmp_path: Path) -> None:
    port = int(serve().rpartition(":")[2])
    with pytest.raises(TargetError, match=f"port {port} .* is taken"):
        async with target(port=port).open(TargetContext(tmp_path)):
            pass


def test_the_plan_shows_command_and_address() -> None:
    port = free()
    plan = target(port=port).plan()
    assert plan["url"] == f"http://127.0.0.1:{port}"
    assert str(port) in plan["command"]
    assert "(free)" in target().plan()["command"]


@pytest.mark.parametrize(
    ("block", "match"),
    [
        ({"command": ["serve", "{port}", "{tp}"]}, r"\{tp\} has no value"),
        ({"command": ["serve", "{port}", "{model}"]}, r"\{model\} has no value"),
        ({"command": ["serve", "{port}"], "args": {"tp": 2}}, "args.tp is not used"),
        ({"command": ["serve", "{port}"], "args": {"port": 2}}, "ambiguous"),
        ({"command": ["serve"]}, r"no \{port\}"),
    ],
)
def test_a_wrong_template_is_a_mistake_of_configuration(block: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        ProcessTarget(ProcessTargetConfig(**block))
    assert caught.value.advice


@given(st.dictionaries(st.sampled_from(["a", "b_1", "C"]), st.text() | st.integers() | st.booleans()))
def test_every_value_arrives_unchanged_and_json_braces_stay(args: dict[str, Any]) -> None:
    made = render([f"{{{k}}}" for k in args] + ['{"x": {"y": 1}}'], args, {})
    assert made[-1] == '{"x": {"y": 1}}'
    for value, text in zip(args.values(), made, strict=False):
        assert text == (value if isinstance(value, str) else str(value).lower())
