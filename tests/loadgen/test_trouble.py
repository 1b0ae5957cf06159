"""No request is lost, whatever the server, the user or the kernel does."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trustme

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint, Secret, Tls
from llm_d_benchmark.domain.errors import BenchmarkError, ConfigError, GeneratorError
from llm_d_benchmark.domain.events import EventType, Severity
from llm_d_benchmark.domain.records import MISSING, Records, Status
from llm_d_benchmark.domain.schedule import Session, Shard, Stage
from llm_d_benchmark.loadgen.native.body import request_head
from llm_d_benchmark.loadgen.native.generator import NativeLoadGenerator
from llm_d_benchmark.loadgen.native.roundtrip import idle_round_trip
from tests.loadgen.fakes import Ran, Sessions, Stages, closed, collect, make_job, open_loop, run
from tests.support.openai_server import OpenAIServer

FAILING = ("http_500", "http_429", "cut", "cut_clean", "garbage", "garbage_http", "error_event", "refuse", "redirect")
FINE = ("ok", "split", "crlf", "gzip", "close_after_each", "until_close", "coalesced", "null_delta", "drop_idle")


def adds_up(ran: Ran) -> None:
    """sent = ok + failed + cancelled, each request once, each failure with its class, times in order."""
    r = ran.records
    ids = r.ints("request_id").tolist()
    assert len(set(ids)) == len(ids)
    assert sum(r.labels("status").counts().values()) == len(r)
    for status, error in zip(ran.labels("status"), ran.labels("error_class"), strict=True):
        assert (status == "failed") == (error is not None)
    assert (r.ints("sent") != MISSING).all()
    assert (r.ints("sent") <= r.ints("end")).all()
    assert sum(i["sent"] for i in ran.of(EventType.INTERVAL)) == len(r)
    totals = [sum(i[k] for i in ran.of(EventType.INTERVAL)) for k in ("succeeded", "failed", "cancelled")]
    assert totals == [ran.count(s) for s in (Status.OK, Status.FAILED, Status.CANCELLED)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stop_after", [None, 0.7])
def test_chaos_loses_nothing(seed: int, stop_after: float | None) -> None:
    rng = random.Random(seed)
    said: list[str] = []

    def behaviour(_: int) -> str:
        said.append(rng.choice(FAILING) if rng.random() < 0.2 else rng.choice(FINE))
        return said[-1]

    count = 300 if stop_after is None else 5000
    stage = closed(12, num_requests=count) if seed % 2 else open_loop(200, cap=20, num_requests=count)
    with OpenAIServer(ttft=0.005, itl=0.003, behaviour=behaviour, seed=seed) as server:
        config = {"workers": 2, "native": {"receiver": "python" if seed == 1 else "auto"}}
        ran = run(server, stage, stop_after=stop_after, config=config)
    adds_up(ran)
    if stop_after is None:
        assert len(ran.records) == 300
        assert ran.count(Status.CANCELLED) == 0
        failures = Counter(s for s in said if s in FAILING)
        # A refused request on a reused connection is sent once more, so its fate is drawn again; one whose connection
        # a busy machine drops late is not, and failed.
        most = failures["refuse"] + failures["garbage_http"]
        assert -said.count("drop_idle") <= sum(failures.values()) - ran.count(Status.FAILED) <= most
        assert ran.count(Status.FAILED) > 30
    else:
        assert ran.of(EventType.STAGE_END)[0]["reason"] == "interrupted"


def test_stop_cancels_at_once_and_keeps_what_was_measured() -> None:
    with OpenAIServer(ttft=0.05, itl=0.02) as server:
        turn = Sessions().turns[0]
        long = Sessions(turns=(type(turn)("a", output_asked=500),))
        began = time.monotonic()
        ran = run(server, closed(10, duration_s=60.0), sessions=long, stop_after=1.5)
        assert time.monotonic() - began < 4
    adds_up(ran)
    assert ran.count(Status.CANCELLED) == len(ran.records) == 10
    assert (ran.records.ragged("chunk_times").lengths > 5).all()


def test_stop_before_the_start_ends_quietly() -> None:
    with OpenAIServer() as server:
        ran = run(server, closed(2, num_requests=5), stop_after=1.5, start_at=time.time_ns() + 30_000_000_000)
        assert len(ran.records) == 0
        assert server.inference == []


def test_what_the_drain_does_not_see_the_end_of_is_cancelled() -> None:
    with OpenAIServer(behaviour="stall") as server:
        ran = run(server, open_loop(10, duration_s=0.5), options={"drain_s": 0.3})
    adds_up(ran)
    assert ran.labels("status") == ["cancelled"] * 5


def test_a_workload_that_fails_under_way_ends_the_stage_and_loses_nothing() -> None:
    class Broken(Sessions):
        def sessions(self, stage: Stage) -> Iterator[Session]:
            yield from super().sessions(stage)
            raise ConfigError("data.jsonl:4501: no prompt")

    async def go(server: OpenAIServer) -> Ran:
        job = make_job(server, Stages(closed(50, duration_s=60.0)), Broken(count=4500), Path(), config={"workers": 2})
        return await collect(NativeLoadGenerator().run(job))

    with OpenAIServer(ttft=0.05) as server:
        ran = asyncio.run(go(server))
        seen = len([r for r in server.inference if r.body["stream"]])
    assert isinstance(ran.error, ConfigError)
    adds_up(ran)
    assert 0 < seen <= len(ran.records)
    assert ran.count(Status.CANCELLED) > 0
    assert ran.of(EventType.STAGE_END)[0]["reason"] == "interrupted"


def test_a_killed_worker_is_an_error_after_what_was_received() -> None:
    async def go(server: OpenAIServer) -> Ran:
        job = make_job(server, Stages(closed(8, duration_s=30.0)), Sessions(), Path(), config={"workers": 2})

        def kill_one(item: object) -> None:
            if isinstance(item, Records):
                children = psutil.Process().children()
                os.kill(children[0].pid, signal.SIGKILL)

        return await collect(NativeLoadGenerator().run(job), kill_one)

    with OpenAIServer() as server:
        ran = asyncio.run(go(server))
    assert isinstance(ran.error, GeneratorError)
    assert "worker" in ran.error.message
    assert len(ran.records) > 0
    assert [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE] == []


def test_a_dead_port_fails_every_request_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ran = run(Endpoint(f"http://127.0.0.1:{port}", "m"), open_loop(50, num_requests=20))
    adds_up(ran)
    assert set(ran.labels("error_class")) == {"connect"}
    assert (ran.records.ints("connect") == MISSING).all()
    assert asyncio.run(idle_round_trip(Endpoint(f"http://127.0.0.1:{port}", "m"))) is None


def test_a_connection_that_never_comes_times_out() -> None:
    """A listener whose queue is full and which accepts nobody."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        time.sleep(0.1)
        endpoint = Endpoint(f"http://127.0.0.1:{full.getsockname()[1]}", "m")
        ran = run(endpoint, closed(1, num_requests=1), config={"timeouts": {"connect": 0.3}})
        for filler in fillers:
            filler.close()
    assert ran.labels("error_class") == ["timeout_connect"]


