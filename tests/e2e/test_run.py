"""The main job against a real server process boundary: what a user types, what they get."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.e2e.command import bench, events_of, only_run, result_of, sets
from tests.support.openai_server import OpenAIServer

QUICK = sets(num_requests=40, concurrency=4, input_length=16, output_length=8)


def test_run_against_a_url_leaves_a_whole_run_folder(tmp_path: Path) -> None:
    with OpenAIServer(ttft=0.01, itl=0.002, tokens=8) as server:
        done = bench("run", "--url", server.url, "-o", "out", "--json", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path / "out")
    for name in (
        "config.yaml",
        "manifest.json",
        "events.jsonl",
        "result.json",
        "report.html",
        "report.md",
        "result.csv",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "records").glob("*.parquet"))
    printed = json.loads(done.stdout)
    assert printed == json.loads((folder / "result.json").read_text())
    assert printed["status"] == "ok"
    assert printed["requests"]["sent"] == printed["requests"]["succeeded"] == 40
    ttft = printed["stages"][0]["metrics"]["ttft"]
    assert 0.01 <= ttft["mean"] < 0.05
    phases = [(e["phase"], e["state"]) for e in events_of(folder) if e["type"] == "phase"]
    assert phases == [(p, s) for p in ("setup", "benchmark", "analysis", "cleanup") for s in ("start", "end")]


def test_the_result_is_valid_under_the_published_schema(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        bench("run", "--url", server.url, "-o", "out", *QUICK, cwd=tmp_path)
    printed = bench("config", "schema", "--result", cwd=tmp_path)
    jsonschema.validate(result_of(tmp_path / "out"), json.loads(printed.stdout))


def test_the_documented_job_form_runs_a_config_file(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        config = {
            "apiVersion": "llm-d.io/v1alpha1",
            "kind": "BenchmarkConfig",
            "metadata": {"name": "job"},
            "spec": {
                "target": {"type": "existing", "existing": {"url": server.url}},
                "benchmark": {"load_generators": [{"type": "native", "config": {"num_requests": 10}}]},
            },
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        done = bench("--config", "c.yaml", "--output", "res", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path / "res")["name"] == "job"
    assert "report.html" in done.stdout


def test_analyze_gives_the_same_result_from_the_folder_alone(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        bench("run", "--url", server.url, "-o", "out", *QUICK, cwd=tmp_path)
    folder = only_run(tmp_path / "out")
    before = (folder / "result.json").read_text()
    (folder / "result.json").unlink()
    (folder / "report.html").unlink()
    again = bench("analyze", str(folder), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (folder / "result.json").read_text() == before
    assert (folder / "report.html").exists()


def test_a_dry_run_shows_the_plan_and_sends_nothing(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        done = bench(
            "run", "--url", server.url, "--dry-run", "--json", "-o", "out",
            *sets(request_rate=5, duration="20s", warmup="4s", cooldown="1s"), cwd=tmp_path,
        )  # fmt: skip
        assert server.requests == []
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["expected_requests"] == pytest.approx(125)
    assert plan["expected_seconds"] == 25
    assert plan["expected_client_memory_bytes"] > 0
    assert not (tmp_path / "out").exists()


def test_an_slo_that_fails_is_exit_3_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(
        "performance_targets: {slos: [{name: p50_latency, target: '<1ms', weight: 1}]}\n"
    )
    with OpenAIServer() as server:
        many = sets(num_requests=400, concurrency=8, input_length=16, output_length=8)
        failed = bench("run", "-c", "slo.yaml", "--url", server.url, "-o", "a", *many, cwd=tmp_path)
        accepted = bench(
            "run", "-c", "slo.yaml", "--url", server.url, "-o", "b", "--fail-on", "invalid", *many, cwd=tmp_path
        )
    assert failed.returncode == 3, failed.stderr
    assert accepted.returncode == 0, accepted.stderr


def test_secrets_reach_the_wire_and_no_file(tmp_path: Path) -> None:
    key = "sk-very-secret-0123456789"
    with OpenAIServer(api_key=key) as server:
        done = bench("run", "--url", server.url, "-o", "out", *QUICK, cwd=tmp_path, env={"OPENAI_API_KEY": key})
        assert done.returncode == 0, done.stderr
    for path in only_run(tmp_path / "out").rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
    assert key not in done.stdout + done.stderr


@pytest.mark.parametrize("progress", ["json", "plain"])
def test_a_key_that_the_server_repeats_is_shown_nowhere(tmp_path: Path, progress: str) -> None:
    key = "sk-very-secret-0123456789"
    (tmp_path / "key.txt").write_text(key)
    sets = ("--set", "spec.target.existing.api_key={file: key.txt}", "--progress", progress)
    with OpenAIServer(api_key="another") as server:
        done = bench("run", "--url", server.url, "-o", "out", *sets, cwd=tmp_path)
    assert done.returncode == 5
    assert "Incorrect API key provided: Bearer ***" in done.stderr
    assert key not in done.stdout + done.stderr + (only_run(tmp_path / "out") / "events.jsonl").read_text()


@pytest.mark.parametrize("word", ["1", "token", "benchmark"])
def test_a_word_as_key_destroys_no_file(tmp_path: Path, word: str) -> None:
    with OpenAIServer(api_key=word) as server:
        done = bench("run", "--url", server.url, "-o", "out", *QUICK, cwd=tmp_path, env={"OPENAI_API_KEY": word})
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path / "out")
    assert "***" not in folder.name + "".join((folder / n).read_text() for n in ("config.yaml", "manifest.json"))
    assert events_of(folder)
    assert bench("analyze", folder, cwd=tmp_path).returncode == 0


def test_the_command_that_reproduces_a_run_has_the_variables_that_were_used(tmp_path: Path) -> None:
    used, overruled = "LLM_D_BENCHMARK_SPEC__BENCHMARK__DURATION", "LLM_D_BENCHMARK_METADATA__NAME"
    env = {used: "1 s", overruled: "x", "OPENAI_API_KEY": "sk-very-secret-0123456789"}
    with OpenAIServer() as server:
        done = bench("run", "--url", server.url, "-o", "out", "--set", "metadata.name=y", *QUICK, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    command = json.loads((only_run(tmp_path / "out") / "manifest.json").read_text())["command"]
    assert command.startswith(f"{used}='1 s' llm-d-benchmark run --url ")
    assert overruled not in command
    assert "OPENAI" not in command


@pytest.mark.parametrize("option", [("--fail-on", "bogus"), ("--start-at", "yesterday")])
def test_a_wrong_option_is_refused_before_anything_is_done(tmp_path: Path, option: tuple[str, str]) -> None:
    for more in ([], ["--dry-run"]):
        done = bench("run", "--url", "http://127.0.0.1:9", "-o", "out", *option, *more, cwd=tmp_path)
        assert done.returncode == 2
        assert option[1] in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_output_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    done = bench("run", "--url", "http://127.0.0.1:9", "-o", "out", cwd=tmp_path)
    assert "a file is in the way" in done.stderr


def test_progress_lines_go_to_stderr_and_the_table_to_stdout(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        done = bench("run", "--url", server.url, "-o", "out", "--progress", "plain", *QUICK, cwd=tmp_path)
        as_json = bench("run", "--url", server.url, "-o", "out2", "--progress", "json", *QUICK, cwd=tmp_path)
    assert "setup" in done.stderr
    assert "setup" not in done.stdout
    assert "TTFT" in done.stdout
    kinds = [json.loads(line)["type"] for line in as_json.stderr.splitlines()]
    assert kinds[0] == "run_start"
    assert kinds[-1] == "run_end"
    assert [e["type"] for e in events_of(only_run(tmp_path / "out2"))] == kinds


def test_a_schedule_replays_exactly(tmp_path: Path) -> None:
    load = sets(request_rate=40, arrival="poisson", duration="2s", seed=7)
    lengths = sets(input_length={"distribution": "uniform", "min": 12, "max": 40}, output_length=4)
    with OpenAIServer() as server:
        first = bench("run", "--url", server.url, "-o", "a", *load, *lengths, cwd=tmp_path)
        sent = [r.body for r in server.requests if r.path.endswith("chat/completions")]
        schedule = only_run(tmp_path / "a") / "schedule.csv"
        replay = sets(workload={"type": "trace", "path": str(schedule)}, duration="2s", seed=7)
        second = bench("run", "--url", server.url, "-o", "b", *replay, cwd=tmp_path)
        again = [r.body for r in server.requests if r.path.endswith("chat/completions")][len(sent) :]
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    rows = [line.split(",") for line in schedule.read_text().splitlines()]
    copy = [line.split(",") for line in (only_run(tmp_path / "b") / "schedule.csv").read_text().splitlines()]
    assert len(rows) > 50
    assert [r[4:] for r in rows if r[0].isdigit()] == [r[4:] for r in copy if r[0].isdigit()]
    assert {json.dumps(b) for b in sent[-len(rows) + 1 :]} == {json.dumps(b) for b in again[-len(rows) + 1 :]}


def test_constant_arrivals_leave_the_client_evenly(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        load = sets(request_rate=20, arrival="constant", duration="6s", input_length=16, output_length=4)
        done = bench("run", "--url", server.url, "-o", "out", *load, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path / "out")["stages"][0]["metrics"]["sent_gap_cv"]["value"] < 0.1


def test_a_sweep_finds_a_knee(tmp_path: Path) -> None:
    """The server takes four at once, each 50 ms or so: about 75 requests/s."""
    with OpenAIServer(ttft=0.04, itl=0.002, tokens=4) as server:
        sweep = sets(sweep={"over": "concurrency", "start": 1, "max": 4, "refine": 0}, duration="1s", output_length=4)
        done = bench("run", "--url", server.url, "-o", "out", *sweep, "--fail-on", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    saturation = result_of(tmp_path / "out")["saturation"]
    assert [round(point["load"]) for point in saturation["curve"]] == [1, 2, 4]
    assert saturation["knee"]["value"] == 4
