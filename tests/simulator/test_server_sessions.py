"""How the router keeps a session on its replica: by the token that it gives, as llm-d does, or by the session id."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.schedule import Turn
from llm_d_benchmark.loadgen.native.generator import NativeLoadGenerator
from llm_d_benchmark.target.http import Http
from tests.loadgen.fakes import Sessions, Stages, closed, collect, make_job
from tests.simulator.serving import deployed, scrape, total

AFFINE: dict[str, Any] = {"speed": 50, "replicas": 4, "router": {"policy": "session_affinity"}}


async def token_of(router: Endpoint, headers: dict[str, str], **more: Any) -> str | None:
    """Ask for two tokens; the session token that comes with them."""
    async with Http(replace(router, headers=headers)) as http:
        reply = await http.post("/v1/completions", {"prompt": "x", "max_tokens": 2, **more})
    assert reply.ok, reply.text
    return reply.headers.get("X-Session-Token")


async def served(replicas: Sequence[Endpoint]) -> list[float]:
    return [total(await scrape(r), "vllm:request_success_total") for r in replicas]


async def test_an_answer_names_its_replica_and_the_next_request_goes_there() -> None:
    async with deployed(**AFFINE) as (router, *replicas):
        for k in range(4):
            before = await served(replicas)
            token = await token_of(router, {})
            assert token is not None
            for stream in (True, False):
                # another session's id and user: the token comes first
                headers = {"x-session-token": token, "x-session-id": f"s{k}{stream}"}
                assert await token_of(router, headers, stream=stream, user=f"u{k}{stream}") == token
            rose = [b - a for a, b in zip(before, await served(replicas), strict=True)]
            assert sorted(rose) == [0, 0, 0, 3]
            assert base64.b64decode(token).decode() == f"simulator/replica-{rose.index(3)}"


async def test_a_session_is_told_by_its_id_and_keeps_its_replica() -> None:
    async with deployed(**AFFINE) as (router, *_):
        for session in ("a", "b", "c"):
            tokens = {await token_of(router, {"x-session-id": session}, user=f"u{k}") for k in range(3)}
            assert len(tokens) == 1


async def test_a_token_that_names_no_replica_is_none() -> None:
    async with deployed(**AFFINE) as (router, *_):
        for strange in ("a", "cG9kL2E=", "=="):
            assert len({await token_of(router, {"x-session-token": strange}) for _ in range(12)}) > 1


async def test_only_the_router_gives_tokens_and_only_for_sessions() -> None:
    async with deployed(**AFFINE) as (_, replica, *_rest):
        assert await token_of(replica, {}) is None
    async with deployed(**{**AFFINE, "router": {"policy": "round_robin"}}) as (router, *replicas):
        token = base64.b64encode(b"simulator/replica-0").decode()
        assert [await token_of(router, {"x-session-token": token}) for _ in range(4)] == [None] * 4
        assert await served(replicas) == [1] * 4


async def test_where_prompts_are_computed_elsewhere_it_names_the_replica_that_answers() -> None:
    async with deployed(**AFFINE, disaggregation={"prefill_replicas": 2}) as (router, *_):
        token = await token_of(router, {}, stream=True)
        assert token is not None
        assert base64.b64decode(token) in (b"simulator/replica-2", b"simulator/replica-3")
        assert {await token_of(router, {"x-session-token": token}) for _ in range(6)} == {token}


@pytest.mark.parametrize("receiver", ["auto", "python"])
async def test_a_conversation_stays_on_its_replica_by_the_token_alone(
    receiver: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llm_d_benchmark.simulator.server.app.SESSION_ID", "x-sent-by-nobody")
    turns = tuple(Turn("one two three", output_asked=3) for _ in range(6))
    async with deployed(**AFFINE) as (router, *replicas):
        sessions = Sessions(turns=turns, count=3, model=str(router.model))
        config = {"native": {"receiver": receiver}}
        ran = await collect(
            NativeLoadGenerator().run(make_job(router, Stages(closed(3)), sessions, tmp_path, config=config))
        )
        counts = await served(replicas)
    assert ran.error is None
    assert ran.labels("status") == ["ok"] * 18
    assert sum(counts) == 18
    assert all(count % 6 == 0 for count in counts)
