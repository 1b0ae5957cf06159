"""The generators of the tool pass the suite that ships for authors of load generators, as far as it is about them.

Those of other tools are in external/test_conformance.py.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.events import Event
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.loadgen.api import LoadGenerator, LoadJob
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.loadgen.virtual.generator import VirtualLoadGenerator
from llm_d_benchmark.simulator.deployment import VirtualDeployment
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


class _Deployed(VirtualLoadGenerator):
    """The virtual generator with a simulated deployment for each job, as the runner gives it one."""

    async def run(self, job: LoadJob) -> AsyncIterator[Records | Event]:
        deployment = VirtualDeployment(SimulatorTargetConfig(model="exact"), time.time_ns())
        async for item in super().run(replace(job, options={**job.options, "deployment": deployment})):
            yield item


class TestVirtual(LoadGeneratorConformance):
    # of a server that is really there: what reaches it, how it fails, and the clock that both share
    test_times_are_epoch_and_in_order = None
    test_a_closed_loop_keeps_its_concurrency = None
    test_ready_is_when_it_was_free_to_go = None
    test_failures_are_rows_with_their_class = None
    test_a_server_that_is_gone_is_a_failure_of_each_request = None
    test_time_limits = None
    test_what_is_in_flight_at_the_end_of_the_drain_is_cancelled = None
    test_completions_take_text_and_token_ids = None
    test_the_body_is_the_workload_and_the_users_parameters = None
    test_a_conversation_goes_on_with_the_answers = None
    test_an_api_key_is_used_and_left_nowhere = None
    test_its_numbers_are_the_servers = None
    # there is no client that could be late, and no part of a schedule: it says so
    test_progress_is_told_every_second = None
    test_a_shard_sends_its_own_part = None

    @pytest.fixture
    def generator(self) -> LoadGenerator:
        return _Deployed()

    @pytest.fixture
    def endpoint(self) -> Endpoint:
        return Endpoint("virtual://simulator", "exact")
