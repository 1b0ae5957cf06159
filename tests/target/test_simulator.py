from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.config.target import TargetConfig
from llm_d_benchmark.domain.errors import ConfigError, TargetError
from llm_d_benchmark.simulator.server.sockets import close, listen
from llm_d_benchmark.target.api import Target, TargetContext
from llm_d_benchmark.target.http import Http
from llm_d_benchmark.target.local import server_cores
from llm_d_benchmark.target.registry import create_target
from llm_d_benchmark.target.simulator import SimulatorTarget
from llm_d_benchmark.testing.target import TargetConformance


class TestSimulator(TargetConformance):
    @pytest.fixture
    def target(self, monkeypatch: pytest.MonkeyPatch) -> Target:
        monkeypatch.setenv("SIMULATOR_KEY", "a-secret-key")
        return SimulatorTarget(SimulatorTargetConfig(replicas=2, speed=20, api_key_env="SIMULATOR_KEY"))


def test_the_word_is_enough() -> None:
    assert isinstance(create_target(TargetConfig.model_validate("simulator")), SimulatorTarget)


def test_the_plan_says_what_would_run() -> None:
    plan = SimulatorTarget(SimulatorTargetConfig(replicas=3, num_gpu_blocks=1000, port=9000)).plan()
    assert plan["url"] == "http://127.0.0.1:9000"
    assert plan["profile"] == "llama-3.1-8b/h100"
    assert (plan["replicas"], plan["num_gpu_blocks"], plan["max_model_len"]) == (3, 1000, 16000)


def test_an_unknown_profile_is_a_mistake_of_configuration() -> None:
    with pytest.raises(ConfigError, match=r"spec\.target\.simulator\.profile.*did you mean 'h100'"):
        SimulatorTarget(SimulatorTargetConfig(profile="llama-3.1-8b/h1000"))


async def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SIMULATOR_KEY", raising=False)
    with pytest.raises(ConfigError, match="SIMULATOR_KEY"):
        async with SimulatorTarget(SimulatorTargetConfig(api_key_env="SIMULATOR_KEY")).open(TargetContext(tmp_path)):
            pass


async def test_a_taken_port_is_said(tmp_path: Path) -> None:
    free, taken = listen("127.0.0.1", None, 2)
    port = taken.getsockname()[1]
    close([free])
    with pytest.raises(TargetError, match=f"port {port} of") as caught:
        async with SimulatorTarget(SimulatorTargetConfig(port=port - 1)).open(TargetContext(tmp_path)):
            pass
    close([taken])
    assert "ports from" in str(caught.value.advice)


async def test_the_endpoint_is_the_router_and_tells_of_the_replicas(tmp_path: Path) -> None:
    target = SimulatorTarget(SimulatorTargetConfig(replicas=2, startup_time=10, speed=20))
    async with target.open(TargetContext(tmp_path)) as endpoint:
        info = endpoint.info
        assert endpoint.model == "meta-llama/Llama-3.1-8B-Instruct"
        assert info["max_model_len"] == 131072
        assert info["simulated"] is True
        assert len(info["replica_urls"]) == 2  # type: ignore[arg-type]
        assert endpoint.pid is not None
        if cores := server_cores():
            assert psutil.Process(endpoint.pid).cpu_affinity() == cores
            assert set(cores) < os.sched_getaffinity(0)
        async with Http(endpoint) as http:
            assert "llm_d_epp_ready_endpoints" in (await http.get("/metrics")).text
        for url in info["replica_urls"]:  # type: ignore[attr-defined]
            async with Http(type(endpoint)(url)) as http:
                assert "vllm:num_requests_running" in (await http.get("/metrics")).text
