"""Two processes at one study, through a PostgreSQL server: no configuration is lost, none is run twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import sets, start
from tests.e2e.test_explore import study_in


def test_two_processes_share_a_study(tmp_path: Path, postgresql: str) -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    block = {
        "search_space": {"batch_size": [1, 2, 3, 4, 6, 8], "max_tokens": [16, 32]},
        "optimization_methods": ["bayesian_optimization"],
        "max_runs": 8, "finalists": 1, "finalist_runs": 2, "storage": postgresql,
    }  # fmt: skip
    file = tmp_path / "search.yaml"
    file.write_text(json.dumps({"spec": {"target": "simulator", "configuration_optimization": block}}))
    short = sets(num_requests=24, concurrency=8, input_length=64, output_length=32)
    args = ["explore", "-c", str(file), "--virtual", *short, "--set", "spec.benchmark.duration=20s"]
    workers = [start(*args, "-o", name, cwd=tmp_path) for name in ("one", "other")]
    for worker in workers:
        _, err = worker.communicate(timeout=100)
        assert worker.returncode == 0, err
    studies = [study_in(next((tmp_path / name).iterdir())) for name in ("one", "other")]
    here = [[r for r in s["runs"] if r["path"]] for s in studies]
    searched = [json.dumps(r["settings"]) for runs in here for r in runs if r["purpose"] == "search"]
    assert len(searched) == len(set(searched)) == 8
    for study in studies:
        assert {json.dumps(t["settings"]) for t in study["trials"]} == set(searched)
        assert len([r for r in study["runs"] if r["purpose"] == "final"]) == 4
    assert sorted(sum(r["purpose"] == "final" for r in runs) for runs in here) == [0, 4]
    assert studies[0]["recommendation"]["message"] == studies[1]["recommendation"]["message"]
