"""The OpenAI API as clients see it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.loadgen.native.decode import decode_stream
from llm_d_benchmark.simulator.server.tokenizer import Tokenizer
from llm_d_benchmark.target.http import Http
from tests.simulator.serving import KEY, deployed, scrape, total

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
FAST: dict[str, Any] = {"speed": 50}


async def post(endpoint: Endpoint, path: str, **body: Any) -> tuple[int, Any]:
    async with Http(endpoint) as http:
        reply = await http.post(path, body)
    return reply.status, reply.body


async def stream(endpoint: Endpoint, path: str, **body: Any) -> list[Any]:
    """The events of a stream, [DONE] included."""
    return [e if e == "[DONE]" else json.loads(e) async for e, _ in streamed(endpoint, path, **body)]


async def streamed(endpoint: Endpoint, path: str, **body: Any) -> AsyncIterator[tuple[str, float]]:
    """Each event of a stream and when it came, until the connection ends."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(request(path, {**body, "stream": True}))
        assert b" 200 " in await reader.readline()
        async for line in reader:
            if line.startswith(b"data: "):
                yield line.decode().removeprefix("data: ").rstrip(), time.monotonic()
    finally:
        writer.close()


async def raw(endpoint: Endpoint, data: bytes) -> bytes:
    """Everything a server sends until it closes."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


def request(path: str, body: dict[str, Any], *, close: bool = True) -> bytes:
    data = json.dumps(body).encode()
    end = "Connection: close\r\n" if close else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{end}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def test_models_version_and_health() -> None:
    async with deployed(**FAST) as (router, replica):
        for endpoint in (router, replica):
            async with Http(endpoint) as http:
                (model,) = (await http.get("/v1/models")).body["data"]
                assert (model["id"], model["max_model_len"]) == (MODEL, 131072)
                assert (await http.get("/health")).status == 200
                assert (await http.get("/version")).body["version"]
                assert (await http.get("/nowhere")).status == 404
                assert (await http.get("/v1/completions")).status == 405


async def test_a_completion_of_text_and_of_ids() -> None:
    async with deployed(**FAST) as (router, _):
        status, answer = await post(router, "/v1/completions", model=MODEL, prompt="one two three", max_tokens=5)
        assert status == 200
        assert answer["usage"] | {"prompt_tokens_details": 0} == {
            "prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8, "prompt_tokens_details": 0}  # fmt: skip
        assert answer["choices"][0]["finish_reason"] == "length"
        _, counted = await post(router, "/tokenize", prompt=answer["choices"][0]["text"])
        assert counted["count"] == 5
        status, answer = await post(router, "/v1/completions", prompt=[7, 8, 9, 10])
        assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (4, 16)


async def test_tokenize_and_usage_agree_and_detokenize_goes_back() -> None:
    text = "Hello, world!  Größe\tand (more)."
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
    async with deployed(**FAST) as (router, replica):
        _, tokens = await post(router, "/tokenize", prompt=text)
        assert (await post(replica, "/detokenize", tokens=tokens["tokens"]))[1] == {"prompt": text}
        _, answer = await post(router, "/v1/completions", prompt=text, max_tokens=1)
        assert answer["usage"]["prompt_tokens"] == tokens["count"]
        _, tokens = await post(replica, "/tokenize", messages=messages)
        _, answer = await post(router, "/v1/chat/completions", messages=messages, max_completion_tokens=2)
        assert answer["usage"]["prompt_tokens"] == tokens["count"]
        assert answer["choices"][0]["message"]["role"] == "assistant"


async def test_a_stream_has_one_event_a_token_and_usage_where_asked() -> None:
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    async with deployed(**FAST) as (router, _):
        role, *tokens, usage, done = await stream(
            router, "/v1/chat/completions", **chat, stream_options={"include_usage": True}
        )
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert len(tokens) == 4
        assert [t["choices"][0]["finish_reason"] for t in tokens] == [None, None, None, "length"]
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 4
        assert done == "[DONE]"
        _, *tokens, _, _ = await stream(
            router, "/v1/chat/completions", **chat,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
        )  # fmt: skip
        assert [t["usage"]["completion_tokens"] for t in tokens] == [1, 2, 3, 4]
        *tokens, done = await stream(router, "/v1/completions", prompt="hello", max_tokens=3)
        assert len(tokens) == 3
        assert all("stop_reason" in t["choices"][0] for t in tokens)  # as in vLLM; fmperf fails without
        text = "".join(t["choices"][0]["text"] for t in tokens)
        assert (await post(router, "/tokenize", prompt=text))[1]["count"] == 3
        (only, done) = await stream(router, "/v1/completions", prompt="hello", max_tokens=1)
        assert only["choices"][0]["finish_reason"] == "length"


async def test_streamed_and_whole_answers_are_the_same_text() -> None:
    async with deployed(**FAST) as (router, _):
        *tokens, _ = await stream(router, "/v1/completions", prompt="hello", max_tokens=600)
    async with deployed(**FAST) as (router, _):
        _, answer = await post(router, "/v1/completions", prompt="hello", max_tokens=600)
    assert "".join(t["choices"][0]["text"] for t in tokens) == answer["choices"][0]["text"]


async def test_a_stop_string_ends_the_answer_and_is_not_in_it() -> None:
    async with deployed(**FAST) as (router, _):
        _, answer = await post(router, "/v1/completions", prompt="hello", max_tokens=200)
        words = answer["choices"][0]["text"].split()
    stop = f"{words[20]} {words[21][:2]}"
    for streaming in (False, True):
        async with deployed(**FAST) as (router, _):
            ask: dict[str, Any] = {"prompt": "hello", "max_tokens": 200, "stop": [words[40], stop]}
            if streaming:
                *tokens, _ = await stream(router, "/v1/completions", **ask)
                text, last = "".join(t["choices"][0]["text"] for t in tokens), tokens[-1]["choices"][0]
                assert {t["choices"][0]["stop_reason"] for t in tokens[:-1]} == {None}
            else:
                _, answer = await post(router, "/v1/completions", **ask)
                last = answer["choices"][0]
                text = last["text"]
                assert answer["usage"]["completion_tokens"] == 22
            assert text.split() == words[:20]
            assert (last["finish_reason"], last["stop_reason"]) == ("stop", stop)


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("stop", [[], ["\n", " "]])
async def test_the_last_event_of_a_chat_has_the_stop_string_where_one_ended_it(usage: bool, stop: list[str]) -> None:
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stop": stop}
    if usage:
        chat["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    async with deployed(**FAST) as (router, _):
        events = await stream(router, "/v1/chat/completions", **chat)
        _, answer = await post(
            router, "/v1/chat/completions", **{k: v for k, v in chat.items() if k != "stream_options"}
        )
    *others, last = [e["choices"][0] for e in events[:-1] if e["choices"]]
    for choice in (last, answer["choices"][0]):
        assert (choice["finish_reason"], choice["stop_reason"]) == (("stop", " ") if stop else ("length", None))
    assert all(choice["finish_reason"] is None for choice in others)


async def test_answers_end_by_themselves_unless_told_not_to() -> None:
    async with deployed(**FAST, output_length=7) as (router, _):
        ask: dict[str, Any] = {"prompt": "hello", "max_tokens": 20}
        _, answer = await post(router, "/v1/completions", **ask)
        assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (7, "stop")
        _, answer = await post(router, "/v1/completions", **ask, ignore_eos=True)
        assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (20, "length")
        _, answer = await post(router, "/v1/completions", **ask, min_tokens=12)
        assert answer["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"prompt": "x", "model": "gpt-9"}, 404, "The model `gpt-9` does not exist."),
        ({"prompt": "x", "n": 2}, 400, "n and best_of must be 1"),
        ({"prompt": "x", "logprobs": 3}, 400, "log probabilities"),
        ({"prompt": "x", "logprobs": 0}, 400, "log probabilities"),
        ({"prompt": "x", "echo": True}, 400, "echo"),
        ({"prompt": ""}, 400, "must not be empty"),
        ({"prompt": ["a", "b"]}, 400, "several prompts"),
        ({"prompt": [3, -1]}, 400, "Token id -1 is out of vocabulary"),
        ({"prompt": [3, 2**64]}, 400, f"Token id {2**64} is out of vocabulary"),
        ({"prompt": "x", "max_tokens": 0}, 400, "at least 1"),
        ({"prompt": "x", "max_tokens": "many"}, 400, "max_tokens"),
        ({"prompt": "x", "min_tokens": 9, "max_tokens": 3}, 400, "min_tokens"),
        ({"prompt": "x", "stop": ""}, 400, "stop cannot contain an empty string"),
        ({"prompt": "x", "stream_options": {"include_usage": True}}, 400, "Stream options"),
        ({"prompt": " one two" * 600}, 400, "maximum context length is 1024 tokens. However, your request has 1200"),
        ({"prompt": "one two", "max_tokens": 1023}, 400, "is too large: 1023. This model's maximum context length"),
    ],
)
async def test_what_vllm_refuses_is_refused_in_its_form(body: dict[str, Any], status: int, message: str) -> None:
    async with deployed(**FAST, max_model_len=1024) as (router, _):
        found, answer = await post(router, "/v1/completions", **body)
        assert found == status
        assert message in answer["error"]["message"]
        assert answer["error"]["code"] == status
        seen = await scrape(router)
        assert total(seen, "llm_d_epp_request_error_total", error_code=str(status)) == 1
        assert total(seen, "llm_d_epp_request_running") == 0


async def test_a_key_is_asked_for() -> None:
    async with deployed(**FAST, key=KEY) as (router, _):
        assert (await post(router, "/v1/completions", prompt="x"))[0] == 200
        stranger = Endpoint(router.url)
        assert await post(stranger, "/v1/completions", prompt="x") == (401, {"error": "Unauthorized"})
        async with Http(stranger) as http:
            assert (await http.get("/health")).status == 200
            assert (await http.get("/v1/models")).status == 401


async def test_it_is_not_ready_before_its_startup_time() -> None:
    async with deployed(startup_time=1.0) as (router, _), Http(router) as http:
        assert (await http.get("/health")).status == 503
        assert (await post(router, "/v1/completions", prompt="x"))[0] == 503
        loading = await scrape(router)
        await asyncio.sleep(1.05)
        assert (await http.get("/health")).status == 200
        ready = await scrape(router)
    for name in ("llm_d_epp_ready_endpoints", "inference_pool_ready_pods"):
        assert [total(seen, name) for seen in (loading, ready)] == [0, 1]
    assert total(loading, "llm_d_epp_request_total") == 1
    assert total(loading, "llm_d_epp_request_error_total", error_code="503") == 1
    assert total(loading, "llm_d_epp_request_running") == 0


async def test_pipelined_and_broken_requests() -> None:
    async with deployed(**FAST) as (router, _):
        ask = {"prompt": "x", "max_tokens": 2}
        answer = await raw(router, request("/v1/completions", ask, close=False) + request("/v1/completions", ask))
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert (await raw(router, b"no http at all\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        broken = b"POST /v1/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\n{x}"
        assert b'"type":"BadRequestError"' in await raw(router, broken)


@pytest.mark.parametrize("path", ["/health", "/version", "/metrics", "/v1/models", "/v1/completions", "/nowhere"])
async def test_an_answer_to_head_has_no_body(path: str) -> None:
    """What follows it on the connection is the head of the next answer, to a GET."""
    asked = b" %s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    async with deployed(**FAST) as (router, _):
        answers = await raw(
            router,
            b"HEAD" + asked % (path.encode(), b"") + b"GET" + asked % (path.encode(), b"Connection: close\r\n"),
        )
    head, get, body = answers.split(b"\r\n\r\n", 2)
    assert head.split(b"\r\n")[0] == get.split(b"\r\n")[0]
    assert (b"\r\ncontent-length: %d" % len(body)) in get
    if path != "/metrics":  # which differs from one time to the next
        assert head == get.removesuffix(b"\r\nconnection: close")


@pytest.mark.parametrize(
    ("path", "wrong", "allowed"),
    [
        ("/v1/models", "POST", "GET, HEAD"), ("/metrics", "DELETE", "GET, HEAD"), ("/version", "PUT", "GET, HEAD"),
        ("/health", "POST", "GET, HEAD"), ("/ping", "PUT", "GET, HEAD, POST"), ("/v1/completions", "GET", "POST"),
        ("/tokenize", "DELETE", "POST"),
    ],
)  # fmt: skip
async def test_a_method_that_a_path_does_not_have_is_405(path: str, wrong: str, allowed: str) -> None:
    async with deployed(**FAST) as (router, _):
        answer = await raw(router, f"{wrong} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert f"\r\nallow: {allowed}\r\n".encode() in answer


async def test_a_pipelined_request_begins_when_the_one_before_has_ended() -> None:
    async with deployed() as (router, replica):
        ask = {"prompt": "x", "max_tokens": 40}
        began = time.monotonic()
        await raw(router, request("/v1/completions", ask, close=False) + request("/v1/completions", ask))
        took = time.monotonic() - began
        seen, routed = await scrape(replica), await scrape(router)
    alone = total(seen, "vllm:e2e_request_latency_seconds_sum") / 2
    assert took >= 2 * alone > 0.4
    assert total(routed, "llm_d_epp_request_duration_seconds_sum") <= took


async def test_odd_but_sound_http(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"prompt": "x", "max_tokens": 2}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close%s\r\n%s\r\n\r\n"
    length = b"Content-Length: %d" % len(body)
    chunked = b"Transfer-Encoding: chunked"
    async with deployed(**FAST) as (router, _):
        upgrade = head % (b", Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x", length) + body
        answer = await raw(router, upgrade)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"speaks HTTP/1.1 only" in answer
        pieces = b"8\r\n" + body[:8] + b"\r\n%x\r\n" % len(body[8:]) + body[8:] + b"\r\n0\r\n\r\n"
        assert (await raw(router, head % (b"", chunked) + pieces)).startswith(b"HTTP/1.1 200 ")
        answer = await raw(router, head % (b"\r\nExpect: 100-continue", length) + body)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
        monkeypatch.setattr("llm_d_benchmark.simulator.server.http.MAX_BODY", 10)
        assert (await raw(router, head % (b"", length) + body)).startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_reads_slowly_gets_everything() -> None:
    """Chunks of more than a kilobyte, until no buffer of the kernel takes any more."""
    async with deployed(speed=500, model="m" * 1200) as (router, _):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (router.host, router.port))
        reader, writer = await asyncio.open_connection(sock=client, limit=4096)
        ask = {"prompt": "x", "max_tokens": 8000, "stream": True}
        writer.write(request("/v1/completions", ask))
        await asyncio.sleep(1.5)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    events = answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
    texts = [json.loads(e[6:])["choices"][0]["text"] for e in events[:-2]]
    assert len(texts) == 8000
    assert events[-2] == b"data: [DONE]\n\n"
    assert len(Tokenizer().encode("".join(texts))) == 8000


async def test_the_native_engine_reads_every_stream_without_its_slow_path() -> None:
    async with deployed(**FAST) as (router, _):
        answer = await raw(router, request("/v1/completions", {"prompt": "x", "max_tokens": 9, "stream": True}))
    pieces = [p for p in answer.partition(b"\r\n\r\n")[2].split(b"\r\n") if p.startswith(b"data:")]
    decoded = decode_stream(pieces, list(range(len(pieces))), keep_text=True)
    assert decoded.error is None
    assert list(decoded.chunks) == list(range(9))
