"""All collectors of a run, beside its load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from ..config.collectors import CollectorsConfig
from ..config.model import BenchmarkConfig
from ..config.sources import prometheus_url, sources_of
from ..domain.endpoint import Endpoint
from ..domain.events import Finding, Severity
from ..domain.samples import Samples
from .api import HURRY_S, CollectError, CollectJob, Collector
from .gpu import GpuCollector
from .host import HostCollector
from .log_patterns import patterns_of
from .logs import LogCollector
from .prometheus import PrometheusCollector, queries_of, server_of
from .scrape import ScrapeCollector

Keep = Callable[[Samples], Awaitable[None]]
Tell = Callable[[Finding], None]


def collectors_of(config: BenchmarkConfig, endpoint: Endpoint) -> list[Collector]:
    """The collectors that a configuration asks for: ``spec.collectors``, and of those what
    ``spec.data_pipeline.collection.sources`` names, where it names any.

    Raises:
        ConfigError: a secret that a collector needs is not there.
    """
    wanted, own = sources_of(config), config.spec.collectors
    chosen: list[Collector] = [HostCollector()] if own.host and "system_metrics" in wanted else []
    if "prometheus_metrics" in wanted:
        chosen += _pages(own, endpoint)
        prometheus = prometheus_of(config)
        chosen += [] if prometheus is None else [PrometheusCollector(prometheus, queries_of(own.prometheus))]
    if own.gpu != "off" and "system_metrics" in wanted:
        chosen.append(GpuCollector(own.gpu))
    if own.logs.enabled and "application_logs" in wanted:
        chosen.append(LogCollector(own.logs.paths, patterns_of(own.logs.patterns)))
    return chosen


def prometheus_of(config: BenchmarkConfig) -> Endpoint | None:
    """The Prometheus server of a configuration with its credentials; None where it names none.

    Raises:
        ConfigError: a variable or file that holds a secret is not there.
    """
    url = prometheus_url(config)
    return None if url is None else server_of(url, config.spec.collectors.prometheus)


def _pages(config: CollectorsConfig, endpoint: Endpoint) -> list[Collector]:
    if config.scrape is None:
        urls = _named(endpoint)
        return [ScrapeCollector(urls or [f"{endpoint.url}/metrics"], quiet=not urls)]
    return [ScrapeCollector(config.scrape)] if config.scrape else []


def _named(endpoint: Endpoint) -> list[str]:
    """Pages of metrics that the target knows of: those of its replicas, and its router's."""
    replicas, router = endpoint.info.get("metrics_urls"), endpoint.info.get("router_metrics_url")
    urls = [str(u) for u in replicas] if isinstance(replicas, Sequence) and not isinstance(replicas, str) else []
    return urls + ([str(router)] if router else [])


@asynccontextmanager
async def collecting(collectors: Sequence[Collector], job: CollectJob, keep: Keep, tell: Tell) -> AsyncIterator[None]:
    """Collect while the context is open; at its end each takes its last samples.

    Raises:
        Whatever ``keep`` raises, at the end: a full disk concerns the run.
    """
    tasks = [asyncio.create_task(_collect(c, job, keep, tell)) for c in collectors]
    try:
        yield
    finally:
        job.stop.set()
        await asyncio.gather(*(_ended(t, c.last_s, job.hurry) for t, c in zip(tasks, collectors, strict=True)))
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for collector, error in zip(collectors, ended, strict=True):
            if isinstance(error, asyncio.CancelledError):
                tell(_degraded(collector, _too_late(collector, job), None))
            elif isinstance(error, BaseException):
                raise error


async def _ended(task: asyncio.Task[None], limit_s: float, hurry: asyncio.Event) -> None:
    """Wait for a collector's last samples, and not long once there is a hurry."""
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait([task, hurried], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    if hurry.is_set():
        await asyncio.wait([task], timeout=min(limit_s, HURRY_S))
    hurried.cancel()
    task.cancel()


def _too_late(collector: Collector, job: CollectJob) -> str:
    if job.hurry.is_set():
        return f"the run was interrupted, and it did not end within {min(collector.last_s, HURRY_S):g} s"
    return f"it did not end within {collector.last_s:g} s of the load"


async def _collect(collector: Collector, job: CollectJob, keep: Keep, tell: Tell) -> None:
    try:
        async for item in collector.collect(job):
            if isinstance(item, Samples):
                await keep(item)
            else:
                tell(item)
    except CollectError as error:
        tell(_degraded(collector, error.message, error.advice))


def _degraded(collector: Collector, reason: str, advice: str | None) -> Finding:
    return Finding(
        "collector_failed",
        Severity.WARNING,
        f"the collector '{collector.name}' gave up: {reason}; what it saw until then is kept",
        advice,
    )
