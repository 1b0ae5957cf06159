"""The example of a load generator that lives inside the tool: what it does passes the suite, the rest it refuses."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.loadgen.api import LoadGenerator
from llm_d_benchmark.testing.load_generator import LoadGeneratorConformance
from tests.sdk.build import SDK
from tests.support.openai_server import OpenAIServer

PACKAGE = SDK / "python/examples/entry_point"


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    sys.path.insert(0, str(PACKAGE / "src"))
    yield importlib.import_module("llm_d_threads")
    sys.path.remove(str(PACKAGE / "src"))


class TestThreads(LoadGeneratorConformance):
    # refused by check, see below
    test_completions_take_text_and_token_ids = None
    test_a_conversation_goes_on_with_the_answers = None
    test_without_streaming_there_are_no_token_times = None
    test_an_adaptive_source_is_told_of_each_stage = None

    @pytest.fixture
    def generator(self, package: ModuleType) -> LoadGenerator:
        generator: LoadGenerator = package.ThreadsLoadGenerator()
        return generator

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with OpenAIServer() as server:
            yield Endpoint(server.url, server.model)


@pytest.mark.parametrize(
    "config",
    [
        {"endpoint": "completions"},
        {"streaming": False},
        {"workload": {"type": "conversation"}},
        {"retries": {"max": 1}},
        {"sweep": {"over": "rate"}},
        {"ramp": 1},
        {"workers": 2},
        {"native": {"x": 1}},
    ],
    ids=str,
)
def test_what_it_cannot_do_it_refuses(package: ModuleType, config: dict[str, Any]) -> None:
    assert [f.severity for f in package.ThreadsLoadGenerator().check(LoadConfig.model_validate(config))] == ["error"]


def test_installed_beside_the_tool_it_has_a_name(tmp_path: Path) -> None:
    """What an installation leaves behind: the module, and its entry points as pyproject.toml names them."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"llm_d_threads-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, names in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines))
    code = "from llm_d_benchmark.loadgen.registry import load_generator; print(load_generator('threads').name)"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE / "src")])}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path, check=False)
    assert said.stdout.strip() == "threads", said.stderr
