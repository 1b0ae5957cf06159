from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.simulator.server.tokenizer import Tokenizer
from llm_d_benchmark.simulator.tokens import BlockHasher, MadePrompts, TokenReader


def test_made_prompts_are_as_long_as_asked_and_share_nothing() -> None:
    rng, reader, sizer = np.random.default_rng(0), TokenReader(), MadePrompts()
    one, two = reader.text(sizer.make(rng, 3000)), reader.text(sizer.make(rng, 5))
    assert (len(one), len(two)) == (3000, 5)
    assert len(set(one.tolist()) | set(two.tolist())) == 3005
    assert sizer.count(sizer.make(rng, 7)) == 7


def test_joined_prompts_add_up_and_begin_alike() -> None:
    rng, reader, sizer, blocks = np.random.default_rng(0), TokenReader(), MadePrompts(), BlockHasher(16)
    prefix = sizer.make(rng, 40)
    left, right = (reader.text(sizer.join(prefix, sizer.make(rng, 60))) for _ in range(2))
    assert len(left) == len(right) == 100
    same = [a == b for a, b in zip(blocks(left), blocks(right), strict=True)]
    assert same == [True, True, False, False, False, False]


def test_a_shorter_part_is_the_beginning_of_the_whole() -> None:
    sizer, reader = MadePrompts(), TokenReader()
    long, short = (reader.text(sizer.make(np.random.default_rng(4), n)) for n in (32, 20))
    assert long[:20].tolist() == short.tolist()


def test_text_and_chats_are_counted_as_the_server_counts_them() -> None:
    reader, tokenizer = TokenReader(), Tokenizer()
    assert reader.text("Hello, big world!").tolist() == tokenizer.encode("Hello, big world!")
    messages = [("system", "Be brief."), ("user", "Why?")]
    ids = reader.chat([(role, reader.text(text)) for role, text in messages], answer=True)
    assert ids.tolist() == tokenizer.chat(messages)


@given(st.lists(st.integers(0, 50), max_size=40), st.lists(st.integers(0, 50), max_size=40))
def test_hashes_are_equal_exactly_where_prefixes_are(left: list[int], right: list[int]) -> None:
    blocks = BlockHasher(4)
    for k, (a, b) in enumerate(zip(blocks(left), blocks(right), strict=False), 1):
        assert (a == b) == (left[: 4 * k] == right[: 4 * k])
    assert len(blocks(left)) == len(left) // 4
