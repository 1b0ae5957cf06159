"""The Python kit's example passes the suite that every load generator passes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.loadgen.api import LoadGenerator
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.testing.load_generator import LoadGeneratorConformance
from tests.support.openai_server import OpenAIServer

EXAMPLE = Path(__file__).parents[2] / "sdk/python/examples/openai_asyncio.py"


class TestPython(LoadGeneratorConformance):
    native = {"command": [sys.executable, str(EXAMPLE)]}

    @pytest.fixture
    def generator(self) -> LoadGenerator:
        return load_generator("command")

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with OpenAIServer() as server:
            yield Endpoint(server.url, server.model)
