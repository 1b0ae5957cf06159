"""The compiled receiver says what the Python one says, or leaves it to that one."""

from __future__ import annotations

import gc
import json
import random
import socket
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatch_build
from llm_d_benchmark.loadgen.native.compiled import library
from llm_d_benchmark.loadgen.native.compiled.connection import CompiledConnection, CompiledReceiver
from llm_d_benchmark.loadgen.native.connection import Connection
from llm_d_benchmark.loadgen.native.decode import Decoded, decode_stream
from tests.loadgen.compiled import compiled_receiver, connected
from tests.loadgen.fakes import closed, run
from tests.support.openai_server import BEHAVIOURS, OpenAIServer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def receiver() -> Iterator[CompiledReceiver]:
    with compiled_receiver() as running:
        yield running


class Told:
    """What a connection said of its exchange."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def complete(self, connection: Connection) -> None:
        self.said.append("complete")

    def broken(self, connection: Connection, reason: str, clean: bool) -> None:
        self.said.append(f"{reason}, {clean}")


def opened(receiver: CompiledReceiver) -> tuple[CompiledConnection, socket.socket]:
    """A connection and the server's end of it."""
    ours, theirs = connected()
    return receiver.open(ours, lambda _: None), theirs


def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0)


def received(receiver: CompiledReceiver, reads: list[bytes]) -> tuple[Decoded | None, Decoded]:
    """A response in just these reads, by the compiled decoder (where HTTP says that it is whole) and by Python's."""
    connection, server = opened(receiver)
    told = Told()
    connection.send(told, b"?")
    body = connection.body
    for k, data in enumerate(reads):
        server.sendall(data)
        until(lambda k=k: len(body) == k + 1)
    connection.look()
    connection.close()
    server.close()
    compiled = body.decode() if told.said == ["complete"] else None
    return compiled, decode_stream(*body.pieces(), keep_text=False)


def chunked(body: bytes, sizes: list[int]) -> bytes:
    """HTTP's own framing, in chunks of these sizes and the rest."""
    out, at = HEAD, 0
    for size in [*sizes, len(body)]:
        part = body[at : at + size]
        at += len(part)
        out += b"%x\r\n%s\r\n" % (len(part), part) if part else b""
    return out + b"0\r\n\r\n"


def cut(data: bytes, edges: list[int]) -> list[bytes]:
    return [data[a:b] for a, b in pairwise(sorted({0, len(data), *(e % len(data) for e in edges)}))]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
