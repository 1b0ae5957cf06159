"""Prompts have the asked number of tokens by the server's own count, or the error is stated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Prompt
from llm_d_benchmark.target.probe import ServerProbe
from llm_d_benchmark.workload.sizing import SizerReport, build_sizer
from llm_d_benchmark.workload.words import words
from tests.support.openai_server import CHAT_OVERHEAD, TEXT_OVERHEAD, OpenAIServer

Encode = Callable[[str], list[int]]


def one_a_word(text: str) -> list[int]:
    return [hash(word) % 30_000 for word in text.split()]


def long_words_are_two(text: str) -> list[int]:
    return [i for word in text.split() for i in range(1 + (len(word) > 4))]


def mixed(text: str) -> list[int]:
    """Two words of three are two tokens: too few single ones for prompts of those alone."""
    return [i for word in text.split() for i in range(1 + (sum(map(ord, word)) % 3 > 0))]


def all_words_are_two(text: str) -> list[int]:
    return [i for _ in text.split() for i in range(2)]


@pytest.fixture(scope="module")
def bpe() -> Any:
    """A byte-level BPE trained on half of the words, so that the others fall to pieces."""
    tokenizers = pytest.importorskip("tokenizers", reason="the [tokenizers] extra is not installed")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    known = words()[::2]
    tokenizer.train_from_iterator([" ".join(known), *known] * 3, trainer)
    return tokenizer


class FakeServer:
    """Counts with one tokenizer; its own tokens depend on the endpoint. What it cannot do it says None to."""

    def __init__(
        self, encode: Encode, *, tokenize: bool = True, usage: bool = True, ids: bool = True, padded: bool = False
    ) -> None:
        self.encode = encode
        self.calls = 0
        self._tokenize, self._usage, self._ids, self._padded = tokenize, usage, ids, padded

    async def tokenize(self, text: str) -> list[int] | None:
        self.calls += 1
        return self.encode(text) if self._tokenize else None

    async def usage(self, endpoint: str, prompt: Prompt) -> int | None:
        self.calls += 1
        if not self._usage:
            return None
        if not isinstance(prompt, str):
            if not self._ids:
                return None
            return 2 * len(prompt) if self._padded else len(prompt)
        return len(self.encode(prompt)) + (11 if endpoint == "chat" else 1)


def built(server: Any, endpoint: str = "chat", **options: Any) -> SizerReport:
    options = {"tokenizer_path": None, "seed": 1, **options}
    return asyncio.run(build_sizer(server, endpoint=endpoint, **options))


def worst(report: SizerReport, server: FakeServer, endpoint: str = "chat") -> float:
    """Greatest relative error over prompts of many lengths, by the server's own count of the whole prompt."""
    rng, errors = np.random.default_rng(3), []
    for tokens in (20, 33, 64, 128, 256, 512, 1000):
        prompt = report.sizer.make(rng, tokens - report.sizer.overhead)
        counted = asyncio.run(server.usage(endpoint, prompt))
        assert counted is not None
        errors.append(abs(counted - tokens) / tokens)
    return max(errors)


@pytest.mark.parametrize("encode", [one_a_word, long_words_are_two])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_tokenize_gives_exact_lengths(encode: Encode, endpoint: str) -> None:
    server = FakeServer(encode, ids=False)
    report = built(server, endpoint)
    assert (report.sizer.method, report.sizer.error) == ("tokenize", 0.0)
    assert report.sizer.overhead == (11 if endpoint == "chat" else 1)
    assert worst(report, server, endpoint) == 0
    assert report.messages == ()
    assert server.calls < 250


def test_a_bpe_gives_exact_lengths_by_tokenize(bpe: Any) -> None:
    server = FakeServer(lambda text: list(bpe.encode(text).ids), ids=False)
    report = built(server)
    assert report.sizer.method == "tokenize"
    assert worst(report, server) == 0
    rng = np.random.default_rng(1)
    joined = report.sizer.join(*(report.sizer.make(rng, n) for n in (5, 17, 40)))
    assert isinstance(joined, str)
    assert len(bpe.encode(joined).ids) == 62


def test_token_ids_are_used_for_completions_where_the_server_counts_them_so() -> None:
    server = FakeServer(one_a_word)
    report = built(server, "completions")
    assert report.sizer.method == "token_ids"
    assert worst(report, server, "completions") == 0
    assert report.sizer.join((1, 2), (3,)) == (1, 2, 3)
    assert built(FakeServer(one_a_word, padded=True), "completions").sizer.method == "tokenize"
    assert built(FakeServer(one_a_word), "completions", text=True).sizer.method == "tokenize"
    assert built(FakeServer(one_a_word), "chat").sizer.method == "tokenize"


