"""Secrets are named, never written, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_d_benchmark.config.secrets import looks_secret, resolve_api_key, resolve_headers, resolve_secret
from llm_d_benchmark.config.target import SecretSource
from llm_d_benchmark.domain.errors import ConfigError
from tests.config.loading import load_text

KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "text",
    [
        "target: {{existing: {{url: 'http://h', api_key: {key}}}}}",
        "target: {{existing: {{url: 'http://h', headers: {{Authorization: Bearer {key}}}}}}}",
        "target: {{existing: {{url: 'http://h', headers: {{X-Api-Key: {key}}}}}}}",
        "target: {{existing: {{url: 'http://h', headers: {{x-custom: {key}}}}}}}",
        "target: {{process: {{command: [vllm, --api-key, {key}]}}}}",
        "target: {{process: {{command: [vllm], env: {{HF_TOKEN: {key}}}}}}}",
        "benchmark: {{load_generators: [{{config: {{native: {{a: [{{api_key: {key}}}]}}}}}}]}}",
    ],
)
def test_a_secret_in_a_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text.format(key=KEY))
    assert "a.yaml:1" in caught.value.message
    assert "env: NAME" in caught.value.message
    assert KEY not in caught.value.message + str(caught.value.advice)


@pytest.mark.parametrize(
    "options",
    [
        {"sets": [f"spec.target.existing.api_key={KEY}"]},
        {"env": {"LLM_D_BENCHMARK_SPEC__TARGET__EXISTING__API_KEY": KEY}},
        {"overrides": {"spec": {"target": {"existing": {"api_key": KEY}}}}},
    ],
)
def test_a_secret_by_flag_or_variable_is_refused_too(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, "target: {existing: {url: 'http://h'}}", **options)
    assert KEY not in caught.value.message


def test_what_is_named_is_allowed_and_shown_as_a_name(tmp_path: Path) -> None:
    text = "target: {existing: {url: 'http://h', api_key: {env: K}, headers: {X: plain, Cookie: {env: C}}}}"
    loaded = load_text(tmp_path, text)
    target = loaded.config.to_dict()["spec"]["target"]["existing"]
    assert target["api_key"] == {"env": "K"}
    assert target["headers"] == {"X": "plain", "Cookie": {"env": "C"}}


def test_the_secrets_of_a_run_are_known_so_that_they_can_be_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    loaded = load_text(tmp_path, "target: {existing: {url: 'http://h', headers: {Cookie: {env: K}, B: {env: NO}}}}")
    (secret,) = loaded.secrets()
    assert secret.reveal() == KEY
    assert KEY not in f"{secret} {secret!r}"
    assert KEY not in loaded.to_yaml()
    monkeypatch.setenv("OPENAI_API_KEY", "other-key")
    assert [s.reveal() for s in loaded.secrets()] == ["other-key", KEY]


@pytest.mark.parametrize("word", ["1", "EMPTY", "token", "none", "benchmark", "existing", "0000000000", "********"])
def test_a_word_is_sent_but_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """It stands in every file, where replacing it would hide nothing and destroy the file."""
    monkeypatch.setenv("K", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", word)
    loaded = load_text(tmp_path, "target: {existing: {url: 'http://h', api_key: {env: K}}}")
    assert [s.reveal() for s in loaded.secrets()] == [KEY]
    key = resolve_api_key(None, "k")
    assert key is not None
    assert key.reveal() == word


def test_sources_are_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert resolve_secret(SecretSource(file=str(path)), "k").reveal() == KEY
    assert resolve_secret(SecretSource(env="A"), "k", env={"A": KEY}).reveal() == KEY
    headers = resolve_headers({"X": "plain", "Y": SecretSource(env="A")}, "k", env={"A": KEY})
    assert headers["X"] == "plain"
    assert str(headers["Y"]) == "***"
    key = resolve_api_key(None, "k", env={"OPENAI_API_KEY": KEY})
    assert key is not None
    assert key.reveal() == KEY
    assert resolve_api_key(None, "k", env={}) is None


def test_sources_that_are_not_there_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^k: the environment variable A, which holds a secret, is not set"):
        resolve_secret(SecretSource(env="A"), "k", env={})
    with pytest.raises(ConfigError, match=r"^k: .* cannot be read"):
        resolve_secret(SecretSource(file=str(tmp_path / "no")), "k")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match=r"^k: .* is empty"):
        resolve_secret(SecretSource(file=str(tmp_path / "empty")), "k")


def test_names_that_look_secret() -> None:
    secret = [
        "api_key",
        "API-KEY",
        "x-api-key",
        "Authorization",
        "Cookie",
        "HF_TOKEN",
        "db_password",
        "token",
        "OPENAI_API_KEY",
    ]
    plain = [
        "max_tokens",
        "first_token",
        "tokenizer",
        "input_tokens",
        "key",
        "keys",
        "stop_token",
        "user",
        "itl_per_token",
    ]
    assert [n for n in secret if not looks_secret(n)] == []
    assert [n for n in plain if looks_secret(n)] == []
