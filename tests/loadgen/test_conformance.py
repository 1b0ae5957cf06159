"""The native engine passes the suite that ships for authors of load generators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.loadgen.api import LoadGenerator
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.testing.load_generator import LoadGeneratorConformance
from tests.support.openai_server import OpenAIServer


class TestNative(LoadGeneratorConformance):
    @pytest.fixture
    def generator(self) -> LoadGenerator:
        return load_generator("native")

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with OpenAIServer() as server:
            yield Endpoint(server.url, server.model)
