"""The tools of others pass the suite that ships for authors of load generators, as far as it is about them: they make
their own prompts, number no requests and keep no schedule of ours, and tell of their requests when they have ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.loadgen.external.generator import ExternalLoadGenerator
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.testing.load_generator import LoadGeneratorConformance as Suite
from llm_d_benchmark.testing.server import ExactServer

from .live import installed_or_skip


@pytest.mark.generators
@pytest.mark.parametrize("tool", ["aiperf", "guidellm", "inference-perf", "llmeter"])
class TestTools:
    @pytest.fixture
    def generator(self, tool: str) -> ExternalLoadGenerator:
        generator = load_generator(tool)
        assert isinstance(generator, ExternalLoadGenerator)
        installed_or_skip(generator)
        return generator

    @pytest.fixture
    def endpoint(self) -> Iterator[Endpoint]:
        with ExactServer() as server:
            yield server.endpoint

    native = Suite.native
    _run, _on = Suite._run, Suite._on
    test_it_has_a_name_and_takes_the_common_keys = Suite.test_it_has_a_name_and_takes_the_common_keys
    test_times_are_epoch_and_in_order = Suite.test_times_are_epoch_and_in_order
    test_a_shard_sends_its_own_part = Suite.test_a_shard_sends_its_own_part
    test_a_closed_loop_keeps_its_concurrency = Suite.test_a_closed_loop_keeps_its_concurrency
    test_an_api_key_is_used_and_left_nowhere = Suite.test_an_api_key_is_used_and_left_nowhere
    test_an_adaptive_source_is_told_of_each_stage = Suite.test_an_adaptive_source_is_told_of_each_stage
