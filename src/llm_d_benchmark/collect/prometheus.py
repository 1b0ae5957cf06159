"""A Prometheus server's series over the run's time, fetched in ranges of bounded length."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

import numpy as np

from ..config.collectors import PrometheusConfig
from ..config.secrets import resolve_headers, resolve_secret
from ..domain.endpoint import Endpoint, Secret, Tls
from ..domain.events import Finding, Severity
from ..domain.samples import Samples
from .api import CollectError, CollectJob
from .clock import ClockOffset
from .prometheus_api import PrometheusApi, Range

KEY = "spec.collectors.prometheus"
RANGE_S = 120.0
"""Seconds of one request; what is asked at once bounds the memory."""
LEAD_S = 120.0
"""Samples from before the run: totals can only be differenced from a sample before the window on."""
SETTLE_S = 5.0
"""Samples are asked for so long after they were scraped: Prometheus may still be writing them."""
PATIENCE_S = 75.0
"""Longest wait for a scrape after the load's end; Prometheus' default is one a minute."""
POLL_S = 1.0

_VLLM = (
    "num_requests_(?:running|waiting)|kv_cache_usage_perc|gpu_cache_usage_perc|num_preemptions_total|"
    "(?:gpu_)?prefix_cache_(?:hits|queries)_total|prompt_tokens_total|generation_tokens_total|request_success_total|"
    "iteration_tokens_total_(?:sum|count)|time_to_first_token_seconds_(?:sum|count)|"
    "(?:e2e_request_latency|request_(?:queue|prefill|decode)_time)_seconds_(?:sum|count)"
)
_NODE = (
    "cpu_seconds_total|memory_MemAvailable_bytes|memory_MemTotal_bytes|"
    "network_(?:receive|transmit)_bytes_total|disk_(?:read|written)_bytes_total"
)
_CONTAINER = "cpu_usage_seconds_total|memory_working_set_bytes|network_(?:receive|transmit)_bytes_total"
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "vllm": f"vllm:(?:{_VLLM})",
        "router": "inference_pool_.+|llm_d_epp_(?:flow_control_.+|request_running)",
        "gpu": "DCGM_FI_DEV_(?:GPU_UTIL|FB_USED|FB_FREE|POWER_USAGE|GPU_TEMP)",
        "containers": f"container_(?:{_CONTAINER})",
        "nodes": f"node_(?:{_NODE})",
    }
)
"""Name -> pattern of the metrics that are asked for where a configuration names no queries."""


def queries_of(config: PrometheusConfig) -> dict[str, str]:
    """Name -> PromQL."""
    if config.queries is not None:
        return dict(config.queries)
    more = "".join(f',{name}="{_quoted(value)}"' for name, value in config.labels.items())
    return {name: f'{{__name__=~"{_quoted(pattern)}"{more}}}' for name, pattern in DEFAULTS.items()}


def server_of(url: str, config: PrometheusConfig) -> Endpoint:
    """The Prometheus at ``url`` with the credentials of ``config``.

    Raises:
        ConfigError: a variable or file that holds a secret is not there.
    """
    headers = resolve_headers(config.headers, f"{KEY}.headers")
    if config.username is not None and config.password is not None:
        pair = f"{config.username}:{resolve_secret(config.password, f'{KEY}.password').reveal()}"
        headers["Authorization"] = Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")
    token = None if config.bearer_token is None else resolve_secret(config.bearer_token, f"{KEY}.bearer_token")
    return Endpoint(url, api_key=token, headers=headers, tls=Tls(config.verify_tls, config.ca_file))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class PrometheusCollector:
    """Series of source ``prometheus URL`` with their labels, times corrected to our clock.

    Args:
        server: where it answers, with its own credentials.
        queries: name -> PromQL; the name is that of a series whose answer carries none.
    """

    name = "prometheus"
    last_s = PATIENCE_S + 45.0

    def __init__(self, server: Endpoint, queries: Mapping[str, str]) -> None:
        self._server = server
        self._url = server.url
        self._queries = dict(queries)
        self._newest: dict[str, int] = {}
        self._spacing: dict[str, float] = {}

    async def collect(self, job: CollectJob) -> AsyncIterator[Samples | Finding]:
        api = PrometheusApi(self._server, job.clock_offset)
        began, upto, said = _now(job) - LEAD_S, 0.0, False
        clock: ClockOffset | None = None
        while True:
            over, ended = job.stop.is_set(), _now(job)
            try:
                if clock is None:
                    await api.learn_types()
                    clock = await api.clock()
                    upto = began + clock.middle
                clock = (await api.clock()).and_(clock)
                yield Samples.from_rows(clock.rows(api.source, int(ended * 1e9)))
                ready = ended - SETTLE_S + clock.middle
                while ready - upto >= (job.interval_s if over else RANGE_S):
                    # a whole number of steps, so that an expression's times are on one grid
                    end = upto + min(ready - upto, RANGE_S) // job.interval_s * job.interval_s
                    async for item in self._fetch(api, Range(upto, end, job.interval_s), clock):
                        yield item
                    upto = end
                if over:
                    async for item in self._last(api, upto, ended, job, clock):
                        yield item
                    return
            except CollectError as error:
                if over or error.final:
                    raise
                if not said:
                    yield _not_reached(error)
                said = True
            await _set(job.stop, RANGE_S)

    async def _last(
        self, api: PrometheusApi, upto: float, ended: float, job: CollectJob, clock: ClockOffset
    ) -> AsyncIterator[Samples | Finding]:
        """The rest, up to a sample of every query that was scraped after the load's end."""
        kept = dict(self._newest)
        patience = min(PATIENCE_S, max([2 * s for s in self._spacing.values()], default=0.0) + SETTLE_S)
        late: list[str] = []
        items: list[Samples | Finding] = []
        while True:
            self._newest = dict(kept)
            span = Range(upto, _now(job) + clock.middle, job.interval_s)
            items = [i async for i in self._fetch(api, span, clock)]
            late = [name for name in self._newest if self._newest[name] < ended * 1e9]
            if not late or _now(job) - ended > patience or job.hurry.is_set():
                break
            await _set(job.hurry, POLL_S)
        for item in items:
            yield item
        if not self._newest:
            yield Finding(
                "prometheus_empty",
                Severity.WARNING,
                f"{self._url} has no series for any query over the time of the run",
                "check that it scrapes the server, and spec.collectors.prometheus.queries and labels",
            )
        elif late:
            what = f"{self._url} scraped nothing more for {', '.join(late)}"
            if job.hurry.is_set():
                text, advice = f"{what} before the run was interrupted; it was not waited for", None
            else:
                text, advice = f"{what} within {patience:.0f} s of the load's end", "see whether its targets are up"
            yield Finding("prometheus_late", Severity.WARNING, f"{text}: the last window is not covered", advice)

    async def _fetch(self, api: PrometheusApi, span: Range, clock: ClockOffset) -> AsyncIterator[Samples | Finding]:
        """Every query over a range. One that is refused is left out from there on."""
        for name, query in list(self._queries.items()):
            try:
                samples = await api.samples(name, query, span, clock)
            except CollectError as error:
                if not error.final:
                    raise
                del self._queries[name]
                yield Finding("prometheus_query", Severity.WARNING, error.message, error.advice)
                continue
            if len(samples):
                self._newest[name] = int(samples.times.max())
                self._spacing[name] = max(self._spacing.get(name, 0.0), _spacing(samples))
                yield samples


def _spacing(samples: Samples) -> float:
    """Seconds between two samples of a series, as usual among those of the first series."""
    times = samples.of(int(samples.codes[0]))[0]
    return float(np.median(np.diff(times))) / 1e9 if len(times) > 1 else 0.0


def _now(job: CollectJob) -> float:
    return (time.monotonic_ns() + job.clock_offset) / 1e9


async def _set(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return


def _not_reached(error: CollectError) -> Finding:
    return Finding(
        "prometheus_unreachable",
        Severity.WARNING,
        f"{error.message}; it is asked again",
        error.advice or "check spec.collectors.prometheus.url (inside a cluster: kubectl port-forward)",
    )
