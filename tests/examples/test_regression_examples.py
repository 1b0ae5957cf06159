"""The CI example runs what it says, and its workflow is well formed."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.runner.arms import arms_of
from tests.e2e.command import bench

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def test_the_workflow_runs_the_simulated_regression(tmp_path: Path) -> None:
    workflow = yaml.safe_load((EXAMPLES / "github-actions/regression.yml").read_text())
    steps = workflow["jobs"]["regression"]["steps"]
    (line,) = [s["run"] for s in steps if "llm-d-benchmark regress" in s.get("run", "")]
    command = shlex.split(line)
    assert command[0] == "llm-d-benchmark"
    command[command.index("-c") + 1] = str(ROOT / command[command.index("-c") + 1])
    short = ["--set", "spec.benchmark.duration=10s", "--set", "spec.regression_testing.min_runs=2"]
    done = bench(*command[1:], *short, cwd=tmp_path)
    assert done.returncode == 4, done.stderr + done.stdout
    used = {word for s in steps for word in s.get("run", "").split() if word.startswith("results/")}
    assert used
    assert all((tmp_path / path).is_file() for path in used)
    assert "FAIL" in (tmp_path / "results/regression.md").read_text()


def test_the_examples_resolve_to_two_targets() -> None:
    for file in sorted(EXAMPLES.glob("regression*.yaml")):
        one, other = arms_of(load_config([file], env={}), {})
        assert one.config.config.spec.target != other.config.config.spec.target
