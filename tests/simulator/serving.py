"""A simulated deployment in this process, for tests: ``async with serving_at(config) as urls``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client.parser import text_string_to_metric_families

from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint, Secret
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.simulator.server.serve import serving
from llm_d_benchmark.simulator.server.sockets import listen, url_of
from llm_d_benchmark.target.http import Http

KEY = "a-secret-key"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@asynccontextmanager
async def deployed(*, key: str | None = None, **config: object) -> AsyncIterator[list[Endpoint]]:
    """The router's endpoint and each replica's."""
    settings = SimulatorTargetConfig.model_validate(config)
    profile = load_profile(settings)
    sockets = listen("127.0.0.1", None, 1 + settings.replicas)
    secret = None if key is None else Secret(key)
    async with serving(settings, profile, sockets, secret):
        urls = [url_of("127.0.0.1", s.getsockname()[1]) for s in sockets]
        yield [Endpoint(url, profile.model, api_key=secret) for url in urls]


async def scrape(endpoint: Endpoint) -> Samples:
    """Every sample of an endpoint's /metrics by name and labels."""
    async with Http(endpoint) as http:
        text = (await http.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum of the samples of a name that have these labels."""
    found = [v for (n, have), v in samples.items() if n == name and labels.items() <= dict(have).items()]
    assert found, f"no sample {name} {labels}"
    return sum(found)
