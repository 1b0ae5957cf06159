"""Secrets in streams that come in pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.redaction import LONGEST_LINE, LineRedactor

SECRET = 's3cret"-välue'


def passed(redactor: LineRedactor, pieces: list[bytes]) -> bytes:
    return b"".join([*map(redactor.feed, pieces), redactor.end()])


@given(
    parts=st.lists(
        st.sampled_from([SECRET, 's3cret\\"-v\\u00e4lue', "word ", "\n", "\r", "s3cret", "\udcff"]), max_size=20
    ),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_however_it_is_cut_a_secret_is_replaced_and_nothing_else(parts: list[str], cuts: list[int]) -> None:
    data = "".join(parts).encode("utf-8", "surrogateescape")
    pieces = [data[a:b] for a, b in pairwise(sorted({0, len(data), *(c for c in cuts if c < len(data))}))]
    shown = "".join("***" if "lue" in p else p for p in parts).encode("utf-8", "surrogateescape")
    assert passed(LineRedactor([SECRET]), pieces) == shown
    assert passed(LineRedactor([]), pieces) == data


def test_a_line_is_passed_on_when_it_is_whole_or_too_long() -> None:
    redactor = LineRedactor([SECRET])
    assert redactor.feed(b"one\ntw") == b"one\n"
    assert redactor.feed(b"o\r") == b"two\r"
    assert redactor.feed(b"x" * LONGEST_LINE) == b""
    given = redactor.feed(b"x")
    assert len(given) > LONGEST_LINE - 100
    assert given + redactor.end() == b"x" * (LONGEST_LINE + 1)
    assert LineRedactor([]).feed(b"at once") == b"at once"


@given(st.integers(0, 2 * len(SECRET)))
def test_a_secret_is_not_cut_in_two_where_a_line_is_too_long(before: int) -> None:
    start = b"x" * (LONGEST_LINE - before)
    line = start + SECRET.encode() + b"y" * 50
    pieces = [line[: LONGEST_LINE + 1], line[LONGEST_LINE + 1 :]]
    assert passed(LineRedactor([SECRET]), pieces) == start + b"***" + b"y" * 50
