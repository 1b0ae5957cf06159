"""A run under trouble: nothing is lost, the reason is said, the exit code tells scripts."""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.command import LENIENT, bench, events_of, only_run, result_of, sets, start, wait_for_event
from tests.support.openai_server import OpenAIServer

# What these runs are about is the server's trouble: a busy test machine must not make them invalid.
SMALL = [*sets(input_length=16, output_length=8, concurrency=4), *LENIENT]


def counts_add_up(result: dict) -> bool:  # type: ignore[type-arg]
    n = result["requests"]
    return bool(n["sent"] == n["succeeded"] + n["failed"] + n["cancelled"])


def test_a_dead_url_fails_in_seconds_with_the_reason(tmp_path: Path) -> None:
    began = time.monotonic()
    done = bench("run", "--url", "http://127.0.0.1:9", "-o", "out", cwd=tmp_path)
    assert time.monotonic() - began < 10
    assert done.returncode == 5
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [("http_500", "http_5xx"), ("http_429", "http_429"), ("garbage", "protocol"), ("cut", "truncated"),
     ("error_event", "server_error_event"), ("redirect", "redirect")],
)  # fmt: skip
def test_a_fifth_of_the_requests_failing_is_counted_by_class(tmp_path: Path, behaviour: str, error: str) -> None:
    with OpenAIServer() as server:
        server.behaviour = lambda n: behaviour if n % 5 == 0 else "ok"
        done = bench("run", "--url", server.url, "-o", "out", *SMALL, *sets(num_requests=100), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    assert counts_add_up(result)
    assert result["requests"]["sent"] == 100
    assert 15 <= result["requests"]["errors"][error] <= 25
    assert result["requests"]["failed"] == sum(result["requests"]["errors"].values())


def test_a_server_that_fails_every_request_is_exit_5(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        server.behaviour = lambda n: "http_500" if n > 20 else "ok"
        done = bench("run", "--url", server.url, "-o", "out", *SMALL, *sets(num_requests=50, warmup="0s"), cwd=tmp_path)
        assert done.returncode in (0, 5)
        server.behaviour = "http_500"
        done = bench("run", "--url", server.url, "-o", "out2", *SMALL, *sets(num_requests=50), cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_measured(tmp_path: Path, number: signal.Signals) -> None:
    with OpenAIServer() as server:
        process = start("run", "--url", server.url, "-o", "out", *SMALL, *sets(duration="60s"), cwd=tmp_path)
        wait_for_event(tmp_path / "out", "interval")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    result = result_of(tmp_path / "out")
    assert result["status"] == "partial"
    assert result["requests"]["succeeded"] > 10
    assert counts_add_up(result)
    assert (only_run(tmp_path / "out") / "report.html").exists()
    assert "report.html" in out


def test_kill_9_leaves_records_that_analyze_takes(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        process = start("run", "--url", server.url, "-o", "out", *SMALL, *sets(duration="60s"), cwd=tmp_path)
        folder = wait_for_event(tmp_path / "out", "interval")
        time.sleep(7)
        process.kill()
        process.wait()
        time.sleep(1)
        assert processes_working_in(tmp_path) == []
    done = bench("analyze", str(folder), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "partial"
    assert result["requests"]["succeeded"] > 100


def processes_working_in(folder: Path) -> list[int]:
    """Worker processes inherit the working directory of the run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == folder:
                found.append(process.pid)
    return found


def test_a_server_that_goes_away_ends_the_run_early(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        process = start(
            "run", "--url", server.url, "-o", "out", *SMALL, *sets(duration="120s"),
            "--set", "spec.benchmark.give_up=2s", cwd=tmp_path,
        )  # fmt: skip
        wait_for_event(tmp_path / "out", "interval")
        time.sleep(1)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 5, err
    assert "failures" in out + err
    result = result_of(tmp_path / "out")
    assert result["status"] == "partial"
    assert counts_add_up(result)


def test_a_stalled_server_times_out_and_is_counted(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        server.behaviour = lambda n: "stall" if n % 10 == 9 else "ok"
        done = bench(
            "run", "--url", server.url, "-o", "out", *SMALL, *sets(num_requests=60, timeouts__first_token="1s"),
            cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    assert result["requests"]["errors"]["timeout_first_token"] >= 4
    assert counts_add_up(result)


def test_a_client_that_cannot_keep_up_is_invalid_and_exit_7(tmp_path: Path) -> None:
    """Far more requests a second than one worker can send: the delay is the client's, and the run says so."""
    with OpenAIServer(ttft=0.0, itl=0.0, tokens=1) as server:
        done = bench(
            "run", "--url", server.url, "-o", "out",
            *sets(request_rate=30000, duration="2s", input_length=16, output_length=1, workers=1), cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 7, done.stderr
    result = result_of(tmp_path / "out")
    assert result["status"] == "invalid"
    assert any(r["code"] == "schedule_delay" and r["remedy"] for r in result["validity"]["reasons"])
    assert "INVALID" in done.stdout.upper()
    html = (only_run(tmp_path / "out") / "report.html").read_text()
    assert "invalid" in html.lower()


def test_a_config_mistake_names_file_line_key_and_spelling(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "apiVersion: llm-d.io/v1alpha1\nkind: BenchmarkConfig\nspec:\n  benchmark:\n    duraton: 5s\n"
    )
    done = bench("run", "-c", "bad.yaml", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 2
    assert "bad.yaml:5" in done.stderr
    assert "duraton" in done.stderr
    assert "duration" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_target_at_all_says_what_to_give(tmp_path: Path) -> None:
    done = bench("run", cwd=tmp_path)
    assert done.returncode == 2
    assert "--url" in done.stderr


def test_events_end_with_the_exit_code(tmp_path: Path) -> None:
    bench("run", "--url", "http://127.0.0.1:9", "-o", "out", cwd=tmp_path)
    last = events_of(only_run(tmp_path / "out"))[-1]
    assert last["type"] == "run_end"
    assert last["exit_code"] == 5
