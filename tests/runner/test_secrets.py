"""A secret that is not there: the message of a run has the file, the line and the key that name it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.run import run

UNSET = {"env": "A_KEY_THAT_NOBODY_SET"}
EXISTING = {"url": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"target": {"simulator": {"api_key_env": UNSET["env"]}}}, "target.simulator.api_key_env"),
        ({"target": {"existing": {**EXISTING, "api_key": UNSET}}}, "target.existing.api_key"),
        ({"target": {"existing": {**EXISTING, "headers": {"X-Key": UNSET}}}}, "target.existing.headers.X-Key"),
        ({"target": {"process": {"command": ["python3", "{port}"], "api_key": UNSET}}}, "target.process.api_key"),
        (
            {"target": {"existing": EXISTING}, "collectors": {"prometheus": {**EXISTING, "bearer_token": UNSET}}},
            "collectors.prometheus.bearer_token",
        ),
    ],
)
def test_a_variable_that_is_not_set_is_named_with_its_place(spec: dict[str, Any], key: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    load = {"concurrency": 1, "num_requests": 1}
    head = {"apiVersion": "llm-d.io/v1alpha1", "kind": "BenchmarkConfig", "metadata": {"name": "x"}}
    benchmark = {"load_generators": [{"type": "native", "config": load}]}
    file.write_text(yaml.safe_dump({**head, "spec": {**spec, "benchmark": benchmark}}, sort_keys=False))
    loaded = load_config([file], env={})
    with pytest.raises(ConfigError) as caught, loaded.locating():
        asyncio.run(run(loaded, RunOptions(tmp_path / "results", "test")))
    place, said, text = caught.value.message.removeprefix(f"{file}:").split(": ", 2)
    assert said == f"spec.{key}"
    assert "A_KEY_THAT_NOBODY_SET" in file.read_text().splitlines()[int(place) - 1]
    assert text == "the environment variable A_KEY_THAT_NOBODY_SET, which holds a secret, is not set"
    assert "export A_KEY_THAT_NOBODY_SET=" in str(caught.value.advice)
