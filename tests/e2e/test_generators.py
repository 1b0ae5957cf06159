"""Several load generators in one run, another tool's own file, and a tool that leaves nothing: as commands.

aiperf is played by a small program of the same name in an environment of its own: it reads aiperf's configuration, puts
real load on the server, and writes aiperf's per-request export. The real tools are in tests/loadgen and
``make test-generators``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.command import LENIENT, bench, events_of, only_run, result_of, sets
from tests.support.openai_server import OpenAIServer

PLAYED = """
import http.client, json, os, sys, threading, time, urllib.parse, yaml
config = yaml.safe_load(open(sys.argv[sys.argv.index("--config") + 1]))["benchmark"]
phase, prompt = config["phases"][0], config["datasets"][0]["prompts"]
url = urllib.parse.urlsplit(config["endpoint"]["urls"][0])
left, lock, lines = [phase["requests"]], threading.Lock(), []
print("played aiperf:", phase, flush=True)
if os.environ.get("PLAY") == "nothing":
    print("ConnectionError: the model is not there", file=sys.stderr)
    sys.exit(0)
def user(number):
    connection = http.client.HTTPConnection(url.hostname, url.port)
    while True:
        with lock:
            if not left[0]:
                return
            left[0] -= 1
        body = {"model": config["models"], "prompt": list(range(1000, 1000 + prompt["isl"]["value"])), "stream": True,
                "max_tokens": prompt["osl"]["value"], "stream_options": {"include_usage": True}, "ignore_eos": True}
        start, times, usage = time.time_ns(), [], {}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        for raw in connection.getresponse():
            if raw.startswith(b"data: {"):
                now, event = time.time_ns(), json.loads(raw[6:])
                usage = event.get("usage") or usage
                times += [now] if any(c.get("text") for c in event["choices"]) else []
        gaps = [(b - a) / 1e6 for a, b in zip(times, times[1:])]
        metrics = {"time_to_first_token": {"value": (times[0] - start) / 1e6, "unit": "ms"},
                   "request_latency": {"value": (times[-1] - start) / 1e6, "unit": "ms"},
                   "inter_chunk_latency": {"value": gaps, "unit": "ms"},
                   "http_req_connection_reused": {"value": 1, "unit": "ratio"},
                   "usage_completion_tokens": {"value": usage["completion_tokens"], "unit": "tokens"},
                   "usage_prompt_tokens": {"value": usage["prompt_tokens"], "unit": "tokens"}}
        where = {"request_start_ns": start, "request_end_ns": time.time_ns(), "worker_id": str(number)}
        with lock:
            lines.append(json.dumps({"metadata": where, "metrics": metrics}))
users = [threading.Thread(target=user, args=(i,)) for i in range(phase["concurrency"])]
[u.start() for u in users]
[u.join() for u in users]
os.makedirs(config["artifacts"]["dir"], exist_ok=True)
open(config["artifacts"]["dir"] + "/profile_export.jsonl", "w").write("\\n".join(lines))
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A cache in which aiperf is installed, played by a program of ours."""
    program = tmp_path / "env" / "bin" / "aiperf"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\n{PLAYED}")
    program.chmod(0o755)
    python = program.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    marker = tmp_path / "cache" / "environments" / "aiperf" / "tool.json"
    marker.parent.mkdir(parents=True)
    marker.write_text(json.dumps({"name": "aiperf", "version": "0.13.0", "python": str(python), "packages": []}))
    return {"LLM_D_BENCHMARK_CACHE": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}


BOTH = """\
benchmark:
  load_generators:
    - type: native
      config: &load {concurrency: 4, num_requests: 80, input_length: 32, output_length: 8, endpoint: completions}
    - type: aiperf
      config: *load
