"""All collectors of a run, beside its load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from ..config.collectors import CollectorsConfig
from ..config.observe import ClusterMonitoring
from ..domain.endpoint import Endpoint
from ..domain.events import Finding, Severity
from ..domain.samples import Samples
from .api import CollectError, CollectJob, Collector
from .gpu import GpuCollector
from .host import HostCollector
from .log_patterns import patterns_of
from .logs import LogCollector
from .prometheus import PrometheusCollector, queries_of
from .scrape import ScrapeCollector

Keep = Callable[[Samples], Awaitable[None]]
Tell = Callable[[Finding], None]


def collectors_of(
    config: CollectorsConfig, endpoint: Endpoint, monitoring: ClusterMonitoring | None = None
) -> list[Collector]:
    """The collectors that a configuration asks for; ``monitoring`` names a Prometheus where ``config`` does not."""
    chosen: list[Collector] = [HostCollector()] if config.host else []
    if config.scrape is None:
        urls = _named(endpoint)
        chosen.append(ScrapeCollector(urls or [f"{endpoint.url}/metrics"], quiet=not urls))
    elif config.scrape:
        chosen.append(ScrapeCollector(config.scrape))
    prometheus = config.prometheus
    url = prometheus.url or (monitoring.prometheus_url if monitoring and monitoring.enabled else None)
    if url:
        chosen.append(PrometheusCollector(url, queries_of(prometheus), prometheus.ca_file))
    if config.gpu != "off":
        chosen.append(GpuCollector(config.gpu))
    if config.logs.enabled:
        chosen.append(LogCollector(config.logs.paths, patterns_of(config.logs.patterns)))
    return chosen


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
        await asyncio.gather(*(_ended(t, c.last_s) for t, c in zip(tasks, collectors, strict=True)))
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for collector, error in zip(collectors, ended, strict=True):
            if isinstance(error, asyncio.CancelledError):
                tell(_degraded(collector, f"it did not end within {collector.last_s:g} s of the load", None))
            elif isinstance(error, BaseException):
                raise error


async def _ended(task: asyncio.Task[None], limit_s: float) -> None:
    _, late = await asyncio.wait([task], timeout=limit_s)
    for one in late:
        one.cancel()


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
