"""The commands of the real clock, as processes."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path

from llm_d_benchmark.domain.errors import ExitCode
from tests.e2e.command import bench, result_of, sets, start

TARGET = "spec.target.simulator"


def test_serve_prints_its_urls_answers_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    config = tmp_path / "deployment.yaml"
    config.write_text("kind: BenchmarkConfig\nspec: {target: {simulator: {replicas: 2, model: a-model}}}\n")
    process = start("simulator", "serve", "-c", str(config), "--port", "0", cwd=tmp_path)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    urls = [word for line in lines for word in line.split() if word.endswith("/v1")]
    assert len(urls) == 3
    for url in urls:
        with urllib.request.urlopen(f"{url}/models", timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "a-model"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_serve_says_what_is_wrong(tmp_path: Path) -> None:
    done = bench("simulator", "serve", "--set", f"{TARGET}.profile=llama-3.1-8b/h1000", cwd=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert "did you mean 'h100'" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_does_not_start_without_its_lengths(tmp_path: Path) -> None:
    (tmp_path / "lengths.txt").write_text("12\nmany\n")
    for path, says in (("nope.txt", "cannot read the lengths in nope.txt"), ("lengths.txt", "lengths.txt:2: 'many'")):
        lengths = f"{TARGET}.output_length={{distribution: file, path: {path}}}"
        done = bench("simulator", "serve", "--port", "0", "--set", lengths, cwd=tmp_path)
        assert done.returncode == ExitCode.USAGE
        assert f"{TARGET}.output_length.path: {says}" in done.stderr
        assert "Traceback" not in done.stderr


def test_one_command_measures_a_simulated_deployment(tmp_path: Path) -> None:
    load = sets(num_requests=30, concurrency=3, input_length=64, output_length=8)
    done = bench("run", "--target", "simulator", *load, "-o", "out", "--fail-on", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    assert result["simulated"] is True
    (stage,) = result["stages"]
    assert stage["metrics"]["requests"]["succeeded"] == 30
