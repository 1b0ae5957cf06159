"""Answers as text, ids and bytes are the same words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.simulator.server.answer import Vocabulary, cut_at_stop
from llm_d_benchmark.simulator.server.tokenizer import Tokenizer

TOKENIZER = Tokenizer()
VOCABULARY = Vocabulary(TOKENIZER)


@given(st.integers(0, len(VOCABULARY.texts) - 1), st.integers(1, 900), st.booleans())
def test_an_answers_ids_are_those_of_its_text(first: int, count: int, chat: bool) -> None:
    texts = VOCABULARY.texts_of(first, count, chat)
    assert VOCABULARY.ids_of(first, count, chat).tolist() == TOKENIZER.encode("".join(texts))


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=30), st.text("abc", min_size=1, max_size=3)
)
def test_a_stop_string_is_found_where_it_first_ends(texts: list[str], stop: str) -> None:
    whole, found = "".join(texts), cut_at_stop(texts, [stop], 0)
    if stop not in whole:
        assert found is None
        return
    assert found is not None
    kept, which = found
    assert which == stop
    assert "".join(kept) == whole[: whole.index(stop)]
    assert stop in "".join(texts[: len(kept)])
    assert stop not in "".join(texts[: len(kept) - 1])


def test_a_stop_string_within_the_least_tokens_does_not_count() -> None:
    assert cut_at_stop(["a", "b", "a"], ["a"], 1) == (["a", "b", ""], "a")


def test_of_several_stop_strings_the_first_in_the_text_counts() -> None:
    assert cut_at_stop(["a", "b", "c"], ["c", "b"], 0) == (["a", ""], "b")