def test_key_headers_and_base_path_reach_the_server_and_nothing_else() -> None:
    key = Secret("sk-very-secret")
    with OpenAIServer(api_key="sk-very-secret", base_path="/serving/llm") as server:
        endpoint = Endpoint(server.url, server.model, api_key=key, headers={"X-Tenant": Secret("blue")})
        ran = run(endpoint, closed(1, num_requests=2))
        assert ran.labels("status") == ["ok", "ok"]
        assert server.inference[0].headers["x-tenant"] == "blue"
        assert "secret" not in repr(ran.events) + repr(ran.records)
        ran = run(Endpoint(server.url, server.model), closed(1, num_requests=1))
        assert ran.labels("error_class") == ["http_4xx"]
        rtt = asyncio.run(idle_round_trip(endpoint))
        assert rtt is not None
        assert 0 < rtt < 0.5


def test_tls_with_a_ca_file_without_and_unverified(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with OpenAIServer(ssl_context=context) as server:
        for tls, expected in (
            (Tls(ca_file=str(tmp_path / "ca.pem")), None),
            (Tls(verify=False), None),
            (Tls(), "tls"),
        ):
            ran = run(Endpoint(server.url, server.model, tls=tls), closed(1, num_requests=2))
            assert ran.labels("error_class") == [expected] * 2
        with pytest.raises(BenchmarkError, match=r"missing\.pem"):
            run(
                Endpoint(server.url, server.model, tls=Tls(ca_file=str(tmp_path / "missing.pem"))),
                closed(1, num_requests=1),
            )


def test_a_header_of_ones_own_replaces_the_default_in_any_case() -> None:
    head = request_head(Endpoint("http://h:1", "m", headers={"user-agent": "mine", "HOST": "other"}), "/v1/x")
    assert [head.lower().count(name) for name in (b"user-agent:", b"host:")] == [1, 1]
    assert b"\r\nHOST: other\r\n" in head


def test_headers_with_line_breaks_are_refused() -> None:
    with OpenAIServer() as server, pytest.raises(ConfigError, match="line break"):
        run(Endpoint(server.url, server.model, headers={"X": "a\r\nb"}), closed(1, num_requests=1))


def test_answers_longer_than_their_times_can_be_kept_are_refused() -> None:
    check = NativeLoadGenerator().check
    assert check(LoadConfig.model_validate({"timeouts": {"total": "35m"}})) == []
    [found] = check(LoadConfig.model_validate({"timeouts": {"total": "2h"}}))
    assert (found.severity, found.code) == (Severity.ERROR, "native_total_timeout")


def test_a_load_too_small_for_its_shards_is_a_configuration_error() -> None:
    with OpenAIServer() as server, pytest.raises(ConfigError, match="shards"):
        run(server, closed(2, num_requests=9), shard=Shard(2, 3))
