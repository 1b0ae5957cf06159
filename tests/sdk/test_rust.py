"""The Rust kit: its own tests, and its example under the suites of custom generators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.testing.protocol import ProtocolConformance
from tests.sdk.build import built_rust, cargo
from tests.support.openai_server import OpenAIServer


@pytest.fixture(scope="module")
def openai_rust() -> str:
    return built_rust()


def test_its_own_tests() -> None:
    cargo("test", "--quiet", "--lib")


class TestRust(ProtocolConformance):
    @pytest.fixture
    def command(self, openai_rust: str) -> list[str]:
        return [openai_rust]

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with OpenAIServer() as server:
            yield Endpoint(server.url, server.model)
