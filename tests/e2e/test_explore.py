"""llm-d-benchmark explore and recommend, on the simulator in virtual time."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from llm_d_benchmark.domain.study import RunAdvice, StudyResult
from llm_d_benchmark.store.comparison_json import published_schema
from tests.e2e.command import bench, only_run, sets, start

MISSION = Path(__file__).parents[2] / "examples" / "mission"
SHORT = [*sets(num_requests=24, concurrency=16, input_length=64, output_length=32), "--set",
         "spec.benchmark.duration=20s"]  # fmt: skip
FAST = ["--set", "spec.experiment_design.finalist_runs=2"]


def study_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "study.json").read_text())
    jsonschema.validate(found, json.loads(published_schema(StudyResult)))
    return found


def design(tmp_path: Path, factors: list[dict[str, Any]], **block: Any) -> Path:
    file = tmp_path / "design.yaml"
    block = {"type": "factorial_design", "factors": factors, **block}
    target = {"simulator": {"max_num_seqs": 4}}
    file.write_text(json.dumps({"spec": {"target": target, "experiment_design": block}, "kind": "BenchmarkConfig"}))
    return file


def test_factors_are_measured_and_a_setting_is_recommended(tmp_path: Path) -> None:
    tokens = {"name": "spec.target.simulator.max_num_batched_tokens", "values": [8, 2048]}
    factors = [{"name": "batch_size", "values": [4, 16]}, tokens, {"name": "temperature", "values": [0.1, 1.0]}]
    file = design(tmp_path, factors, finalists=1)
    done = bench("explore", "-c", file, "--virtual", "-o", "out", *SHORT, *FAST, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    folder = only_run(tmp_path / "out")
    study = study_in(folder)
    assert (study["status"], study["simulated"], len(study["trials"])) == ("done", True, 8)
    # a batch of 16 sequences does not fit into steps of 8 tokens: the configuration refuses it, and that is a result
    failed = [t for t in study["trials"] if t["state"] == "failed"]
    refused = {"batch_size": 16, "max_num_batched_tokens": 8}.items()
    assert [refused <= t["settings"].items() for t in failed] == [True, True]
    assert "max_num_batched_tokens: 8 is below max_num_seqs, 16" in failed[0]["reason"]
    chosen = study["recommendation"]
    assert (chosen["settings"]["batch_size"], chosen["sure"]) == (16, True)
    assert chosen["gain"]["low"] > 0.5
    assert all((folder / "runs" / run / "result.json").is_file() for run in chosen["evidence"])
    temperature = next(e for e in study["effects"] if e["factor"] == "temperature")
    assert (temperature["verdict"], temperature["change"]) == ("inert", pytest.approx(0.0, abs=1e-9))
    assert "RECOMMENDATION: set batch_size=16" in done.stdout
    page = (folder / "report.html").read_text()
    for part in ('id="progress-0"', 'id="effect-0"', 'id="gains"', f"runs/{chosen['evidence'][0]}/report.html"):
        assert part in page
    # the same conclusions again, without any load
    (folder / "study.json").unlink()
    (folder / "report.html").unlink()
    again = bench("recommend", folder, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == study_in(folder) == study
    assert (folder / "report.html").read_text() != ""
    # one run alone: what to test, by what limited it
    advice = bench("recommend", folder / "runs" / chosen["evidence"][0], "--json", cwd=tmp_path)
    jsonschema.validate(json.loads(advice.stdout), json.loads(published_schema(RunAdvice)))
    assert json.loads(advice.stdout)["run"] == chosen["evidence"][0]


def test_the_missions_optimisation_block_runs_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    block = "spec.configuration_optimization"
    done = bench(
        "explore", "-c", MISSION / "configuration_optimization.yaml", "--virtual", "-o", "out", "--json",
        "--set", f"{block}.max_runs=12", "--set", f"{block}.finalists=1", "--set", f"{block}.finalist_runs=2",
        "--set", "spec.prices={gpu_hour: 2.5, gpus: 1}", *SHORT, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    study = json.loads(done.stdout)
    assert [m["method"] for m in study["methods"]] == ["grid_search", "bayesian_optimization", "genetic_algorithm"]
    assert 4 <= len(study["trials"]) <= 12
    assert [c["name"] for c in study["limits"]] == ["max_latency", "min_throughput", "max_cost"]
    assert all("cost_per_token" in r["values"] for r in study["runs"])
    assert any(t["state"] == "infeasible" for t in study["trials"])  # 4096 tokens take more than 2 s


def test_an_interrupted_study_keeps_its_runs_and_goes_on(tmp_path: Path) -> None:
    file = design(tmp_path, [{"name": "batch_size", "values": [1, 2, 4, 8, 12, 16]}], finalists=0)
    args = ["explore", "-c", str(file), "--virtual", "-o", "out", *SHORT]
    process = start(*args, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("out/*/runs/*/result.json"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    folder = only_run(tmp_path / "out")
    first = study_in(folder)
    assert first["status"] == "interrupted"
    kept = [r["run"] for r in first["runs"] if r["state"] == "ok"]
    assert 2 <= len(kept) < 7
    assert (folder / "report.html").is_file()
    done = bench(*args, "--resume", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    second = study_in(folder)
    assert (second["status"], len(second["trials"])) == ("done", 6)
    assert [r["run"] for r in second["runs"] if r["state"] == "ok"][: len(kept)] == kept
    other = bench(*args, "--set", "spec.benchmark.duration=21s", "--resume", folder, cwd=tmp_path)
    assert other.returncode == 2
    assert "a study of another configuration" in other.stderr


def test_mistakes_are_said_before_anything_runs(tmp_path: Path) -> None:
    nothing = bench("explore", "--virtual", *sets(native={"receiver": "python"}), cwd=tmp_path)
    assert (nothing.returncode, "nothing says what to explore" in nothing.stderr) == (2, True)
    assert "these keys of native change nothing: receiver" in nothing.stderr
    file = design(tmp_path, [{"name": "spec.target.simulator.max_num_seq", "values": [1, 2]}])
    wrong = bench("explore", "-c", file, "--virtual", "-o", "out", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "max_num_seqs" in wrong.stderr
    assert not (tmp_path / "out").exists()
    none = bench("recommend", tmp_path, cwd=tmp_path)
    assert (none.returncode, "not the folder of a job" in none.stderr) == (6, True)
