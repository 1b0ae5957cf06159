from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.simulator.server.tokenizer import Tokenizer
from llm_d_benchmark.simulator.tokens import BlockHasher, MadePrompts, Piece, Progression, TokenReader, Tokens


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


def test_text_beside_a_made_part_is_no_part_of_it() -> None:
    reader, tokenizer, made = TokenReader(), Tokenizer(), MadePrompts().make(np.random.default_rng(0), 40)
    assert len(reader.text(f"12{made}345 more")) == 40 + len(tokenizer.encode("12")) + len(tokenizer.encode("345 more"))


def test_a_shorter_part_is_the_beginning_of_the_whole() -> None:
    sizer, reader = MadePrompts(), TokenReader()
    long, short = (reader.text(sizer.make(np.random.default_rng(4), n)) for n in (32, 20))
    assert long.tolist()[:20] == short.tolist()


def test_text_and_chats_are_counted_as_the_server_counts_them() -> None:
    reader, tokenizer = TokenReader(), Tokenizer()
    for text in ("Hello, big world!", "About ~2*10 apples, ~3*400000 atoms", "<0 3*400000>"):
        assert reader.text(text).tolist() == tokenizer.encode(text)
    messages = [("system", "Be brief."), ("user", "Why?")]
    ids = reader.chat([(role, reader.text(text)) for role, text in messages], answer=True)
    assert ids.tolist() == tokenizer.chat(messages)


PIECES = st.lists(
    st.one_of(
        st.builds(Progression, st.integers(0, 3), st.integers(0, 50)),
        st.lists(st.integers(0, 50), max_size=40).map(tuple),
        st.lists(st.integers(0, 50), max_size=90).map(lambda ids: np.array(ids, np.uint64)),
    ),
    max_size=5,
)


@given(PIECES, PIECES, st.sampled_from([1, 4, 16]))
def test_hashes_are_equal_exactly_where_prefixes_are(left: list[Piece], right: list[Piece], size: int) -> None:
    blocks = BlockHasher(size)
    one, two = Tokens(left), Tokens(right)
    assert len(one) == len(one.tolist())
    assert len(blocks(one)) == len(one) // size
    for k, (a, b) in enumerate(zip(blocks(one), blocks(two), strict=False), 1):
        assert (a == b) == (one.tolist()[: size * k] == two.tolist()[: size * k])


@given(PIECES)
def test_hashes_do_not_depend_on_the_pieces(pieces: list[Piece]) -> None:
    tokens, blocks = Tokens(pieces), BlockHasher(4)
    whole = Tokens([np.array(tokens.tolist(), np.uint64)])
    assert blocks(tokens) == blocks(whole) == blocks(Tokens([(token,) for token in tokens.tolist()]))


def test_long_prompts_are_hashed_as_their_beginnings_are() -> None:
    blocks = BlockHasher(16)
    short = blocks(Tokens([Progression(5, 100)]))
    assert blocks(Tokens([Progression(5, 10_000)]))[:6] == short
