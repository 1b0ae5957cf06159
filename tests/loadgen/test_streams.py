"""What real servers send, taken apart correctly; what is wrong, put in its class."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from llm_d_benchmark.domain.records import MISSING, RECORD_COLUMNS, Status
from tests.loadgen.fakes import Ran, Sessions, closed, open_loop, run
from tests.support.openai_server import CHAT_OVERHEAD, OpenAIServer

SOUND = (
    "ok", "no_done", "no_usage", "gzip", "deflate", "split", "coalesced", "crlf", "comments", "multi_line", "role_only",
    "null_delta", "reasoning", "tool_calls", "continue_100", "close_after_each", "until_close",
)  # fmt: skip
BROKEN = {
    "http_500": "http_5xx", "http_400": "http_4xx", "http_429": "http_429", "cut": "truncated",
    "cut_clean": "truncated", "garbage": "protocol", "garbage_http": "protocol", "error_event": "server_error_event",
    "error_event_plain": "server_error_event", "redirect": "redirect", "empty": "no_content",
    "stall": "timeout_first_token", "stall_half": "timeout_total", "refuse": "connect",
}  # fmt: skip
TIMEOUTS = {"timeouts": {"first_token": 0.4, "total": 0.8}}


@pytest.fixture(scope="module")
def server():  # type: ignore[no-untyped-def]
    with OpenAIServer(ttft=0.005, itl=0.002) as running:
        yield running


def one_of(server: OpenAIServer, how: str, n: int = 3, endpoint: str = "chat", **more: object) -> Ran:
    server.requests.clear()
    server.behaviour = how
    stage = closed(1, num_requests=n, endpoint=endpoint, streaming=more.pop("streaming", True))
    return run(server, stage, config={**TIMEOUTS, **more.pop("config", {})}, **more)  # type: ignore[dict-item]


@pytest.mark.parametrize("how", SOUND)
def test_every_sound_stream_counts_its_tokens(server: OpenAIServer, how: str) -> None:
    ran = one_of(server, how)
    r = ran.records
    assert ran.labels("status") == ["ok"] * 3
    assert r.ragged("chunk_times").lengths.tolist() == [4, 4, 4]
    assert r.ints("output_tokens").tolist() == [4, 4, 4]
    assert ran.labels("output_source") == ["chunks" if how == "no_usage" else "usage"] * 3
    assert ran.labels("finish_reason") == ["length"] * 3
    expected = MISSING if how == "no_usage" else 3 + CHAT_OVERHEAD
    assert r.ints("input_tokens").tolist() == [expected] * 3
    assert ran.labels("input_source") == [None if how == "no_usage" else "usage"] * 3
    assert r.ragged("chunk_tokens").lengths.tolist() == [0, 0, 0]
    assert r.ints("http_status").tolist() == [200] * 3


@pytest.mark.parametrize("how", ["ok", "split", "crlf", "gzip", "null_delta", "comments"])
def test_times_are_those_of_the_server(server: OpenAIServer, how: str) -> None:
    """The server keeps its own truth: chunk k left it at sent[k]; the client saw it some milliseconds later."""
    ran = one_of(server, how)
    offset = time.time_ns() - time.monotonic_ns()
    for i, request in enumerate(sorted(server.inference, key=lambda q: q.received)):
        row = int(np.argsort(ran.records.ints("sent"))[i])
        times = ran.records.ints("sent")[row] + ran.records.ragged("chunk_times").row(row).astype(np.int64) * 1000
        late = times - offset - np.asarray(request.sent)
        assert (late > -2_000_000).all(), late
        assert np.median(late) < 10_000_000, late


@pytest.mark.parametrize(("how", "error"), BROKEN.items())
def test_every_broken_answer_gets_its_class(server: OpenAIServer, how: str, error: str) -> None:
    ran = one_of(server, how, n=2)
    assert ran.labels("status") == ["failed"] * 2
    assert ran.labels("error_class") == [error] * 2
    for message in ran.labels("error"):
        assert message
        assert len(message) < 160
        assert "three" not in message
        assert "wörd" not in message
    if how in ("cut", "stall_half", "error_event"):  # what came before the failure is kept
        assert ran.records.ragged("chunk_times").lengths.tolist() == [2, 2]


def test_usage_in_every_chunk_gives_tokens_per_chunk() -> None:
    with OpenAIServer(usage="every", ttft=0.005) as server:
        server.behaviour = "multi_token"
        turn = Sessions().turns[0]
        many = Sessions(turns=(type(turn)("a b", output_asked=8),))
        ran = run(server, closed(1, num_requests=2), sessions=many)
    assert [ran.records.ragged("chunk_tokens").row(i).tolist() for i in range(2)] == [[3, 3, 2]] * 2
    assert ran.records.ints("output_tokens").tolist() == [8, 8]
    assert ran.records.ragged("chunk_times").lengths.tolist() == [3, 3]


@pytest.fixture(scope="module")
def a_word_is_a_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizers = pytest.importorskip("tokenizers", reason="the [tokenizers] extra is not installed")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize("streaming", [True, False])
def test_without_usage_a_local_tokenizer_counts_the_answer(a_word_is_a_token: Path, streaming: bool) -> None:
    with OpenAIServer(usage="none", ttft=0.005) as server:
        server.behaviour = "multi_token"
        ran = one_of(server, "multi_token", tokenizer=a_word_is_a_token, streaming=streaming)
    assert ran.records.ints("output_tokens").tolist() == [4] * 3
    assert ran.labels("output_source") == ["tokenizer"] * 3
    if streaming:
        assert ran.records.ragged("chunk_times").lengths.tolist() == [2] * 3


def test_reasoning_counts_but_a_tool_call_cannot_be_counted(a_word_is_a_token: Path) -> None:
    with OpenAIServer(usage="none", ttft=0.005) as server:
        assert one_of(server, "reasoning", tokenizer=a_word_is_a_token).labels("output_source") == ["tokenizer"] * 3
        assert one_of(server, "tool_calls", tokenizer=a_word_is_a_token).labels("output_source") == ["chunks"] * 3


def test_multi_token_chunks_without_usage_count_as_chunks(server: OpenAIServer) -> None:
    ran = one_of(server, "multi_token")
    assert ran.records.ints("output_tokens").tolist() == [4] * 3
    assert ran.records.ragged("chunk_times").lengths.tolist() == [2] * 3


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("streaming", [True, False])
def test_both_apis_streamed_and_not(server: OpenAIServer, endpoint: str, streaming: bool) -> None:
    ran = one_of(server, "ok", endpoint=endpoint, streaming=streaming)
    r = ran.records
    assert ran.labels("status") == ["ok"] * 3
    assert r.ints("output_tokens").tolist() == [4] * 3
    assert r.bools("streaming").tolist() == [streaming] * 3
    if streaming:
        assert (r.ints("first_token") > r.ints("sent")).all()
        assert (r.ints("end") >= r.ints("last_token")).all()
    else:
        assert (r.ints("first_token") == MISSING).all()
        assert r.ragged("chunk_times").lengths.tolist() == [0] * 3
    body = server.inference[0].body
    assert ("messages" in body) == (endpoint == "chat")
    assert body["max_tokens"] == 4
    assert body["stream"] is streaming
    assert (body.get("stream_options") == {"include_usage": True}) == streaming


@pytest.mark.parametrize(
    ("how", "error"), [("garbage", "protocol"), ("cut", "truncated"), ("error_event", "server_error_event"),
                       ("stall", "timeout_total")],
)  # fmt: skip
def test_unstreamed_failures_have_their_class_too(server: OpenAIServer, how: str, error: str) -> None:
    ran = one_of(server, how, n=2, streaming=False)
    assert ran.labels("error_class") == [error] * 2


def test_token_ids_and_parameters_reach_the_server(server: OpenAIServer) -> None:
    turn = type(Sessions().turns[0])((5, 6, 7), 3, 4, params={"stop": ["x"]})
    ran = one_of(
        server, "ok", endpoint="completions", sessions=Sessions(turns=(turn,)),
        config={"parameters": {"temperature": 0, "ignore_eos": True}},
    )  # fmt: skip
    body = server.inference[0].body
    assert body["prompt"] == [5, 6, 7]
    assert (body["temperature"], body["ignore_eos"], body["stop"], body["model"]) == (0, True, ["x"], "test-model")
    assert ran.records.ints("input_tokens").tolist() == [3] * 3
    assert ran.records.ints("input_asked").tolist() == [3] * 3


def test_cached_tokens_are_kept() -> None:
    with OpenAIServer(cached_tokens=2) as server:
        ran = run(server, closed(1, num_requests=2))
    assert ran.records.ints("cached_tokens").tolist() == [2, 2]


def test_an_idle_connection_that_the_server_closed_is_replaced_silently(server: OpenAIServer) -> None:
    """Every reused connection is dropped when its next request comes: one silent re-send, which is no retry."""
    ran = one_of(server, "drop_idle", n=4)
    assert ran.labels("status") == ["ok"] * 4
    assert ran.records.ints("attempts").tolist() == [1] * 4


@pytest.mark.parametrize("receiver", ["auto", "python"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_request_that_the_server_worked_on_is_not_sent_again(
    server: OpenAIServer, receiver: str, streaming: bool
) -> None:
    """The connection had been idle too, but its end does not cross with the request: it comes much later."""
    ran = one_of(server, "drop_late", n=3, streaming=streaming, config={"native": {"receiver": receiver}})
    assert ran.labels("status") == ["failed"] * 3
    assert ran.labels("error_class") == ["truncated"] * 3
    assert len([request for request in server.inference if request.behaviour == "drop_late"]) == 3


@pytest.mark.parametrize("receiver", ["auto", "python"])
def test_a_server_that_ends_idle_connections_costs_no_request(server: OpenAIServer, receiver: str) -> None:
    """It ends its side between two requests, and takes in without a word what comes after that."""
    server.behaviour = "leave_idle"
    config = {"timeouts": {"first_token": 10, "total": 10}, "native": {"receiver": receiver}}
    ran = run(server, open_loop(10, cap=1, num_requests=4), config=config)
    assert ran.labels("status") == ["ok"] * 4
    assert (ran.records.ints("end") - ran.records.ints("sent") < 5e9).all()
    assert ran.records.ints("attempts").tolist() == [1] * 4
    assert (ran.records.ints("connect")[1:] > 0).all()


def test_connections_are_reused_and_their_set_up_is_a_column(server: OpenAIServer) -> None:
    before = server.connections
    ran = one_of(server, "ok", n=20)
    assert server.connections - before == 1
    assert (ran.records.ints("connect") == MISSING).all()  # opened before the load began
    ran = one_of(server, "close_after_each", n=6)
    connect = ran.records.ints("connect")
    assert (connect[1:] > 0).any()


def test_retries_happen_only_where_asked_and_keep_the_first_sent(server: OpenAIServer) -> None:
    server.requests.clear()
    server._count = 0
    server.behaviour = lambda n: "http_429" if n % 2 == 0 else "ok"
    retries = {"retries": {"max": 2, "backoff": "300ms"}}
    began = time.monotonic()
    ran = run(server, closed(1, num_requests=2), config=retries)
    assert time.monotonic() - began < 3
    assert ran.labels("status") == ["ok", "ok"]
    assert ran.records.ints("attempts").tolist() == [2, 2]
    first = next(q for q in server.inference if q.behaviour == "http_429")
    sent = ran.records.ints("sent").min()
    assert abs(sent - (first.received + time.time_ns() - time.monotonic_ns())) < 50_000_000
    server.behaviour = "http_500"
    ran = run(server, closed(1, num_requests=1), config={"retries": {"max": 2, "backoff": 0}})
    assert (ran.labels("status"), ran.records.ints("attempts").tolist()) == (["failed"], [3])
    server.behaviour = "http_400"
    ran = run(server, closed(1, num_requests=1), config={"retries": {"max": 2, "backoff": 0}})
    assert ran.records.ints("attempts").tolist() == [1]


def test_retry_after_is_honoured() -> None:
    with OpenAIServer(retry_after="1", behaviour=lambda n: "http_429" if n == 0 else "ok") as server:
        ran = run(server, closed(1, num_requests=1), config={"retries": {"max": 1, "backoff": 0}})
        assert ran.labels("status") == ["ok"]
        first, second = server.inference
        assert second.received - first.received > 0.95e9


@pytest.mark.parametrize(
    "after", ["", "\u00b2", "-5", "1e3", "soon", "Wed, 99 Oct 2137 07:28:00 GMT", "Wed, 21 Oct 2015"]
)
def test_a_retry_after_that_says_nothing_is_passed_over(after: str) -> None:
    with OpenAIServer(retry_after=after, behaviour=lambda n: "http_429" if n == 0 else "ok") as server:
        ran = run(server, closed(1, num_requests=1), config={"retries": {"max": 1, "backoff": 0}})
    assert ran.labels("status") == ["ok"]
    assert ran.records.ints("attempts").tolist() == [2]


@pytest.mark.parametrize("receiver", ["auto", "python"])
@pytest.mark.parametrize(
    ("retry_after", "then", "error", "attempts"),
    [
        ("3600", "ok", "http_429", 1),
        ("9" * 400, "ok", "http_429", 1),
        ("Wed, 21 Oct 2137 07:28:00 GMT", "ok", "http_429", 1),
        ("1", "stall", "timeout_total", 2),
    ],
)
def test_the_total_limit_includes_the_wait_for_a_retry(
    receiver: str, retry_after: str, then: str, error: str, attempts: int
) -> None:
    config = {
        "timeouts": {"first_token": 1.5, "total": 1.5}, "retries": {"max": 1}, "native": {"receiver": receiver},
    }  # fmt: skip
    with OpenAIServer(retry_after=retry_after, behaviour=lambda n: "http_429" if n == 0 else then) as server:
        ran = run(server, closed(1, num_requests=1), config=config)
    assert ran.labels("error_class") == [error]
    assert ran.records.ints("attempts").tolist() == [attempts]
    assert (ran.records.ints("end") - ran.records.ints("sent") < 2e9).all()


def test_every_column_is_there_with_one_length(server: OpenAIServer, tmp_path: Path) -> None:
    ran = one_of(server, "ok", folder=tmp_path)
    assert set(ran.records.columns) == {c.name for c in RECORD_COLUMNS}
    assert {len(v) for v in ran.records.columns.values()} == {3}
    assert ran.count(Status.OK) == 3
