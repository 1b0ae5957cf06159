"""Metrics pages scraped from a real server, and what happens where there are none."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llm_d_benchmark.collect.api import CollectJob, Collector
from llm_d_benchmark.collect.host import HostCollector
from llm_d_benchmark.collect.run import collecting
from llm_d_benchmark.collect.scrape import ScrapeCollector
from llm_d_benchmark.domain.endpoint import Endpoint, Secret
from llm_d_benchmark.domain.events import Finding
from llm_d_benchmark.domain.samples import Samples, SeriesKind

PAGE = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} %d
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{model_name="m"} %d
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.1"} 1
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 2
vllm:time_to_first_token_seconds_count 2
vllm:time_to_first_token_seconds_sum 0.25
# TYPE broken gauge
broken NaN
"""


def usual(count: int) -> str:
    return PAGE % (count, 100 * count)


class Page:
    """A /metrics page; ``status``, ``zipped``, ``ahead_s`` may be changed; ``seen`` are the headers of its requests.

    Args:
        text: the page at its n-th request, from 1.
    """

    def __init__(self, text: Callable[[int], str] = usual) -> None:
        self.status, self.zipped, self.count, self.ahead_s = 200, False, 0, 0
        self.seen: list[dict[str, str]] = []
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.count += 1
                page.seen.append(dict(self.headers))
                body = text(page.count).encode()
                self.send_response(page.status)
                if page.zipped:
                    body = gzip.compress(body)
                    self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                self.wfile.write(body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(int(time.time()) + page.ahead_s)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.base}/metrics"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.server.shutdown()
    page.server.server_close()


def collect(endpoint: Endpoint, *collectors: Collector, seconds: float = 0.5) -> tuple[Samples, list[Finding], float]:
    """What they gave, and the epoch time at which they were told to stop."""
    kept: list[Samples] = []
    told: list[Finding] = []
    stopped = 0.0

    async def keep(samples: Samples) -> None:
        kept.append(samples)

    async def go() -> float:
        offset = time.time_ns() - time.monotonic_ns()
        job = CollectJob(endpoint, asyncio.Event(), offset, Path(), interval_s=0.1)
        async with collecting(collectors, job, keep, told.append):
            await asyncio.sleep(seconds)
            return time.time()

    stopped = asyncio.run(go())
    return Samples.concat(kept), told, stopped


@pytest.mark.parametrize("zipped", [False, True])
def test_a_page_becomes_series_with_kinds_and_covers_the_end(page: Page, zipped: bool) -> None:
    page.zipped = zipped
    samples, told, stopped = collect(Endpoint(page.base), ScrapeCollector([page.url]))
    assert not told
    by_name = {(s.metric, dict(s.labels).get("le")): i for i, s in enumerate(samples.series)}
    running = by_name["vllm:num_requests_running", None]
    assert samples.series[running].kind is SeriesKind.GAUGE
    assert dict(samples.series[running].labels) == {"engine": "0", "model_name": "m"}
    times, values = samples.of(running)
    assert values.tolist() == [float(k + 1) for k in range(page.count)]
    assert times[-1] / 1e9 >= stopped  # a last scrape after the end
    assert samples.series[by_name["vllm:prompt_tokens_total", None]].kind is SeriesKind.COUNTER
    assert samples.series[by_name["vllm:time_to_first_token_seconds_bucket", "+Inf"]].kind is SeriesKind.COUNTER
    assert ("broken", None) not in by_name
    offset, uncertainty = (
        samples.of(by_name[f"clock_offset_{what}seconds", None])[1][-1] for what in ("", "uncertainty_")
    )
    assert abs(offset) <= uncertainty <= 1.01  # the page's clock is ours


def test_a_page_whose_clock_is_wrong_is_seen_to_be(page: Page) -> None:
    page.ahead_s = 100
    samples, _, _ = collect(Endpoint(page.base), ScrapeCollector([page.url]))
    values = {s.metric: samples.of(i)[1][-1] for i, s in enumerate(samples.series)}
    assert abs(values["clock_offset_seconds"] - 100) <= values["clock_offset_uncertainty_seconds"] <= 1.01


def test_the_key_goes_to_the_server_itself_and_nowhere_else(page: Page) -> None:
    collect(Endpoint(page.base, api_key=Secret("k")), ScrapeCollector([page.url]), seconds=0.05)
    assert page.seen[-1]["Authorization"] == "Bearer k"
    collect(Endpoint("http://example.invalid", api_key=Secret("k")), ScrapeCollector([page.url]), seconds=0.05)
    assert "Authorization" not in page.seen[-1]


def test_a_page_that_fails_is_said_once_and_left_alone(page: Page) -> None:
    page.status = 503
    samples, told, _ = collect(Endpoint(page.base), ScrapeCollector([page.url]), seconds=1.0)
    assert not len(samples)
    assert [f.code for f in told] == ["metrics_not_scraped"] * 2
    assert "503" in told[0].message
    assert "left alone" in told[1].message
    assert page.count == 5


def test_a_guessed_page_that_is_not_there_is_no_finding(page: Page) -> None:
    page.status = 404
    samples, told, _ = collect(Endpoint(page.base), ScrapeCollector([page.url], quiet=True))
    assert not len(samples)
    assert not told
    assert page.count == 1


def test_a_page_of_something_else_is_said() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "PAGE", "<html>%d %d</html>")
        page = Page()
        _, told, _ = collect(Endpoint(page.base), ScrapeCollector([page.url]), seconds=0.15)
        page.server.shutdown()
        page.server.server_close()
    assert "text format" in told[0].message


def test_a_collector_that_breaks_stops_nothing_else(page: Page) -> None:
    class Broken:
        name = "broken"
        last_s = 1.0

        async def collect(self, job: CollectJob):  # type: ignore[no-untyped-def]
            from llm_d_benchmark.collect.api import CollectError

            raise CollectError("no such device", "plug it in")
            yield

    samples, told, _ = collect(Endpoint(page.base), Broken(), ScrapeCollector([page.url]))
    assert len(samples)
    assert [(f.code, f.advice) for f in told] == [("collector_failed", "plug it in")]


def test_the_host_is_seen_and_its_totals_grow() -> None:
    burning = threading.Event()

    def burn() -> None:
        while not burning.is_set():
            sum(range(1000))

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        samples, _, _ = collect(Endpoint("http://127.0.0.1:1", pid=None), HostCollector(), seconds=0.6)
    finally:
        burning.set()
        thread.join()
    busy = [i for i, s in enumerate(samples.series) if s.metric == "cpu_busy_seconds_total"]
    used = sum(float(v[-1] - v[0]) for v in (samples.of(i)[1] for i in busy))
    assert used > 0.2
    memory = [samples.of(i)[1] for i, s in enumerate(samples.series) if s.metric == "memory_used_bytes"]
    assert memory[0].min() > 0
