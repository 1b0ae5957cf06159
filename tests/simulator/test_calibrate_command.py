"""``simulator profiles`` and ``simulator calibrate`` as commands."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.command import bench, only_run, result_of, sets

LEVELS = [{"concurrency": users} for users in (1, 4, 16, 48)]


def simulate(folder: Path, output: str, *options: str) -> Path:
    load = sets(
        stages=LEVELS,
        duration="6s",
        input_length={"distribution": "uniform", "min": 32, "max": 900},
        output_length={"distribution": "uniform", "min": 8, "max": 120},
        parameters={"ignore_eos": True},
    )
    done = bench("simulator", "run", *load, *options, "-o", output, "--fail-on", "none", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / output


def throughputs(output: Path) -> list[float]:
    return [s["metrics"]["output_tokens_per_second"]["value"] for s in result_of(output)["stages"]]


def test_profiles_are_listed_with_their_sources(tmp_path: Path) -> None:
    done = bench("simulator", "profiles", cwd=tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == ["llama-3.1-8b"]]
    expected = "llama-3.1-8b 8.0 B 128 KiB 131,072 config.json of meta-llama/Llama-3.1-8B-Instruct"
    assert " ".join(line.split()) == expected
    assert "AMD Instinct MI300X accelerator data sheet" in done.stdout
    tables = json.loads(bench("simulator", "profiles", "--json", cwd=tmp_path).stdout)
    assert tables["hardware"]["h100"]["memory_bandwidth"] == 3.35e12
    assert tables["models"]["mixtral-8x7b"]["num_experts_per_tok"] == 2


def test_a_profile_is_shown_and_written(tmp_path: Path) -> None:
    name = ["simulator", "profiles", "llama-3.1-70b/h100", "--tensor-parallel-size", "4"]
    shown = bench(*name, cwd=tmp_path)
    assert yaml.safe_load(shown.stdout)["model"] == "meta-llama/Llama-3.1-70B-Instruct"
    assert bench(*name, "-o", "mine.yaml", cwd=tmp_path).returncode == 0
    again = bench("simulator", "profiles", "mine.yaml", "--tensor-parallel-size", "4", cwd=tmp_path)
    assert yaml.safe_load(again.stdout) == yaml.safe_load(shown.stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["llama-3.1-70b/h100"], ["does not fit 1 x NVIDIA H100", "-> set tensor_parallel_size: 2"]),
        (["lama-3.1-8b/h100"], ["did you mean 'llama-3.1-8b'?"]),
        (["-o", "x.yaml"], ["--output needs the name of a profile"]),
    ],
)
def test_mistakes_end_with_advice(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = bench("simulator", "profiles", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr


def test_a_simulated_server_is_calibrated_and_simulated_again(tmp_path: Path) -> None:
    """Through the command line alone the profile says what its run said."""
    out = simulate(tmp_path, "truth", "--set", "spec.target.simulator.max_num_seqs=32")
    done = bench("simulator", "calibrate", str(only_run(out)), "-o", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "largest error of a level held out" in done.stdout
    assert "{profile: mine.yaml, max_num_seqs: 32, max_num_batched_tokens: 8192}" in done.stdout
    assert "sequences 1 to 32; beyond that the profile extrapolates" in " ".join(done.stdout.split())
    profile = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert profile["model"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert [level["level"] for level in profile["calibration"]["levels"]] == ["c=1", "c=4", "c=16", "c=48"]
    assert all(error < 0.1 for error in profile["calibration"]["worst_hold_out_error"].values())
    keys = ["--set", "spec.target.simulator.profile=mine.yaml", "--set", "spec.target.simulator.max_num_seqs=32"]
    again = simulate(tmp_path, "again", *keys)
    assert throughputs(again) == pytest.approx(throughputs(out), rel=0.03)


def test_too_few_levels_are_refused(tmp_path: Path) -> None:
    load = sets(stages=LEVELS[:2], duration="5s", input_length=64, output_length=16)
    assert bench("simulator", "run", *load, "-o", "out", "--fail-on", "none", cwd=tmp_path).returncode == 0
    done = bench("simulator", "calibrate", str(only_run(tmp_path / "out")), cwd=tmp_path)
    assert done.returncode == 2
    assert "2 load levels to fit (c=1, c=4), 4 are needed" in done.stderr
    assert "measure more levels of load" in done.stderr
    assert not (tmp_path / "profile.yaml").exists()


def test_a_profile_that_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text("mine")
    done = bench("simulator", "calibrate", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "profile.yaml exists already" in done.stderr
    assert "-o NAME writes another file" in done.stderr
    assert (tmp_path / "profile.yaml").read_text() == "mine"


@pytest.mark.local_model
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the [local] extra is not installed")
def test_a_real_model_is_calibrated(tmp_path: Path) -> None:
    """That it works on a real server; how well it predicts is measured by benchmarks/calibrate_local.py."""
    load = sets(
        stages=[{"concurrency": users, "num_requests": 3 + 2 * users} for users in (1, 2, 3, 4)],
        warmup="0s",
        input_length={"distribution": "uniform", "min": 32, "max": 64},
        output_length={"distribution": "uniform", "min": 12, "max": 24},
        parameters={"ignore_eos": True},
    )
    done = bench("run", "--target", "local", "-o", "out", *load, "--fail-on", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    done = bench("simulator", "calibrate", str(only_run(tmp_path / "out")), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    profile: dict[str, Any] = json.loads(done.stdout)
    assert profile["model"] == "gemma-3-270m"
    assert profile["calibration"]["max_num_seqs"] == 4
    assert profile["calibration"]["assumed"] == []
    assert profile["max_model_len"] == 2048
    step = profile["step"]
    one = step["fixed"] + max(step["weights"], step["token"]) + step["sequence"] + 60 * step["context"]
    assert 0.002 < one < 2  # s per token of one stream, on any machine
