"""A server's /metrics, scraped directly: one collector for all endpoints of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from ..domain.events import Finding, Severity
from ..domain.samples import Samples, Series
from .api import LAST_S, CollectError, CollectJob, ticks
from .clock import ClockOffset, by_date
from .fetch import Fetcher

TIMEOUT_S = 5.0
GIVE_UP = 5
"""Failures in a row after which an endpoint is left alone."""


class ScrapeCollector:
    """Scrapes every URL once an interval. A sample's time is the middle of its request.

    Args:
        urls: metrics endpoints.
        quiet: these were only guessed: one that has no metrics is no finding.
    """

    name = "scrape"
    last_s = LAST_S

    def __init__(self, urls: Sequence[str], *, quiet: bool = False) -> None:
        self._urls = list(urls)
        self._quiet = quiet
        self._clocks: dict[str, ClockOffset] = {}

    async def collect(self, job: CollectJob) -> AsyncIterator[Samples | Finding]:
        failures = dict.fromkeys(self._urls, 0)
        answered: set[str] = set()
        fetcher = Fetcher(job.endpoint)
        async for _ in ticks(job):
            open_ = [u for u in self._urls if failures[u] < GIVE_UP]
            if not open_:
                return
            found = await asyncio.gather(*(self._scrape(u, job, fetcher) for u in open_))
            for url, result in zip(open_, found, strict=True):
                if isinstance(result, Samples):
                    failures[url] = 0
                    answered.add(url)
                    yield result
                    continue
                failures[url] += 1
                if not answered and self._quiet and failures[url] == 1:
                    failures[url] = GIVE_UP
                elif failures[url] in (1, GIVE_UP):
                    yield _failed(result, gave_up=failures[url] == GIVE_UP)

    async def _scrape(self, url: str, job: CollectJob, fetcher: Fetcher) -> Samples | CollectError:
        try:
            answer = await fetcher.get(url, TIMEOUT_S)
        except CollectError as error:
            return error
        now = (answer.began + answer.ended) // 2 + job.clock_offset
        clock = by_date(answer, job.clock_offset)
        if clock is not None:
            self._clocks[url] = clock = clock.and_(self._clocks.get(url))
        try:
            # parsing thousands of lines would hold up the event loop, and with it the records
            return await asyncio.to_thread(_parse, answer.body, url, now, clock)
        except ValueError:
            return CollectError(f"{url} is not in Prometheus' text format", "is this a /metrics page?")


def _parse(body: bytes, url: str, now: int, clock: ClockOffset | None) -> Samples:
    from .exposition import parse_exposition  # not before it is needed: a short run starts sooner

    rows: list[tuple[int, Series, float]] = [
        (now, s, v) for s, v in parse_exposition(body.decode("utf-8", "replace"), url)
    ]
    return Samples.from_rows([*rows, *(clock.rows(url, now) if clock and rows else ())])


def _failed(error: CollectError, *, gave_up: bool) -> Finding:
    what = "; it is left alone from here on" if gave_up else ""
    return Finding(
        "metrics_not_scraped",
        Severity.WARNING,
        f"{error.message}{what}; the result has gaps in this server's own metrics",
        error.advice or "check spec.collectors.scrape, or set it to [] to do without",
    )
