"""The Python kit's example passes the suites of custom generators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.testing.protocol import ProtocolConformance
from tests.support.openai_server import OpenAIServer

EXAMPLE = Path(__file__).parents[2] / "sdk/python/examples/openai_asyncio.py"


class TestPython(ProtocolConformance):
    @pytest.fixture
    def command(self) -> list[str]:
        return [sys.executable, str(EXAMPLE)]

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with OpenAIServer() as server:
            yield Endpoint(server.url, server.model)
