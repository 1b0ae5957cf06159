"""A whole simulated deployment in this process: its replicas, its router, and an endpoint for each."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from prometheus_client import CollectorRegistry

from ...config.secrets import resolve_variable
from ...config.simulator import SimulatorTargetConfig
from ...domain.endpoint import Secret
from ..fleet import build_engines
from ..profiles import Profile, load_profile
from ..profiles.profile import KEY
from .app import Service, Site
from .clock import Clock, monotonic_ns
from .dispatch import Delayed, Direct, Disaggregated, Dispatcher, Routed
from .http import Connection
from .replica import Replica
from .router_metrics import RouterMetrics
from .sockets import url_of


@asynccontextmanager
async def serving(
    config: SimulatorTargetConfig, profile: Profile, sockets: Sequence[socket.socket], api_key: Secret | None
) -> AsyncIterator[None]:
    """The deployment, answering on these sockets: the router on the first, replica i on the one after i others."""
    loop = asyncio.get_running_loop()
    service = Service(
        config, model=profile.model, max_model_len=profile.max_model_len, api_key=api_key,
        ready_at=monotonic_ns() + round(config.startup_time / config.speed * 1e9),
    )  # fmt: skip
    clock = Clock(config.speed)
    replicas = _replicas(config, profile, clock, loop)
    router = RouterMetrics(profile.model, replicas, service.ready_at)
    async with AsyncExitStack() as stack:
        dispatcher: Dispatcher
        if config.disaggregation is None:
            dispatcher = Routed(config, replicas, router, config.seed)
        else:
            dispatcher = Disaggregated(
                config, config.disaggregation, replicas, router, kv_bytes_per_token=profile.kv_bytes_per_token,
                clock=clock, loop=loop,
            )  # fmt: skip
            stack.callback(dispatcher.transfers.close)

        def after_overhead(takes: Dispatcher) -> Dispatcher:
            if not profile.request_overhead:
                return takes
            delayed = Delayed(takes, profile.request_overhead / config.speed, loop)
            stack.callback(delayed.arrivals.close)
            return delayed

        sites = [Site(service, after_overhead(dispatcher), _registry(router), router)]
        limit = config.failures.max_queue
        sites += [
            Site(service, after_overhead(Direct(replica, limit)), _registry(replica.metrics)) for replica in replicas
        ]
        for replica in replicas:
            stack.callback(replica.close)
        for site, at in zip(sites, sockets, strict=True):
            server = await loop.create_server(_factory(site), sock=at)
            stack.callback(server.close)
        yield


def run(
    config: SimulatorTargetConfig,
    sockets: Sequence[socket.socket],
    *,
    host: str = "127.0.0.1",
    say: Callable[[str], object] = print,
) -> None:
    """Serve until SIGINT or SIGTERM, on an event loop of this thread's own.

    Args:
        say: takes lines that tell where it listens, and when it has stopped.

    Raises:
        ConfigError: the profile does not fit, or the variable with the key is not set.
    """
    import uvloop

    profile = load_profile(config)
    api_key = resolve_variable(config.api_key_env, f"{KEY}.api_key_env")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    router, *replicas = [url_of(host, one.getsockname()[1]) for one in sockets]
    lines = [
        f"{profile.model} as {profile.name}: {config.replicas} replica(s) of {config.tensor_parallel_size} GPU(s), "
        f"{profile.num_gpu_blocks(config)} KV blocks of {config.block_size} tokens each, up to "
        f"{profile.max_model_len} tokens a request",
        f"router    {router}/v1  policy {config.router.policy}, metrics {router}/metrics",
        *(f"replica {k} {url}/v1  metrics {url}/metrics" for k, url in enumerate(replicas)),
    ]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(config, profile, sockets, api_key, lambda: say("\n".join(lines))))


async def _until_signal(
    config: SimulatorTargetConfig,
    profile: Profile,
    sockets: Sequence[socket.socket],
    api_key: Secret | None,
    ready: Callable[[], object],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(config, profile, sockets, api_key):
        # What has been made until now stays; collecting over it would hold tokens up.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 1000)
        ready()
        await stop.wait()


def _replicas(
    config: SimulatorTargetConfig, profile: Profile, clock: Clock, loop: asyncio.AbstractEventLoop
) -> list[Replica]:
    cache_config = {
        "block_size": str(config.block_size),
        "num_gpu_blocks": str(profile.num_gpu_blocks(config)),
        "gpu_memory_utilization": str(config.gpu_memory_utilization),
        "enable_prefix_caching": str(config.enable_prefix_caching),
    }
    prefill = config.disaggregation.prefill_replicas if config.disaggregation else config.replicas
    return [
        Replica(
            number, engine, clock, loop, model=profile.model, max_model_len=profile.max_model_len,
            cache_config=cache_config, receives=number >= prefill,
        )
        for number, engine in enumerate(build_engines(config, profile))
    ]  # fmt: skip


def _registry(collector: RouterMetrics | object) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)  # type: ignore[arg-type]
    return registry


def _factory(site: Site) -> type[Connection]:
    return lambda: Connection(site)  # type: ignore[return-value]