def test_token_ids_come_from_the_words_of_the_server_where_it_tokenises() -> None:
    report = built(FakeServer(one_a_word), "completions")
    prompt = report.sizer.make(np.random.default_rng(0), 200)
    assert set(prompt) <= set(one_a_word(" ".join(words())))
    assert len(set(prompt)) > 100


def test_a_local_tokenizer_gives_exact_lengths(bpe: Any, tmp_path: Path) -> None:
    bpe.save(str(tmp_path / "tokenizer.json"))
    server = FakeServer(lambda text: list(bpe.encode(text).ids), tokenize=False, ids=False)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        report = built(server, tokenizer_path=str(path))
        assert (report.sizer.method, report.sizer.error) == ("tokenizer", 0.0)
        assert worst(report, server) == 0
        assert report.sizer.count("the of and") == len(bpe.encode("the of and").ids)


@pytest.mark.parametrize(("encode", "limit"), [(one_a_word, 0.0), (all_words_are_two, 0.05), (mixed, 0.25)])
def test_calibration_states_an_error_of_the_right_size(encode: Encode, limit: float) -> None:
    server = FakeServer(encode, tokenize=False, ids=False)
    report = built(server)
    assert report.sizer.method == "calibrated"
    assert report.sizer.error is not None
    assert report.sizer.error <= limit
    assert worst(report, server) <= max(0.01, 2 * limit)


def test_calibration_finds_words_of_one_token_where_there_are_enough() -> None:
    server = FakeServer(long_words_are_two, tokenize=False, ids=False)
    report = built(server)
    assert (report.sizer.method, report.sizer.error) == ("calibrated", 0.0)
    assert worst(report, server) == 0
    assert server.calls < 80, "each is a request to the server"


def test_a_server_that_tokenises_every_word_to_several_is_calibrated() -> None:
    assert built(FakeServer(all_words_are_two, ids=False)).sizer.method == "calibrated"


def test_without_usage_the_error_is_absent_and_said_why() -> None:
    report = built(FakeServer(one_a_word, usage=False))
    assert (report.sizer.method, report.sizer.error, report.sizer.overhead) == ("tokenize", None, 0)
    assert "reports no usage" in report.messages[0]
    blind = built(FakeServer(one_a_word, usage=False, tokenize=False))
    assert (blind.sizer.method, blind.sizer.error) == ("calibrated", None)
    assert "a word is taken for a token" in blind.messages[0]
    assert blind.to_dict()["error"] is None


def test_a_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer.json at"):
        built(FakeServer(one_a_word, tokenize=False), tokenizer_path=str(tmp_path))


def test_a_damaged_tokenizer_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the [tokenizers] extra is not installed")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer.json is no tokenizer"):
        built(FakeServer(one_a_word, tokenize=False), tokenizer_path=str(tmp_path))


def test_words_are_distinct_and_plain() -> None:
    assert len(words()) == len(set(words())) > 400
    assert all(word.isalpha() and word.islower() and word.isascii() for word in words())


@pytest.mark.parametrize(
    ("options", "endpoint", "method", "overhead"),
    [
        ({}, "chat", "tokenize", CHAT_OVERHEAD),
        ({}, "completions", "token_ids", 0),
        ({"token_ids": False}, "completions", "tokenize", TEXT_OVERHEAD),
        ({"tokenize": "llama.cpp"}, "chat", "tokenize", CHAT_OVERHEAD),
        ({"tokenize": None}, "chat", "calibrated", CHAT_OVERHEAD),
    ],
)
def test_a_real_server_counts_what_was_asked(
    options: dict[str, Any], endpoint: str, method: str, overhead: int
) -> None:
    async def go(server: OpenAIServer) -> None:
        async with ServerProbe(Endpoint(server.url, server.model)) as probe:
            report = await build_sizer(probe, endpoint=endpoint, tokenizer_path=None, seed=1)
            sizer = report.sizer
            assert (sizer.method, sizer.error, sizer.overhead) == (method, 0.0, overhead)
            for tokens in (16, 100, 700):
                prompt = sizer.make(np.random.default_rng(tokens), tokens - sizer.overhead)
                assert await probe.usage(endpoint, prompt) == tokens

    with OpenAIServer(**options) as server:
        asyncio.run(go(server))