"""


def test_generators_run_one_after_another_and_are_set_side_by_side(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "both.yaml").write_text(BOTH)
    with OpenAIServer(ttft=0.03, itl=0.004) as server:
        done = bench("run", "-c", "both.yaml", "--url", server.url, "-o", "out", *LENIENT, cwd=tmp_path, env=env)
        prompts = [json.dumps(request.body["prompt"]) for request in server.inference]
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    assert [(s["index"], s["load_generator"], s["metrics"]["requests"]["sent"]) for s in result["stages"]] == [
        (0, "native", 80),
        (1, "aiperf", 80),
    ]
    (group,) = result["agreement"]
    assert (group["load"], group["stages"]) == ("c=4", [0, 1])
    verdicts = {m["metric"]: m["differences"][0]["verdict"] for m in group["metrics"] if m["differences"]}
    assert {"input_length", "output_length"} <= {m for m, v in verdicts.items() if v == "agree"}
    ttft = next(m for m in group["metrics"] if m["metric"] == "ttft.p50")
    for reading in ttft["readings"]:
        assert 0.03 <= reading["value"]["value"] < 0.08
    assert "agreement: native, aiperf at c=4" in done.stdout
    folder = only_run(tmp_path / "out")
    assert 'id="agreement"' in (folder / "report.html").read_text()
    starts = [e for e in events_of(folder) if e["type"] == "generator_start"]
    assert [(e["index"], e["generator"]) for e in starts] == [(0, "native"), (1, "aiperf")]
    assert len({json.dumps(p) for p in prompts}) > 80, "the native generator's prompts are each their own"


def test_a_tool_without_data_is_exit_6_with_its_log_and_what_to_do(tmp_path: Path, env: dict[str, str]) -> None:
    load = sets(concurrency=2, num_requests=4, input_length=16, output_length=4)
    with OpenAIServer() as server:
        done = bench(
            "run", "--load-generator", "aiperf", "--url", server.url, "-o", "out", *load, cwd=tmp_path,
            env={**env, "PLAY": "nothing"},
        )  # fmt: skip
    assert done.returncode == 6, done.stderr
    said = " ".join(f"{done.stdout} {done.stderr}".split())
    assert "No data collected from load generator aiperf" in said
    assert "exit code 0" in said
    assert "ConnectionError: the model is not there" in said, "the tail of its log"
    for advice in ("configuration", "network", "timeouts"):
        assert advice in said
    assert "Traceback" not in said
    log = next((only_run(tmp_path / "out") / "logs").rglob("aiperf.log"))
    assert "the model is not there" in log.read_text()


def test_one_that_fails_does_not_keep_the_next_from_running(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "both.yaml").write_text(
        "benchmark:\n  load_generators:\n"
        "    - {type: aiperf, config: &load {concurrency: 4, num_requests: 80, input_length: 32, output_length: 8}}\n"
        "    - {type: native, config: *load}\n"
    )
    with OpenAIServer() as server:
        done = bench(
            "run", "-c", "both.yaml", "--url", server.url, "-o", "out", *LENIENT, cwd=tmp_path,
            env={**env, "PLAY": "nothing"},
        )  # fmt: skip
    assert done.returncode == 6, done.stderr
    result = result_of(tmp_path / "out")
    assert result["status"] == "partial"
    assert {s["load_generator"]: s["metrics"]["requests_total"]["succeeded"] for s in result["stages"]} == {
        "aiperf": 0,
        "native": 80,
    }
    (finding,) = [f for f in result["findings"] if f["code"] == "generator_failed"]
    assert finding["message"].startswith("aiperf: No data collected from load generator aiperf")
    assert "failed: No data collected from load generator aiperf" in done.stdout
    assert "Nothing could be compared: aiperf has no data." in done.stdout
    assert "A load generator failed; what was measured is kept." in (
        only_run(tmp_path / "out") / "report.md"
    ).read_text().replace("\\", "")


def test_a_tool_s_own_file_runs_as_the_mission_writes_it(tmp_path: Path, env: dict[str, str]) -> None:
    """``--load-generator T --config native-file``; the output goes to ./results."""
    with OpenAIServer() as server:
        (tmp_path / "aiperf-config.yaml").write_text(
            f"url: {server.url}\nconcurrency: 2\nrequest-count: 20\nendpoint-type: completions\n"
            "synthetic-input-tokens-mean: 16\noutput-tokens-mean: 4\nartifact-dir: art\n"
        )
        done = bench("--load-generator", "aiperf", "--config", "aiperf-config.yaml", *LENIENT, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "results")
    assert result["target"]["url"].startswith(server.url)
    assert [s["metrics"]["requests"]["succeeded"] for s in result["stages"]] == [20]
    assert any(f["code"] == "native_key_dropped" and "artifact_dir" in f["message"] for f in result["findings"])


def test_import_of_what_the_tool_left_is_the_run_again(tmp_path: Path, env: dict[str, str]) -> None:
    load = sets(concurrency=2, num_requests=30, input_length=16, output_length=4, endpoint="completions")
    with OpenAIServer() as server:
        done = bench(
            "run",
            "--load-generator",
            "aiperf",
            "--url",
            server.url,
            "-o",
            "out",
            *load,
            *LENIENT,
            cwd=tmp_path,
            env=env,
        )
    assert done.returncode == 0, done.stderr
    ran = result_of(tmp_path / "out")
    left = next((only_run(tmp_path / "out") / "logs").rglob("profile_export.jsonl")).parent
    done = bench("import", "--from", "aiperf", str(left), "-o", "in", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    for name in ("ttft", "tpot", "e2e", "itl"):
        assert again["stages"][0]["metrics"][name]["mean"] == ran["stages"][0]["metrics"][name]["mean"]
    done = bench("import", "--from", "guidellm", str(left), "-o", "in2", cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (6, "")
    assert "guidellm" in done.stderr
    assert "Traceback" not in done.stderr


def test_import_tells_what_it_left_out_and_vouches_for_no_client(tmp_path: Path, env: dict[str, str]) -> None:
    sample = Path(__file__).parents[1] / "samples" / "vllm-bench" / "vllm-bench.json"
    text = sample.read_text()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(text)
    (tmp_path / "in" / "b.json").write_text(text[:500])
    done = bench("import", "--from", "vllm-bench", "in", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "warning: b.json is no whole JSON file: left out" in done.stderr
    assert "how late the client was is not known" in done.stdout
