"""A simulated deployment on this machine: an inference server model behind the real HTTP API."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ..config.secrets import resolve_variable
from ..config.simulator import SimulatorTargetConfig
from ..domain.endpoint import Endpoint
from ..simulator.profiles import Profile, load_profile
from ..simulator.profiles.profile import KEY
from ..simulator.server.sockets import close, listen, url_of
from .api import TargetContext
from .attach import attach
from .child import ChildSpec, running
from .local import server_cores

HOST = "127.0.0.1"
READY_S = 60.0
STOP_S = 5.0


class SimulatorTarget:
    """Runs the simulator's server in a process of its own, away from the client's core; the endpoint is its router."""

    type = "simulator"

    def __init__(self, config: SimulatorTargetConfig) -> None:
        self._config = config
        self._profile = load_profile(config)

    def plan(self) -> Mapping[str, Any]:
        """The deployment: profile, address, and every knob."""
        return {"url": f"http://{HOST}:{self._config.port or '(free)'}", **self._knobs()}

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[Endpoint]:
        """Start, and stop at the end.

        Raises:
            TargetError: its ports are taken, or it did not get ready.
            ConfigError: the variable with the key is not set.
        """
        return self._open(context)

    @asynccontextmanager
    async def _open(self, context: TargetContext) -> AsyncIterator[Endpoint]:
        config = self._config
        key = resolve_variable(config.api_key_env, f"{KEY}.api_key_env")
        ports = _ports(config)
        settings = config.model_copy(update={"port": ports[0]}).model_dump(mode="json")
        options = {"host": HOST, "cores": server_cores(), "config": settings}
        spec = ChildSpec(
            command=[sys.executable, "-m", "llm_d_benchmark.simulator.server", json.dumps(options)],
            log=context.log_dir / "server.log",
            ready_timeout=READY_S + config.startup_time / config.speed,
            stop_timeout=STOP_S,
        )
        router, *replicas = [url_of(HOST, port) for port in ports]
        facts = {
            "type": self.type,
            "simulated": True,
            "replica_urls": replicas,
            "router_metrics_url": f"{router}/metrics",
            "metrics_urls": [f"{url}/metrics" for url in replicas],
            **self._knobs(),
        }
        async with running(spec, Endpoint(url=router, model=self._profile.model, api_key=key)) as endpoint:
            yield await attach(endpoint, facts)

    def _knobs(self) -> dict[str, Any]:
        return {**self._config.model_dump(mode="json", exclude_none=True), **_facts(self._profile, self._config)}


def _facts(profile: Profile, config: SimulatorTargetConfig) -> dict[str, Any]:
    return {
        "model": profile.model,
        "hardware": profile.hardware,
        "profile_source": profile.source,
        "max_model_len": profile.max_model_len,
        "gpus": config.gpus,
        "num_gpu_blocks": profile.num_gpu_blocks(config),
        "cores": server_cores(),
    }


def _ports(config: SimulatorTargetConfig) -> list[int]:
    """The router's port and the replicas', which are free at this moment."""
    sockets = listen(HOST, config.port, 1 + config.replicas)
    ports = [int(one.getsockname()[1]) for one in sockets]
    close(sockets)
    return ports
