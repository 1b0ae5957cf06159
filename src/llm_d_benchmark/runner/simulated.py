"""The target of a run in virtual time: a deployment simulated in this process instead of a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ..config.load import Length
from ..config.model import BenchmarkConfig
from ..config.simulator import SimulatorTargetConfig
from ..domain.endpoint import Endpoint
from ..domain.errors import ConfigError
from ..domain.version import VERSION
from ..simulator.deployment import VirtualDeployment
from ..simulator.profiles import Profile, load_profile
from ..simulator.server.openai import mistaken
from ..simulator.tokens import MadePrompts, chat_overhead
from ..target.api import TargetContext
from ..workload.sizing import SizerReport

URL = "virtual://simulator"


class VirtualTarget:
    """What ``target.api.Target`` is to a server, to a simulated one in this process: nothing is started.

    Args:
        deployment: None for a plan only.
    """

    type = "simulator"

    def __init__(self, config: SimulatorTargetConfig, deployment: VirtualDeployment | None = None) -> None:
        self._config = config
        self._deployment = deployment
        self.profile = load_profile(config) if deployment is None else deployment.profile

    def plan(self) -> Mapping[str, Any]:
        return {"url": URL, **_facts(self._config, self.profile)}

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[Endpoint]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Endpoint]:
        assert self._deployment is not None
        self._deployment.start()
        facts = _facts(self._config, self.profile)
        server = f"llm-d-benchmark simulator {VERSION}"
        info = {"type": self.type, "server": server, "fingerprint": _fingerprint(facts), "simulated": True, **facts}
        yield Endpoint(URL, self.profile.model, info=info)


def sizer_report(endpoint: str) -> SizerReport:
    """Prompts for a simulated deployment; they need not ask it anything."""
    return SizerReport(MadePrompts(chat_overhead() if endpoint == "chat" else 0))


def _facts(config: SimulatorTargetConfig, profile: Profile) -> dict[str, Any]:
    return {
        "clock": "virtual",
        "gpus": config.gpus,
        **config.model_dump(mode="json", exclude_none=True, exclude={"port", "speed", "api_key_env"}),
        "model": profile.model,
        "hardware": profile.hardware,
        "profile_source": profile.source,
        "max_model_len": profile.max_model_len,
        "num_gpu_blocks": profile.num_gpu_blocks(config),
    }


def _fingerprint(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def check_requests(config: BenchmarkConfig, profile: Profile) -> None:
    """What the server would refuse every request of a load generator for.

    Raises:
        ConfigError: its shortest request does not fit the model's context, or a parameter has a wrong type.
    """
    for number, generator in enumerate(config.spec.benchmark.load_generators):
        for name, wrong in mistaken(generator.config.parameters):
            raise ConfigError(f"spec.benchmark.load_generators.{number}.config.parameters.{name}: {wrong}")
        asked = (generator.config.input_length, generator.config.output_length)
        shortest = [_shortest(length) for length in asked]
        if sum(shortest) > profile.max_model_len:
            raise ConfigError(
                f"{profile.bounded_by}: a request may have {profile.max_model_len} tokens, and the shortest of "
                f"spec.benchmark.load_generators.{number}.config has {shortest[0]} (input_length) + {shortest[1]} "
                "(output_length)",
                advice="ask for less, or allow more: max_model_len up to the model's, and a KV cache that holds it "
                "(num_gpu_blocks, gpu_memory_utilization, tensor_parallel_size)",
            )


def _shortest(length: Length | None) -> int:
    return 1 if length is None else length.value or length.min or 1
