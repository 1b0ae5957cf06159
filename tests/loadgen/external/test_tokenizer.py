"""The tokenizer for tools: real in the tokenizers library, and n tokens of it are n tokens to a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.loadgen.external.tokenizer import tokenizer_folder
from llm_d_benchmark.simulator.server.tokenizer import Tokenizer as SimulatorTokenizer

tokenizers = pytest.importorskip("tokenizers", reason="needs the [tokenizers] extra")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_D_BENCHMARK_CACHE", str(tmp_path / "cache"))


def test_text_cut_to_so_many_tokens_has_so_many_for_the_server() -> None:
    ours = tokenizers.Tokenizer.from_file(str(tokenizer_folder(None) / "tokenizer.json"))
    text = "1 42 m0 Zebras quickly moved over the old stone wall, and then it rained. " * 40
    for n in (1, 16, 200):
        cut = ours.decode(ours.encode(text).ids[:n])
        assert len(ours.encode(cut).ids) == n
        assert len(SimulatorTokenizer().encode(cut)) == n


def test_drawn_ids_are_as_many_tokens_again() -> None:
    ours = tokenizers.Tokenizer.from_file(str(tokenizer_folder(None) / "tokenizer.json"))
    ids = [(7919 * k) % ours.get_vocab_size() for k in range(300)]
    assert ours.encode(ours.decode(ids)).ids == ids


def test_a_target_s_own_tokenizer_is_used(tmp_path: Path) -> None:
    source = tokenizer_folder(None) / "tokenizer.json"
    alone = tmp_path / "model" / "tokenizer.json"
    alone.parent.mkdir()
    alone.write_bytes(source.read_bytes())
    for given in (alone, alone.parent):
        made = tokenizer_folder(given)
        assert made != alone.parent
        assert json.loads((made / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    (alone.parent / "tokenizer_config.json").write_text("{}")
    assert tokenizer_folder(alone) == tokenizer_folder(alone.parent) == alone.parent
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        tokenizer_folder(tmp_path)
