"""Series out of a real Prometheus server that scrapes a real page."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import trustme
from pydantic import ValidationError

from llm_d_benchmark.collect.api import CollectError, CollectJob
from llm_d_benchmark.collect.prometheus import DEFAULTS, PrometheusCollector, queries_of, server_of
from llm_d_benchmark.collect.prometheus_api import PrometheusApi, is_selector
from llm_d_benchmark.collect.run import collecting, collectors_of
from llm_d_benchmark.config.collectors import PrometheusConfig
from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.events import Finding
from llm_d_benchmark.domain.samples import Samples, SeriesKind
from tests.collect.prometheus_server import prometheus
from tests.collect.test_scrape import Page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.server.shutdown()
    page.server.server_close()


@pytest.fixture(scope="module")
def server(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), urlsplit(page.url).netloc) as url:
        yield url


def collect(
    collector: PrometheusCollector, seconds: float, ahead_s: float = 0.0, *, hurry: bool = False
) -> tuple[Samples, list[Finding], float]:
    """What it gave, and the epoch time of the stop, by a clock of ours that is ``ahead_s`` ahead."""
    kept: list[Samples] = []
    told: list[Finding] = []

    async def keep(samples: Samples) -> None:
        kept.append(samples)

    async def go() -> float:
        offset = time.time_ns() - time.monotonic_ns() + int(ahead_s * 1e9)
        job = CollectJob(Endpoint("http://127.0.0.1:1"), asyncio.Event(), offset, Path(), interval_s=0.5)
        async with collecting([collector], job, keep, told.append):
            await asyncio.sleep(seconds)
            if hurry:
                job.hurry.set()
            return (time.monotonic_ns() + offset) / 1e9

    stopped = asyncio.run(go())
    return Samples.concat(kept), told, stopped


def test_default_series_have_labels_kinds_true_times_and_cover_the_end(server: str) -> None:
    samples, told, stopped = collect(PrometheusCollector(Endpoint(server), queries_of(PrometheusConfig())), 2.0)
    assert told == []
    by_name = {s.metric: i for i, s in enumerate(samples.series)}
    running = samples.series[by_name["vllm:num_requests_running"]]
    assert running.kind is SeriesKind.GAUGE
    assert running.source == f"prometheus {server}"
    labels = dict(running.labels)
    assert (labels["model_name"], labels["namespace"], labels["job"]) == ("m", "bench", "model")
    assert "__name__" not in labels
    for counter in ("vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds_sum"):
        assert samples.series[by_name[counter]].kind is SeriesKind.COUNTER
    assert "broken" not in by_name
    times, values = samples.of(by_name["vllm:num_requests_running"])
    assert times[-1] / 1e9 >= stopped  # scraped after the end
    assert times[0] / 1e9 < stopped - 2.0  # and before the start, so that totals can be differenced
    assert np.all(np.diff(times) > 0)
    assert np.all(np.diff(values) > 0)  # a scrape each: none is repeated, none twice over two requests
    assert np.median(np.diff(times)) / 1e9 == pytest.approx(0.5, abs=0.1)


def test_times_are_by_our_clock_and_its_distance_is_kept(server: str) -> None:
    samples, _, stopped = collect(PrometheusCollector(Endpoint(server), {"up": "up"}), 0.3, ahead_s=100)
    values = {s.metric: samples.of(i)[1][-1] for i, s in enumerate(samples.series)}
    assert values["clock_offset_seconds"] == pytest.approx(-100, abs=0.1)
    assert 0 < values["clock_offset_uncertainty_seconds"] < 0.5
    up = next(i for i, s in enumerate(samples.series) if s.metric == "up")
    assert stopped <= samples.of(up)[0][-1] / 1e9 < stopped + 5


def test_an_expression_has_its_name_and_a_value_a_step(server: str) -> None:
    query = "sum by (namespace) (vllm:prompt_tokens_total) * 2"
    samples, told, stopped = collect(PrometheusCollector(Endpoint(server), {"twice": query}), 1.0)
    assert told == []
    index = next(i for i, s in enumerate(samples.series) if s.metric == "twice")
    assert samples.series[index].labels == (("namespace", "bench"),)
    assert samples.series[index].kind is SeriesKind.GAUGE
    times, values = samples.of(index)
    assert values[-1] % 200 == 0
    assert np.abs(np.diff(times) - 500_000_000).max() <= 1_000_000
    assert times[-1] / 1e9 >= stopped - 0.5


def test_a_query_that_is_refused_is_said_and_the_others_are_kept(server: str) -> None:
    samples, told, _ = collect(PrometheusCollector(Endpoint(server), {"bad": "sum(", "up": "up"}), 0.2)
    assert [f.code for f in told] == ["prometheus_query"]
    assert "'bad'" in told[0].message
    assert "parse error" in told[0].message
    assert "up" in {s.metric for s in samples.series}


def test_labels_narrow_the_default_queries_and_nothing_found_is_said(server: str) -> None:
    narrowed = queries_of(PrometheusConfig(labels={"namespace": 'no "such"'}))
    samples, told, _ = collect(PrometheusCollector(Endpoint(server), narrowed), 0.2)
    assert {s.metric for s in samples.series} == {"clock_offset_seconds", "clock_offset_uncertainty_seconds"}
    assert [f.code for f in told] == ["prometheus_empty"]
    kept, told, _ = collect(
        PrometheusCollector(Endpoint(server), queries_of(PrometheusConfig(labels={"namespace": "bench"}))), 0.2
    )
    assert not told
    assert "vllm:prompt_tokens_total" in {s.metric for s in kept.series}


def test_a_server_that_is_not_there_is_said_and_given_up_at_the_end() -> None:
    samples, told, _ = collect(PrometheusCollector(Endpoint("http://127.0.0.1:1"), dict(DEFAULTS)), 0.2)
    assert not len(samples)
    assert [f.code for f in told] == ["prometheus_unreachable", "collector_failed"]


def test_something_else_than_prometheus_is_said(page: Page) -> None:
    with pytest.raises(CollectError, match="does not answer as Prometheus does"):
        asyncio.run(PrometheusApi(Endpoint(page.base), 0).clock())


def test_a_target_that_is_gone_at_the_end_is_said(tmp_path: Path) -> None:
    page = Page()
    with prometheus(tmp_path, urlsplit(page.url).netloc) as url:
        stop = threading.Timer(1.0, lambda: (page.server.shutdown(), page.server.server_close()))
        stop.start()
        running = {"running": "vllm:num_requests_running"}
        _, told, _ = collect(PrometheusCollector(Endpoint(url), running), 2.0)
        stop.join()
        began = time.monotonic()
        _, in_a_hurry, _ = collect(PrometheusCollector(Endpoint(url), running), 0.1, hurry=True)
        assert time.monotonic() - began < 5
    assert [f.code for f in (*told, *in_a_hurry)] == ["prometheus_late", "prometheus_late"]
    assert "running" in told[0].message
    assert "before the run was interrupted" in in_a_hurry[0].message


@pytest.mark.parametrize(
    ("query", "selects"),
    [
        ("up", True),
        ("vllm:x_total", True),
        ('up{a="}",b=~"x{2}"}', True),
        ('{__name__=~"a.+"}', True),
        ("rate(up[1m])", False),
        ("up == 1", False),
        ("up[5m]", False),
        ('up{a="1"} + up{a="2"}', False),
    ],
)
def test_selectors_are_told_from_expressions(query: str, selects: bool) -> None:
    assert is_selector(query) is selects


def chosen(**spec: object) -> list[str]:
    config = load_config([], env={}, overrides={"spec": spec}).config
    return [c.name for c in collectors_of(config, Endpoint("http://h"))]


def test_the_mission_s_address_is_used_only_where_monitoring_is_enabled() -> None:
    def names(**monitoring: object) -> list[str]:
        return chosen(cluster={"monitoring": monitoring})

    assert "prometheus" in names(enabled=True, prometheus_url="http://p:9090")
    assert "prometheus" not in names(enabled=False, prometheus_url="http://p:9090")
    assert "prometheus" not in names(enabled=True)


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([], ["host", "scrape", "prometheus", "gpu", "logs"]),
        (["prometheus_metrics", "application_logs", "system_metrics", "load_generator_data"],
         ["host", "scrape", "prometheus", "gpu", "logs"]),
        (["system_metrics"], ["host", "gpu"]),
        (["prometheus_metrics"], ["scrape", "prometheus"]),
        (["application_logs", "load_generator_data"], ["logs"]),
        (["load_generator_data"], []),
    ],
)  # fmt: skip
def test_the_sources_of_the_data_pipeline_choose_the_collectors(sources: list[str], names: list[str]) -> None:
    pipeline = {"collection": {"sources": sources}}
    assert chosen(collectors={"prometheus": {"url": "http://p:9090"}}, data_pipeline=pipeline) == names


def test_a_token_and_headers_are_sent_and_a_secret_that_is_not_there_is_said(page: Page, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    access = PrometheusConfig(bearer_token={"file": str(tmp_path / "token")}, headers={"X-Scope-OrgID": "tenant"})
    with pytest.raises(CollectError):
        asyncio.run(PrometheusApi(server_of(page.base, access), 0).clock())
    # the page is scraped by Prometheus meanwhile
    ours = [h for h in ({k.lower(): v for k, v in seen.items()} for seen in list(page.seen)) if "x-scope-orgid" in h]
    assert {(h["authorization"], h["x-scope-orgid"]) for h in ours} == {("Bearer abc", "tenant")}
    with pytest.raises(ConfigError, match="NOT_SET"):
        server_of(page.base, PrometheusConfig(bearer_token={"env": "NOT_SET"}))


def test_an_https_server_is_verified_with_its_ca_file_or_not_at_all(tmp_path: Path) -> None:
    authority, files = trustme.CA(), {"right": tmp_path / "right.pem", "wrong": tmp_path / "wrong.pem"}
    authority.cert_pem.write_to_path(str(files["right"]))
    trustme.CA().cert_pem.write_to_path(str(files["wrong"]))

    with prometheus(tmp_path, None, authority=authority) as url:

        def ask(**access: Any) -> None:
            asyncio.run(PrometheusApi(server_of(url, PrometheusConfig(**access)), 0).clock())

        ask(ca_file=str(files["right"]))
        ask(verify_tls=False)
        untrusted = f"the certificate of {urlsplit(url).netloc} is not trusted"
        for access, reason in (
            ({"ca_file": str(files["wrong"])}, untrusted),
            ({}, untrusted),
            ({"ca_file": str(tmp_path / "none.pem")}, f"cannot be read from {tmp_path / 'none.pem'}: No such file"),
        ):
            with pytest.raises(CollectError, match=re.escape(reason)) as caught:
                ask(**access)
            assert "ca_file" in (caught.value.advice or "")
            assert caught.value.final


@pytest.mark.parametrize(
    "broken", [{"username": "u"}, {"username": "u", "password": {"env": "P"}, "bearer_token": {"env": "T"}}]
)
def test_credentials_that_do_not_fit_together_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"go together|give either"):
        PrometheusConfig.model_validate(broken)


def test_an_interrupted_run_does_not_wait_for_a_server_that_does_not_answer() -> None:
    told: list[Finding] = []

    async def keep(_: Samples) -> None: ...

    async def go(url: str) -> None:
        hurry = asyncio.Event()
        job = CollectJob(Endpoint("http://127.0.0.1:1"), asyncio.Event(), 0, Path(), hurry=hurry)
        async with collecting([PrometheusCollector(Endpoint(url), {"up": "up"})], job, keep, told.append):
            await asyncio.sleep(0.1)
            hurry.set()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        asyncio.run(go(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        took = time.monotonic() - began
    assert took < 10  # and not the 20 s that it would have had for its answer
    assert [f.code for f in told] == ["collector_failed"]
    assert "the run was interrupted" in told[0].message
