"""/metrics, written one metric at a time so that no token waits for a whole page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from .http import Connection


class _One(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


class Scrape:
    """One answer to a scrape."""

    def __init__(self, connection: Connection, registry: CollectorRegistry) -> None:
        self._connection = connection
        self._metrics: Iterator[Metric] = iter(registry.collect())
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def start(self) -> None:
        self._connection.answering = self
        self._next()

    def client_gone(self) -> None:
        self._metrics = iter(())

    def _next(self) -> None:
        metric = next(self._metrics, None)
        if metric is not None:
            self._parts.append(generate_latest(_One(metric)))
            self._loop.call_later(0, self._next)
        elif not self._connection.transport.is_closing():
            self._connection.reply(200, b"".join(self._parts), kind=CONTENT_TYPE_LATEST)
