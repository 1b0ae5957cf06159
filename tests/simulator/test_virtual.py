"""What a router sees of a replica in virtual time is what happened until now, however far its steps are planned."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.simulator import RouterConfig, RouterPolicy, SimulatorTargetConfig
from llm_d_benchmark.simulator.api import EngineRequest, FloatArray
from llm_d_benchmark.simulator.cluster import Ask, Cluster, Reply
from llm_d_benchmark.simulator.engine import Engine
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.simulator.progress import Progress
from llm_d_benchmark.simulator.router import Router
from llm_d_benchmark.simulator.virtual import VirtualLoop, VirtualReplica
from tests.support.simulator import request, small_engine

Row = tuple[float, int, int, int | None]
Routed = list[tuple[int, list[int], list[float], int, list[float]]]
"""By request: its replica, what each had of its prompt and of its cache in use, and its hits and token times."""


class Stepwise(Engine):
    """Plans one step at a time."""

    def begin(self, now: float, most: int = 1) -> FloatArray | None:
        return super().begin(now, min(most, 1))


def routed(rows: list[Row], policy: RouterPolicy, blocks: int, kind: type[Engine]) -> Routed:
    """What becomes of requests (arrival, prompt, output, prefix) at two replicas."""
    loop, router = VirtualLoop(), Router(RouterConfig(policy=policy), 1)
    parts = [small_engine(blocks=blocks) for _ in range(2)]
    replicas = [VirtualReplica(kind(e.limits, e._pace), loop, lambda _: None) for e in parts]
    seen: dict[int, tuple[int, list[int], list[float], Progress]] = {}

    def arrive(asked: EngineRequest) -> None:
        hits, used = [r.cached_prefix(asked) for r in replicas], [r.kv_usage() for r in replicas]
        number = router.pick(asked, replicas)
        seen[asked.request_id] = number, hits, used, replicas[number].submit(asked)

    for number, (at, prompt, output, prefix) in enumerate(rows):
        loop.at(at, arrive, request(number, prompt, output, prefix=prefix))
    while loop.run(10_000):
        pass
    return [
        (replica, hits, used, p.cached_tokens, [round(t, 9) for t in p.token_times])
        for replica, hits, used, p in (seen[number] for number in range(len(rows)))
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(1, 40), st.integers(1, 50), st.one_of(st.none(), st.integers(0, 2))),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from(["prefix_aware", "weighted", "least_kv"]),
    st.integers(23, 40),
)
def test_a_router_sees_the_same_in_ranges_and_in_single_steps(
    rows: list[Row], policy: RouterPolicy, blocks: int
) -> None:
    assert routed(rows, policy, blocks, Engine) == routed(rows, policy, blocks, Stepwise)


def test_blocks_that_a_long_answer_has_taken_until_now_are_no_hit() -> None:
    rows: list[Row] = [(0.0, 40, 1, 1), (0.05, 1, 1, None), (0.1, 4, 80, None), (0.45, 41, 1, 1)]
    *_, (_, hits, *_) = routed(rows, "round_robin", 24, Engine)
    assert hits == [24, 0]


def test_a_replica_is_sent_what_it_has_not_whatever_others_have() -> None:
    rules = {"prefill_replicas": 1, "transfer_bandwidth": 1e9}
    config = SimulatorTargetConfig(replicas=3, router={"policy": "round_robin"}, disaggregation=rules)
    loop, profile = VirtualLoop(), load_profile(config)
    cluster = Cluster(config, profile, loop)
    waits = []
    for _ in range(3):
        sent, replies = loop.now, list[Reply]()
        cluster.send(Ask(cluster.reader.made(7, 8001), profile.model, False, 2), replies.append)
        while loop.run(1000):
            pass
        waits.append(float(replies[0].times[0]) - sent)
    whole = 8001 * profile.kv_bytes_per_token / 1e9
    assert waits[0] > waits[1] > whole > waits[2]


def test_a_request_that_counts_tokens_has_no_fate_and_takes_none() -> None:
    """On both clocks alike: over HTTP clients send some before the load, and the load's requests fail as without."""

    def statuses(counting: int) -> list[int]:
        config = SimulatorTargetConfig(failures={"http_500_rate": 0.5})
        loop, profile = VirtualLoop(), load_profile(config)
        cluster, replies = Cluster(config, profile, loop), list[Reply]()
        plain = {"model": profile.model, "chat": False}
        asks = [Ask(cluster.reader.made(k, 20), **plain, max_tokens=1, streaming=False) for k in range(counting)]
        asks += [Ask(cluster.reader.made(k, 20), **plain, max_tokens=4, streaming=False) for k in range(20)]
        for ask in asks:
            cluster.send(ask, replies.append)
            while loop.run(1000):
                pass
        assert [r.status for r in replies[:counting]] == [200] * counting
        return [r.status for r in replies[counting:]]

    assert statuses(9) == statuses(0)
    assert set(statuses(0)) == {200, 500}


def test_requests_whose_cache_is_coming_wait_at_their_replica() -> None:
    """Prompts that are done in one step spread over the replicas that decode, and who leaves meanwhile is forgotten."""
    rules = {"prefill_replicas": 1, "transfer_latency": 1.0}
    config = SimulatorTargetConfig(replicas=3, router={"policy": "least_requests"}, disaggregation=rules)
    loop, profile = VirtualLoop(), load_profile(config)
    cluster, replies = Cluster(config, profile, loop), list[Reply]()
    sent = [cluster.send(Ask(cluster.reader.made(k, 20), profile.model, False, 4), replies.append) for k in range(6)]
    seen: list[list[int]] = []
    loop.at(0.5, lambda: seen.append([r.waiting for r in cluster.replicas]))
    loop.at(0.6, lambda: [cluster.cancel(exchange) for exchange in sent[:2] if exchange is not None])
    loop.at(3, lambda: seen.append([r.waiting for r in cluster.replicas]))
    while loop.run(1000):
        pass
    assert seen == [[0, 3, 3], [0, 0, 0]]
    assert [reply.status for reply in replies] == [200] * 4