texts = st.none() | st.text(max_size=6) | st.sampled_from(["", "a", "ä", "\u2028", '"', "\\", "\U0001f600"])
counts = st.none() | st.integers(-1, 2**31)
deltas = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "content": texts, "role": st.just("assistant"), "reasoning_content": texts, "reasoning": texts,
        "tool_calls": st.sampled_from([None, [], [{"index": 0}]]), "other": values,
    },
)  # fmt: skip
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.just(0), "delta": deltas, "text": texts, "message": deltas, "logprobs": values,
        "finish_reason": st.sampled_from([None, "", "stop", "length", "x" * 40, "é"]),
    },
)  # fmt: skip
usages = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": counts, "completion_tokens": counts, "total_tokens": counts,
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"cached_tokens": counts}),
    },
)  # fmt: skip
events = st.fixed_dictionaries(
    {},
    optional={
        "id": values, "choices": st.lists(choices, max_size=2), "usage": usages, "error": st.none() | values,
        "object": st.sampled_from([None, "chat.completion.chunk", "error", 3]), "message": texts,
    },
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Bodies from the usual to the odd: whole events, repeated ones, bare words, other line ends."""
    out = b""
    for event in draw(st.lists(events, max_size=6)):
        separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
        data = json.dumps(event, ensure_ascii=draw(st.booleans()), separators=separators).encode()
        out += (b"data: " + data + b"\n\n") * draw(st.integers(1, 2))
    odd = st.sampled_from(
        ["", "data: [DONE]\n\n", ": ping\n\n", "data: 1\n\n", "\n", "data: {}\r\n\r\n", "data: {} {}\n\n"]
    )
    return out + draw(odd).encode()


@given(body=streams(), sizes=st.lists(st.integers(1, 90), max_size=9), edges=st.lists(st.integers(0, 9999), max_size=6))
def test_the_decoders_agree(receiver: CompiledReceiver, body: bytes, sizes: list[int], edges: list[int]) -> None:
    compiled, python = received(receiver, cut(chunked(body, sizes), edges))
    assert compiled in (None, python)


@given(
    texts=st.lists(st.text(max_size=4), min_size=1, max_size=20),
    noise=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 2), st.integers(0, 255)), min_size=1, max_size=4),
    edges=st.lists(st.integers(0, 9999), max_size=3),
)
def test_the_decoders_agree_on_what_was_garbled(
    receiver: CompiledReceiver, texts: list[str], noise: list[tuple[int, int, int]], edges: list[int]
) -> None:
    data = bytearray(chunked(chat(texts), []))
    for at, kind, byte in noise:
        data[at % len(data) : at % len(data) + (kind > 0)] = bytes([byte]) * (kind < 2)
    compiled, python = received(receiver, cut(bytes(data), edges))
    assert compiled in (None, python)


def chat(texts: list[str], ascii_only: bool = False) -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts), {}]
    out = ""
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}
        event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], "usage": None}
        out += f"data: {json.dumps(event, ensure_ascii=ascii_only)}\n\n"
    details = {"prompt_tokens": 3, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}}
    return (out + f"data: {json.dumps({'choices': [], 'usage': details})}\n\ndata: [DONE]\n\n").encode()


@given(texts=st.lists(st.text(max_size=4), min_size=1, max_size=20), sizes=st.lists(st.integers(1, 90), max_size=9))
def test_a_usual_stream_is_decoded_by_the_compiled_one(
    receiver: CompiledReceiver, texts: list[str], sizes: list[int]
) -> None:
    for body in (chat(texts), chat([t for t in texts if t.isascii()], ascii_only=True)):
        compiled, python = received(receiver, cut(chunked(body, sizes), [len(body) // 2]))
        assert compiled == python
        assert (python.input_tokens, python.output_tokens, python.cached_tokens) == (3, 9, 2)
    completions = b'data: {"choices":[{"index":0,"text":" a","finish_reason":null}]}\n\n' * 3
    compiled, python = received(receiver, [chunked(completions + b"data: [DONE]\n\n", sizes)])
    assert compiled == python
    assert len(python.chunks) == 3


def test_times_are_those_of_the_reads(receiver: CompiledReceiver) -> None:
    before = time.monotonic_ns()
    connection, server = opened(receiver)
    sent = connection.send(Told(), b"?")
    body = connection.body
    server.sendall(HEAD)
    until(lambda: len(body) == 1)
    between = time.monotonic_ns()
    event = b'data: {"choices":[{"text":"a"}]}\n\n'
    server.sendall(b"%x\r\n%s\r\n" % (len(event), event))
    until(lambda: len(body) == 2)
    connection.close()
    [stamp] = body.pieces()[1]
    assert before <= sent <= between <= stamp <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([chunked(b"data: [DONE]\n\n", [])], ["complete"]),
        ([HEAD + b"3\r\nab", b"c\r\n0\r", b"\n\r", b"\n"], ["complete"]),
        ([HEAD + b"1\r\na\r\n0\r\nTrailer: x\r\n\r\n"], ["complete"]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD, b"0\r\n\r\n"], ["complete"]),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"a", b"bc"], ["complete"]),
        ([b"HTTP/1.1 200 OK\r\n\r\nabc", b""], ["complete"]),
        ([b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"], ["complete"]),
        ([HEAD + b"1\r\na\r\n", b""], ["connection closed, True"]),
        ([b""], ["connection closed, True"]),
        ([b"no HTTP\r\n\r\n"], ["not HTTP/1.1: HttpParserError, False"]),
    ],
)
def test_ends_are_noticed(receiver: CompiledReceiver, parts: list[bytes], said: list[str]) -> None:
    """The loop is told of a connection as soon as its response may be over; an empty part closes it."""
    connection, server = opened(receiver)
    told = Told()
    connection.send(told, b"?")
    server.recv(1)  # what is closed with unread bytes is reset
    for part in parts:
        assert told.said == []
        server.sendall(part) if part else server.close()
        looked_at(receiver, connection)
    until(lambda: looked_at(receiver, connection) or told.said)
    assert told.said == said
    connection.close()
    server.close()


def looked_at(receiver: CompiledReceiver, connection: CompiledConnection) -> None:
    time.sleep(0.002)
    receiver._look()


def test_bytes_after_the_end_end_the_connection(receiver: CompiledReceiver) -> None:
    connection, server = opened(receiver)
    told = Told()
    connection.send(told, b"?")
    server.sendall(chunked(b"x", []) + b"HTTP/1.1 200 OK\r\n\r\n")
    until(lambda: looked_at(receiver, connection) or told.said)
    assert (told.said, connection.status, connection.keep_alive) == (["complete"], 200, False)
    connection.close()
    server.close()


def test_an_idle_connection_that_ends_is_lost(receiver: CompiledReceiver) -> None:
    ours, theirs = connected()
    lost: list[Connection] = []
    connection = receiver.open(ours, lost.append)
    theirs.close()
    until(lambda: looked_at(receiver, connection) or lost)
    assert lost == [connection]


def test_a_connection_that_ends_after_its_answer_is_lost(receiver: CompiledReceiver) -> None:
    """Else the next request goes to nobody, and waits until its time is over."""
    ours, theirs = connected()
    lost: list[Connection] = []
    connection = receiver.open(ours, lost.append)
    told = Told()
    connection.send(told, b"?")
    theirs.recv(1)
    theirs.sendall(chunked(b"x", []))
    until(lambda: looked_at(receiver, connection) or told.said)
    assert connection.keep_alive
    theirs.shutdown(socket.SHUT_WR)
    until(lambda: looked_at(receiver, connection) or lost)
    assert lost == [connection]
    theirs.close()


def test_a_request_larger_than_the_socket_takes_is_sent_whole(receiver: CompiledReceiver) -> None:
    connection, server = opened(receiver)
    told = Told()
    request = random.Random(0).randbytes(2**21)
    connection.send(told, request)

    async def read() -> bytes:
        server.setblocking(False)
        got = b""
        while len(got) < len(request):
            got += await receiver.loop.sock_recv(server, 2**20)
        return got

    assert receiver.loop.run_until_complete(read()) == request
    connection.close()
    server.close()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_closing_while_answers_come_leaves_nothing_behind(receiver: CompiledReceiver) -> None:
    """Descriptors are reused at once, so one closed twice or late would show."""
    before = descriptors()
    for k in range(300):
        connection, server = opened(receiver)
        connection.send(Told(), b"?")
        server.sendall(HEAD + b"5\r\nhello\r\n" * (k % 7))
        body = connection.body
        if k % 3 == 0:
            server.close()
        connection.close()
        body.pieces()
        server.close()
    until(lambda: descriptors() <= before)


def test_what_is_closed_is_gone_without_the_garbage_collector(receiver: CompiledReceiver) -> None:
    """It is off while load is on."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            connection, server = opened(receiver)
            connection.send(Told(), b"?")
            connection.close()
            server.close()
        del connection
        assert not [o for o in gc.get_objects() if isinstance(o, CompiledConnection)]
    finally:
        gc.enable()


def test_a_body_that_grows_is_read_as_far_as_it_came(receiver: CompiledReceiver) -> None:
    connection, server = opened(receiver)
    connection.send(Told(), b"?")
    body = connection.body
    server.sendall(HEAD + b"5\r\nhello\r\n")
    until(lambda: len(body) == 1)
    assert body.pieces()[0] == [b"hello"]
    server.sendall(b"1\r\n!\r\n")
    until(lambda: len(body) == 2)
    assert body.pieces()[0] == [b"hello", b"!"]
    assert body.decode() is None
    connection.close()
    server.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the compiled receiver is for Linux")
def test_whatever_a_server_does_both_receivers_record_the_same(receiver: CompiledReceiver) -> None:
    order = [how for how in BEHAVIOURS if how not in ("drop_idle", "leave_idle", "refuse", "garbage_http")]
    seen = []
    for kind in ("auto", "python"):
        with OpenAIServer(ttft=0.005, behaviour=lambda n: order[n]) as server:
            config = {"timeouts": {"first_token": 0.3, "total": 0.6}, "native": {"receiver": kind}}
            ran = run(server, closed(1, num_requests=len(order)), config=config)
        rows = [
            [ran.labels(name) for name in ("status", "error_class", "error", "finish_reason", "output_source")],
            [ran.records.ints(n).tolist() for n in ("input_tokens", "output_tokens", "http_status", "attempts")],
            ran.records.ragged("chunk_times").lengths.tolist(),
        ]
        seen.append(rows)
        [used] = {e.data["receiver"] for e in ran.events if e.type == "client"}
        assert used == ("compiled" if kind == "auto" else "python")
    assert seen[0] == seen[1]


# building


def test_without_a_compiler_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = tmp_path / "_receiver.so"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not hatch_build.compile_to(built, library.HERE)
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert not hatch_build.compile_to(built, library.HERE)
    assert "left out" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["cc"]
    monkeypatch.setattr(library, "LIBRARY", built)
    with pytest.raises(library.ReceiverError, match="not built"):
        library.load()
    if sys.platform == "linux":
        found = library.check()
        assert (found.severity, "C compiler" in str(found.advice)) == ("warning", True)


def test_a_library_of_other_sources_is_not_used(
    receiver: CompiledReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in library.HERE.glob("*.[ch]"):
        (tmp_path / source.name).write_bytes(source.read_bytes() + b"\n")
    built = tmp_path / "_receiver.so"
    assert hatch_build.compile_to(built, tmp_path)
    monkeypatch.setattr(library, "LIBRARY", built)
    with pytest.raises(library.ReceiverError, match="other sources"):
        library.load()
    (other := tmp_path / "other.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "LIBRARY", other)
    with pytest.raises(library.ReceiverError, match="cannot be loaded"):
        library.load()
