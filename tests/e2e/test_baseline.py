"""run --baseline: a run judged against finished ones, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import bench, only_run, sets

VIRTUAL = ["run", "--target", "simulator", "--load-generator", "virtual"]
LOAD = {"request_rate": 20, "arrival": "poisson", "duration": 20, "input_length": 128, "output_length": 32}


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs of one deployment with different seeds."""
    folder = tmp_path_factory.mktemp("baseline")
    for seed in range(5):
        done = bench(*VIRTUAL, *sets(**LOAD, seed=seed), "-o", "runs", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "runs"


def test_a_slower_deployment_is_exit_4_and_its_verdict_is_kept(baseline: Path, tmp_path: Path) -> None:
    slow = ["--set", 'spec.target.simulator.failures.slow_replicas={"0": 1.3}']
    done = bench(*VIRTUAL, *sets(**LOAD, seed=9), *slow, "--baseline", baseline, "-o", "out", cwd=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "FAIL" in done.stdout
    verdict = json.loads((only_run(tmp_path / "out") / "regression.json").read_text())
    assert verdict["verdict"] == "fail"
    again = bench(*VIRTUAL, *sets(**LOAD, seed=9), *slow, "--baseline", baseline, "--fail-on", "slo", "-o", "out2",
                  cwd=tmp_path)  # fmt: skip
    assert again.returncode == 0, again.stderr


def test_the_same_deployment_is_not(baseline: Path, tmp_path: Path) -> None:
    done = bench(*VIRTUAL, *sets(**LOAD, seed=9), "--baseline", baseline, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_baseline_that_is_not_there_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    done = bench(*VIRTUAL, *sets(**LOAD), "--baseline", "nowhere", "-o", "out", cwd=tmp_path)
    assert done.returncode != 0
    assert "nowhere" in done.stderr
    assert not (tmp_path / "out").exists()
