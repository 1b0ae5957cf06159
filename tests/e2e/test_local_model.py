"""The main job on a real language model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.e2e.command import bench, result_of, sets

pytestmark = [
    pytest.mark.local_model,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the [local] extra is not installed"),
]


def test_a_real_model_is_measured_and_its_identities_hold(tmp_path: Path) -> None:
    load = sets(concurrency=2, num_requests=24, input_length=48, output_length=16, parameters={"ignore_eos": True})
    done = bench("run", "--target", "local", "-o", "out", *load, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    result = result_of(tmp_path / "out")
    metrics = result["stages"][0]["metrics"]
    assert metrics["requests_total"]["succeeded"] == 24
    assert abs(metrics["input_length"]["deviation"]["value"]) < 0.05
    assert abs(metrics["output_length"]["deviation"]["value"]) < 0.05
    assert metrics["output_length"]["source"] == "usage"
    assert metrics["output_tokens_per_second"]["value"] > 1
    assert all(i["holds"] is not False for i in result["validity"]["identities"])
