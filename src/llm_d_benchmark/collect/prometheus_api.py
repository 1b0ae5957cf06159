"""Prometheus' HTTP API: queries over a time range, to samples by our clock."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
import numpy as np

from ..config.secrets import said_by
from ..domain.endpoint import Endpoint
from ..domain.samples import Samples, Series, SeriesKind
from .api import CollectError
from .clock import ClockOffset, by_time
from .fetch import Answer, Fetcher

T = TypeVar("T")
TIMEOUT_S = 20.0
PROBES = 5
MAX_SERIES = 5000
ACCESS = (
    "set spec.collectors.prometheus.bearer_token, or username and password, or headers, each secret as {env: NAME} or "
    "{file: PATH}"
)
_MATCHERS = r"\{(?:[^\"{}]|\"(?:\\.|[^\"\\])*\")*\}"
_SELECTOR = re.compile(rf"[a-zA-Z_:][\w:]*(?:{_MATCHERS})?|{_MATCHERS}")


class _Row(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class _Matrix(msgspec.Struct):
    result: list[_Row]


class _Found(msgspec.Struct):
    data: _Matrix


class _Scalar(msgspec.Struct):
    result: tuple[float, str]


class _Time(msgspec.Struct):
    data: _Scalar


class _Meta(msgspec.Struct):
    type: str = "unknown"


class _Refusal(msgspec.Struct):
    error: str


class _Metadata(msgspec.Struct):
    data: dict[str, list[_Meta]]


def is_selector(query: str) -> bool:
    """Whether a query only selects series, so that their true samples can be had."""
    return _SELECTOR.fullmatch(query.strip()) is not None


@dataclass(frozen=True, slots=True)
class Range:
    """Epoch seconds by the server's clock; ``step`` between two samples of an expression."""

    start: float
    end: float
    step: float


class PrometheusApi:
    """One server. Its samples are of source ``prometheus URL``.

    Args:
        server: where it answers, with its own credentials: the key of the server under load is not for Prometheus.
        clock_offset: ns from the monotonic to the epoch clock.
    """

    def __init__(self, server: Endpoint, clock_offset: int) -> None:
        self.url = server.url.rstrip("/")
        self.source = f"prometheus {self.url}"
        self._clock_offset = clock_offset
        self._server = server
        self._fetcher = Fetcher(server)
        self._types: Mapping[str, str] = {}

    async def clock(self) -> ClockOffset:
        """Its clock against ours, from several readings of ``time()``.

        Raises:
            CollectError: it does not answer, or is no Prometheus.
        """
        found: ClockOffset | None = None
        for _ in range(PROBES):
            answer = await self._get("query", {"query": "time()"})
            value = float(self._decode(answer, _Time).data.result[1])
            found = by_time(value, answer, self._clock_offset).and_(found)
        assert found is not None
        return found

    async def learn_types(self) -> None:
        """Take over what it knows of its metrics' types; one that tells nothing leaves the naming convention."""
        try:
            known = self._decode(await self._get("metadata", {"limit_per_metric": "1"}), _Metadata).data
        except CollectError:
            return
        self._types = {name: entries[0].type for name, entries in known.items() if entries}

    async def samples(self, name: str, query: str, span: Range, clock: ClockOffset) -> Samples:
        """The samples in (start, end], times by our clock.

        Of a selector they are the scraped ones at the times of their scrapes; ``query_range`` would repeat each at
        every step for up to five minutes. Of an expression they are its values at every step.

        Raises:
            CollectError: no answer, a query that it refuses, or more than MAX_SERIES series.
        """
        try:
            rows = await self._rows(query, span)
        except CollectError as error:
            if error.status not in (400, 422):
                raise
            raise CollectError(
                f"Prometheus refused the query '{name}': {said_by(self._server, _reason(error.body))}",
                "check spec.collectors.prometheus.queries",
                final=True,
            ) from None
        if len(rows) > MAX_SERIES:
            raise CollectError(
                f"the query '{name}' has {len(rows)} series, more than {MAX_SERIES}",
                "narrow it with spec.collectors.prometheus.labels, for example {namespace: llm-d}",
                final=True,
            )
        return await asyncio.to_thread(self._samples, name, rows, span, clock.middle)

    async def _rows(self, query: str, span: Range) -> list[_Row]:
        if is_selector(query):
            seconds = max(1, math.ceil((span.end - span.start) * 1000))
            asked = {"query": f"{query.strip()}[{seconds}ms]", "time": f"{span.end:.3f}"}
            answer = await self._get("query", asked)
        else:
            asked = {"start": f"{span.start + span.step:.3f}", "end": f"{span.end:.3f}", "step": f"{span.step:g}"}
            answer = await self._get("query_range", {"query": query, **asked})
        return self._decode(answer, _Found).data.result

    def _samples(self, name: str, rows: list[_Row], span: Range, offset: float) -> Samples:
        times = np.asarray([t for row in rows for t, _ in row.values], np.float64)
        values = np.asarray([float(v) for row in rows for _, v in row.values], np.float64)
        codes = np.repeat(np.arange(len(rows), dtype=np.int32), [len(row.values) for row in rows])
        kept = np.isfinite(values) & (times > span.start)
        ours = np.rint((times - offset) * 1000).astype(np.int64) * 1_000_000
        return Samples(ours[kept], values[kept], codes[kept], tuple(self._series(name, r.metric) for r in rows))

    def _series(self, name: str, labels: Mapping[str, str]) -> Series:
        metric = labels.get("__name__")
        kept = tuple(sorted((k, v) for k, v in labels.items() if k != "__name__"))
        kind = SeriesKind.GAUGE if metric is None else self._kind(metric)
        return Series(self.source, metric or name, kept, kind)

    def _kind(self, metric: str) -> SeriesKind:
        """By the type that the server knows, else by the naming convention. What an expression makes is a level."""
        base, _, ending = metric.rpartition("_")
        of_base = self._types.get(base)
        if of_base in ("histogram", "summary") and ending in ("sum", "count", "bucket"):
            return SeriesKind.COUNTER
        known = self._types.get(metric) or (of_base if ending == "total" else None)
        if known in (None, "unknown", "untyped"):
            return SeriesKind.COUNTER if ending in ("total", "sum", "count", "bucket") else SeriesKind.GAUGE
        return SeriesKind.COUNTER if known == "counter" else SeriesKind.GAUGE

    async def _get(self, path: str, query: Mapping[str, str]) -> Answer:
        try:
            return await self._fetcher.get(f"{self.url}/api/v1/{path}?{urlencode(query)}", TIMEOUT_S)
        except CollectError as error:
            if error.status not in (401, 403):
                raise
            raise CollectError(f"{self.url} refused our credentials ({error.status})", ACCESS, final=True) from None

    def _decode(self, answer: Answer, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.MsgspecError:
            raise CollectError(f"{self.url} does not answer as Prometheus does", "check its URL") from None


def _reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except msgspec.MsgspecError:
        return "it gives no reason"
