"""A secret that is not there: the message of a run has the file, the line and the key that name it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_d_benchmark.config.layers import LoadedConfig, load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.runner.explore import ExploreOptions, explore
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.regress import RegressOptions, regress
from llm_d_benchmark.runner.run import run

UNSET = {"env": "A_KEY_THAT_NOBODY_SET"}
EXISTING = {"url": "http://127.0.0.1:9"}


def written(spec: dict[str, Any], folder: Path) -> tuple[LoadedConfig, Path]:
    file = folder / "c.yaml"
    benchmark = {"load_generators": [{"type": "native", "config": {"concurrency": 1, "num_requests": 1}}]}
    head = {"apiVersion": "llm-d.io/v1alpha1", "kind": "BenchmarkConfig", "metadata": {"name": "x"}}
    file.write_text(yaml.safe_dump({**head, "spec": {**spec, "benchmark": benchmark}}, sort_keys=False))
    return load_config([file], env={}), file


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
    loaded, file = written(spec, tmp_path)
    with pytest.raises(ConfigError) as caught, loaded.locating():
        asyncio.run(run(loaded, RunOptions(tmp_path / "results", "test")))
    place, said, text = caught.value.message.removeprefix(f"{file}:").split(": ", 2)
    assert said == f"spec.{key}"
    assert "A_KEY_THAT_NOBODY_SET" in file.read_text().splitlines()[int(place) - 1]
    assert text == "the environment variable A_KEY_THAT_NOBODY_SET, which holds a secret, is not set"
    assert "export A_KEY_THAT_NOBODY_SET=" in str(caught.value.advice)


def test_a_study_says_so_before_its_first_run(tmp_path: Path) -> None:
    factor = {"name": "spec.target.simulator.max_num_seqs", "values": [4, 8]}
    design = {"type": "factorial_design", "factors": [factor]}
    target = {"simulator": {"api_key_env": UNSET["env"]}}
    loaded, file = written({"target": target, "experiment_design": design}, tmp_path)
    options = ExploreOptions(tmp_path / "results")
    with pytest.raises(ConfigError) as caught, loaded.locating():
        asyncio.run(explore(loaded, options))
    assert caught.value.message.startswith(f"{file}:")
    assert "spec.target.simulator.api_key_env: the environment variable" in caught.value.message
    assert not options.output.exists()


@pytest.mark.parametrize(
    ("known", "collectors", "key"),
    [
        ({"api_key": UNSET}, {}, "api_key"),
        ({}, {"prometheus": {**EXISTING, "bearer_token": UNSET}}, "spec.collectors.prometheus.bearer_token"),
    ],
)
def test_a_regression_test_says_so_before_its_first_run(
    known: dict[str, Any], collectors: dict[str, Any], key: str, tmp_path: Path
) -> None:
    """Of the version that is run last too."""
    targets = {"v0.1": {"existing": EXISTING}, "v0.2": {"existing": {**EXISTING, **known}}}
    block = {"baseline_version": "v0.1", "test_version": "v0.2", "targets": targets}
    loaded, file = written({"regression_testing": block, "collectors": collectors}, tmp_path)
    options = RegressOptions(tmp_path / "results")
    with pytest.raises(ConfigError) as caught, loaded.locating():
        asyncio.run(regress(loaded, options))
    place = caught.value.message.removeprefix(f"{file}:").partition(":")[0]
    assert "A_KEY_THAT_NOBODY_SET" in file.read_text().splitlines()[int(place) - 1]
    assert f"{key}: the environment variable A_KEY_THAT_NOBODY_SET" in caught.value.message
    assert not options.output.exists()
