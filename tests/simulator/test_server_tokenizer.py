from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.simulator.server.tokenizer import FIRST_HASHED, Tokenizer
from llm_d_benchmark.workload.words import words

SHARED = Tokenizer()


@given(st.text())
def test_every_text_comes_back_and_counts_the_same_in_a_new_process(text: str) -> None:
    ids = SHARED.encode(text)
    assert SHARED.decode(ids) == text
    assert SHARED.encode(text) == ids
    assert len(Tokenizer().encode(text)) == len(ids)
    assert "".join(SHARED.pieces(text)) == text


@given(st.lists(st.integers(FIRST_HASHED, 2**31 - 2), max_size=20))
def test_an_id_that_stands_for_no_word_shows_itself(ids: list[int]) -> None:
    fresh = Tokenizer()
    assert fresh.encode(fresh.decode(ids)) == ids


@given(st.lists(st.sampled_from(words()), min_size=1, max_size=50))
def test_a_word_is_a_token_wherever_it_stands(some: list[str]) -> None:
    assert len(SHARED.encode(" ".join(some))) == len(some)
    assert len(SHARED.encode("".join(" " + word for word in some))) == len(some)


def test_a_chat_costs_three_tokens_a_message_and_two_for_the_answer() -> None:
    assert len(SHARED.chat([("system", "be brief"), ("user", "one two three")])) == 2 + 3 + 3 + 3 + 2


def test_the_next_turn_of_a_chat_begins_with_the_tokens_of_the_last() -> None:
    first = SHARED.chat([("user", "one two")])
    again = SHARED.chat([("user", "one two"), ("assistant", " three four"), ("user", "five")])
    assert again[: len(first)] == first
