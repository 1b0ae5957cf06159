"""The Go kit: its own tests, and its example under the suites of custom generators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.testing.protocol import ProtocolConformance
from tests.sdk.build import SDK, built_go, tool, toolchain
from tests.support.openai_server import OpenAIServer


def test_its_own_tests() -> None:
    go = toolchain("go")
    tool(go, "vet", "./...", cwd=SDK / "go")
    tool(go, "test", "-count=1", "./...", cwd=SDK / "go")


@pytest.fixture(scope="module")
def openai_go(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built_go(tmp_path_factory.mktemp("go"))


class TestGo(ProtocolConformance):
    @pytest.fixture
    def command(self, openai_go: str) -> list[str]:
        return [openai_go]

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with OpenAIServer() as server:
            yield Endpoint(server.url, server.model)
