"""``simulator run``: a benchmark in virtual time leaves an ordinary run folder, marked as simulated."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.store.folder import RunFolder
from tests.e2e.command import bench, events_of, only_run, result_of, sets

DEPLOYMENT = "spec.target.simulator"


def simulate(tmp_path: Path, *args: str, output: str = "out", code: int = 0) -> Path:
    done = bench("simulator", "run", "-o", output, "--progress", "none", *args, cwd=tmp_path)
    assert done.returncode == code, done.stderr + done.stdout
    return tmp_path / output


def test_a_run_of_ten_minutes_takes_seconds_and_leaves_a_whole_folder(tmp_path: Path) -> None:
    began = time.monotonic()
    load = sets(request_rate=2, arrival="poisson", input_length=64, output_length=32, duration=600)
    out = simulate(tmp_path, *load, "--set", f"{DEPLOYMENT}.replicas=2", "--set", f"{DEPLOYMENT}.startup_time=90")
    assert time.monotonic() - began < 120
    folder, result = only_run(out), result_of(out)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["simulated"], manifest["virtual_time"], manifest["status"]) == (True, True, "ok")
    assert manifest["target"]["info"]["hardware"].startswith("NVIDIA H100")
    assert result["simulated"] is True
    assert result["target"]["url"] == "virtual://simulator"
    assert 1000 < result["requests"]["succeeded"] == result["requests"]["sent"] < 1400
    # The server was ready after 90 s, and the load lasted 600 s, in simulated time.
    assert (result["stages"][0]["window"]["start"] - result["started"]) / 1e9 == pytest.approx(90, abs=0.01)
    assert (result["ended"] - result["started"]) / 1e9 == pytest.approx(690, abs=5)
    seconds = [e["end"] - e["start"] for e in events_of(folder) if e["type"] == "interval"]
    assert 600 <= len(seconds) < 605
    assert not any(e["type"] == "client" for e in events_of(folder))


def test_every_report_says_that_it_is_simulated_and_that_there_is_no_client(tmp_path: Path) -> None:
    done = bench("simulator", "run", "-o", "out", *sets(num_requests=200, output_length=16), cwd=tmp_path)
    said = "In virtual time there is no client that could be the bottleneck. The server is simulated"
    folder = only_run(tmp_path / "out")
    for text in (" ".join(done.stdout.split()), *((folder / n).read_text() for n in ("report.md", "report.html"))):
        assert said in text
    assert "(simulated)" in done.stdout
    validity = result_of(tmp_path / "out")["validity"]
    assert validity["valid"] is True
    assert validity["workers"] == []
    assert validity["idle_round_trip"] == {"absent": "virtual time has no network"}
    assert validity["schedule_delay_p99"] == {"absent": "virtual time has no client"}


def test_the_folder_is_analysed_and_reported_again_like_any_other(tmp_path: Path) -> None:
    folder = only_run(simulate(tmp_path, *sets(concurrency=16, num_requests=200)))
    before = (folder / "result.json").read_text()
    for command in ("analyze", "report"):
        assert bench(command, str(folder), cwd=tmp_path).returncode == 0
    assert (folder / "result.json").read_text() == before


def test_a_generator_of_real_time_becomes_virtual_and_the_same_seed_gives_the_same_records(tmp_path: Path) -> None:
    config = {
        "apiVersion": "llm-d.io/v1alpha1",
        "kind": "BenchmarkConfig",
        "metadata": {"name": "twice"},
        "spec": {
            "target": {"type": "simulator", "simulator": {"replicas": 3, "step_noise": 0.1}},
            "benchmark": {
                "load_generators": [
                    {"type": "native", "config": {"request_rate": 20, "arrival": "poisson", "duration": 20}},
                    {"type": "native", "config": {"concurrency": 8, "num_requests": 50}},
                ]
            },
        },
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    one, two = (only_run(simulate(tmp_path, "-c", "c.yaml", output=o)) for o in ("one", "two"))
    first, second = (_rows(folder) for folder in (one, two))
    assert len(first) > 400
    assert first == second
    stages = json.loads((one / "result.json").read_text())["stages"]
    assert [s["load_generator"] for s in stages] == ["virtual", "virtual"]
    assert stages[1]["window"]["start"] >= stages[0]["window"]["end"]


def _rows(folder: Path) -> list[tuple[int, ...]]:
    """Per request: times after the start of the run, and tokens."""
    start = json.loads((folder / "manifest.json").read_text())["started"]
    rows: list[tuple[int, ...]] = []
    for part in RunFolder.open(folder).parts():
        columns = [part.ints(n) for n in ("sent", "first_token", "end")]
        rows += zip(part.ints("request_id").tolist(), *((c - start).tolist() for c in columns), strict=True)
    return sorted(rows)


def test_run_takes_the_virtual_generator_too(tmp_path: Path) -> None:
    done = bench(
        "run", "--target", "simulator", "--load-generator", "virtual", "-o", "out", *sets(num_requests=20), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path / "out")["simulated"] is True


def test_a_dry_run_shows_the_deployment(tmp_path: Path) -> None:
    done = bench("simulator", "run", "--dry-run", *sets(request_rate=5, duration=60), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "url: virtual://simulator" in done.stdout
    assert "num_gpu_blocks:" in done.stdout
    assert "[virtual] 5/s constant" in done.stdout


def test_keys_that_only_the_replaced_generator_knows_are_left_out_with_a_warning(tmp_path: Path) -> None:
    own = {"type": "command", "config": {"native": {"command": ["./mine"]}, "num_requests": 20}}
    folder = only_run(simulate(tmp_path, "--set", f"spec.benchmark.load_generators={json.dumps([own])}"))
    (said,) = [e for e in events_of(folder) if e.get("code") == "native_without_effect"]
    key = "spec.benchmark.load_generators.0.config.native"
    assert said["message"] == f"--set: {key}: in virtual time these keys of command change nothing: command"
    done = bench("simulator", "run", "--dry-run", *sets(native={"receiver": "python"}), cwd=tmp_path)
    assert (done.returncode, "these keys of native change nothing: receiver" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("router.policy", "nearest", "router.policy"),
        ("block_size", 24, "simulator.block_size: 24 is not a power of two"),
        ("max_model_len", 10_000_000, "spec.target.simulator.max_model_len"),
        ("profile", "llama-3.1-8b/h1000", "spec.target.simulator.profile"),
        ("num_gpu_blocks", 20, "--set: spec.target.simulator.num_gpu_blocks: a request may have 320 tokens"),
        ("failures.slow_replicas", {"7": 2}, "there is no replica '7'"),
        ("disaggregation.prefill_replicas", 1, "1 of 1 replicas leave none to decode"),
    ],
)
def test_mistakes_name_their_key(tmp_path: Path, key: str, value: Any, says: str) -> None:
    done = bench("simulator", "run", "--set", f"{DEPLOYMENT}.{key}={json.dumps(value)}", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_the_virtual_generator_needs_a_simulator_and_goes_alone(tmp_path: Path) -> None:
    url = ("run", "--url", "http://127.0.0.1:1", "--load-generator", "virtual")
    done = bench(*url, cwd=tmp_path)
    assert (done.returncode, "spec.target.type is 'existing'" in done.stderr) == (2, True)
    both = '[{"type": "native"}, {"type": "virtual"}]'
    done = bench("run", "--target", "simulator", "--set", f"spec.benchmark.load_generators={both}", cwd=tmp_path)
    assert (done.returncode, "cannot run beside native" in done.stderr) == (2, True)
    for option, value, says in (("--shard", "0/2", "cannot be sharded"), ("--start-at", "+60", "starts at once")):
        done = bench("run", "--target", "simulator", "--load-generator", "virtual", option, value, cwd=tmp_path)
        assert (done.returncode, says in done.stderr) == (2, True)
        assert not (tmp_path / "results").exists()


def test_a_server_that_refuses_everything_is_a_failed_run(tmp_path: Path) -> None:
    out = simulate(tmp_path, "--set", f"{DEPLOYMENT}.failures.http_500_rate=1", *sets(num_requests=50), code=5)
    assert result_of(out)["status"] == "failed"
