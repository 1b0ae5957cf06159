from __future__ import annotations

import pytest

from llm_d_benchmark.config.target import ExistingTargetConfig, LocalTargetConfig, ProcessTargetConfig
from llm_d_benchmark.target.api import Target
from llm_d_benchmark.target.existing import ExistingTarget
from llm_d_benchmark.target.local import LocalTarget
from llm_d_benchmark.target.local_model import missing_modules
from llm_d_benchmark.target.process import ProcessTarget
from llm_d_benchmark.testing.target import TargetConformance
from tests.target.conftest import command


class TestExisting(TargetConformance):
    @pytest.fixture
    def target(self, serve, monkeypatch) -> Target:  # type: ignore[no-untyped-def]
        monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
        return ExistingTarget(ExistingTargetConfig(url=serve("--key", "a-secret-key")))


class TestProcess(TargetConformance):
    @pytest.fixture
    def target(self) -> Target:
        return ProcessTarget(ProcessTargetConfig(command=command()))


@pytest.mark.local_model
@pytest.mark.skipif(bool(missing_modules()), reason="the [local] extra is not installed")
class TestLocal(TargetConformance):
    @pytest.fixture
    def target(self) -> Target:
        return LocalTarget(LocalTargetConfig(slots=1, context=512))
