"""However a stream is cut into pieces and slices, it says the same."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.records import ErrorClass
from llm_d_benchmark.loadgen.native.decode import decode_slices, decode_stream


def stream(words: list[str], end: str = "\n", comment: bool = False, usage: bool = True) -> list[bytes]:
    """One piece an event."""
    events = [json.dumps({"choices": [{"delta": {"content": w}}]}, ensure_ascii=False) for w in words]
    events.append(json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    if usage:
        events.append(json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}}))
    head = f": ping{end}{end}" if comment else ""
    return [f"{head}data: {e}{end}{end}".encode() for e in [*events, "[DONE]"]]


@given(
    words=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    comment=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=40),
    size=st.integers(1, 50),
)
def test_cuts_and_slices_change_nothing_but_times(
    words: list[str], end: str, comment: bool, cuts: list[int], size: int
) -> None:
    whole = stream(words, end, comment)
    data = b"".join(whole)
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    stamps = edges[1:]  # a piece "arrives" when its last byte does
    expected_ends = [sum(map(len, whole[: k + 1])) for k in range(len(words))]
    arrivals = [next(e for e in edges if e >= limit) for limit in expected_ends]
    *_, out = decode_slices(pieces, stamps, keep_text=True, size=size)
    assert out.error is None
    assert out.text == "".join(words)
    assert (out.input_tokens, out.output_tokens, out.finish_reason) == (3, len(words), "stop")
    # the second byte of a CRLF or CR CR blank line may come a piece later without anything being known by it
    assert len(out.chunks) == len(words)
    assert all(a <= b for a, b in zip(out.chunks, arrivals, strict=True))
    if end == "\n":
        assert list(out.chunks) == arrivals


@given(st.binary(max_size=300), st.integers(1, 9))
def test_no_bytes_crash_it(data: bytes, size: int) -> None:
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    *_, out = decode_slices(pieces, list(range(len(pieces))), keep_text=True, size=size)
    if pieces:
        assert out.error is not None


def test_a_long_stream_never_stops_its_caller_for_long() -> None:
    pieces = stream(["token "] * 50_000)
    slices = decode_slices(pieces, list(range(len(pieces))), keep_text=False)
    longest, began = 0.0, time.thread_time()
    for _ in slices:
        longest, began = max(longest, time.thread_time() - began), time.thread_time()
    assert longest < 0.010


@pytest.mark.parametrize(
    ("counts", "tokens"), [((2, 3, 6), [2, 1, 3]), ((1, 1, 4), [1, 0, 3]), ((1, 5, 3, 3, 9, 7), [])]
)
def test_usage_counts_of_every_chunk_become_differences_where_they_never_fall(
    counts: tuple[int, ...], tokens: list[int]
) -> None:
    events = [{"choices": [{"text": "x"}], "usage": {"completion_tokens": n}} for n in counts]
    pieces = [f"data: {json.dumps(e)}\n\n".encode() for e in events] + [b"data: [DONE]\n\n"]
    out = decode_stream(pieces, range(len(pieces)), keep_text=False)
    assert out.error is None
    assert out.chunk_tokens == tokens
    assert len(out.chunks) == len(counts)
    assert out.output_tokens == counts[-1]


def test_a_count_out_of_range_is_a_protocol_error() -> None:
    event = {"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"completion_tokens": 2**40}}
    out = decode_stream([f"data: {json.dumps(event)}\n\n".encode()], [1], keep_text=False)
    assert out.error is ErrorClass.PROTOCOL
