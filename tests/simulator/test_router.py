from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from llm_d_benchmark.config.simulator import RouterConfig
from llm_d_benchmark.simulator.api import EngineRequest
from llm_d_benchmark.simulator.router import Router
from tests.support.simulator import request, small_engine


@dataclass
class Fake:
    """A replica in a given state."""

    waiting: int = 0
    running: int = 0
    usage: float = 0.0
    cached: int = 0

    def kv_usage(self) -> float:
        return self.usage

    def cached_prefix(self, _: EngineRequest) -> int:
        return self.cached


def ask(number: int = 0, session: str | None = None) -> EngineRequest:
    return EngineRequest(number, 100, 10, session=session)


def test_round_robin_takes_turns() -> None:
    router = Router(RouterConfig(policy="round_robin"))
    assert [router.pick(ask(), [Fake(), Fake(), Fake()]) for _ in range(5)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("policy", "replicas", "chosen"),
    [
        ("least_requests", [Fake(1, 3), Fake(0, 3), Fake(2, 2)], 1),
        ("least_kv", [Fake(usage=0.5), Fake(usage=0.2, running=9), Fake(usage=0.3)], 1),
        ("least_kv", [Fake(usage=0.2, running=9), Fake(usage=0.2, running=1)], 1),
        ("prefix_aware", [Fake(cached=16), Fake(cached=64, running=50), Fake()], 1),
        ("prefix_aware", [Fake(cached=64, running=2), Fake(cached=64, running=1)], 1),
        # queue 1 + kv 1 + prefix 0 against queue 0 + kv 0.9 + prefix 2 * 0.8
        ("weighted", [Fake(), Fake(waiting=5, usage=0.1, cached=80)], 1),
        ("weighted", [Fake(), Fake(waiting=5, usage=0.1, cached=50)], 0),
    ],
)
def test_policies(policy: str, replicas: list[Fake], chosen: int) -> None:
    assert Router(RouterConfig(policy=policy)).pick(ask(), replicas) == chosen


def test_weights_change_the_choice() -> None:
    replicas = [Fake(), Fake(waiting=5, usage=0.1, cached=50)]
    assert Router(RouterConfig(prefix_cache_weight=5)).pick(ask(), replicas) == 1


def test_a_session_keeps_its_replica_and_sessions_spread() -> None:
    router, replicas = Router(RouterConfig(policy="session_affinity")), [Fake() for _ in range(4)]
    first = {s: router.pick(ask(s, f"s{s}"), replicas) for s in range(400)}
    again = {s: router.pick(ask(1000 + s, f"s{s}"), replicas) for s in range(400)}
    assert first == again
    assert min(Counter(first.values()).values()) > 60


@pytest.mark.parametrize("policy", ["random", "least_requests", "weighted"])
def test_equal_replicas_are_drawn_from_the_seed(policy: str) -> None:
    replicas = [Fake() for _ in range(3)]

    def picks(seed: int) -> list[int]:
        router = Router(RouterConfig(policy=policy), seed)
        return [router.pick(ask(), replicas) for _ in range(300)]

    assert picks(1) == picks(1) != picks(2)
    assert min(Counter(picks(1)).values()) > 60


def test_an_engine_answers_what_a_router_asks() -> None:
    engines = [small_engine(), small_engine()]
    engines[1].submit(request(1, 16, 2, prefix=3), 0.0)
    engines[1].step(0.0)
    assert Router(RouterConfig(policy="prefix_aware")).pick(request(2, 20, 1, prefix=3), engines) == 1
    assert Router(RouterConfig(policy="least_kv")).pick(request(2, 20, 1, prefix=3), engines) == 0
