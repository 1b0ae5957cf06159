"""A job's folder: what was done survives, and is taken up only by its own kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_d_benchmark.domain.errors import StoreError
from llm_d_benchmark.store.job import JobFolder


def test_what_was_done_is_on_disk_after_every_run(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path, kind="regression", name="nightly", config_yaml="a: 1\n", facts={"planned": None})
    assert job.runs_dir.is_dir()
    job.add_run(run="r1", arm="test")
    job.add_facts(planned=5)
    again = JobFolder.open(job.path, "regression")
    assert again.job_id == job.path.name
    assert again.name == "nightly"
    assert again.started == job.started > 0
    assert again.runs == [{"run": "r1", "arm": "test"}]
    assert again.facts == {"planned": 5}
    assert again.read_text("config.yaml") == "a: 1\n"
    assert json.loads((job.path / "job.json").read_text())["status"] == "running"
    again.update(status="done")
    again.add_run(run="r2")
    assert [r["run"] for r in JobFolder.open(job.path, "regression").runs] == ["r1", "r2"]


def test_what_is_no_job_of_this_kind_is_refused(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path, kind="regression", name="x", config_yaml="", facts={})
    with pytest.raises(StoreError, match="kind 'regression', not 'search'"):
        JobFolder.open(job.path, "search")
    with pytest.raises(StoreError, match=r"no job\.json"):
        JobFolder.open(tmp_path, "regression")
    (job.path / "job.json").write_text("{")
    with pytest.raises(StoreError, match="cannot read"):
        JobFolder.open(job.path, "regression")
    with pytest.raises(StoreError, match="cannot read"):
        job.read_text("nothing")
