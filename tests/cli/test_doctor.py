from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.cli.doctor import doctor
from llm_d_benchmark.domain.errors import ConfigError
from tests.target.conftest import _no_key, free, serve

__all__ = ["_no_key", "serve"]
Serve = Callable[..., str]


def run(capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code, and the findings by code."""
    code = doctor(json_output=True, **options)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault(finding["code"], []).append(finding)
    return code, found


def written(folder: Path, spec: str) -> Path:
    """A configuration file with this spec, from its line 4 on."""
    file = folder / "c.yaml"
    file.write_text(f"apiVersion: llm-d.io/v1alpha1\nkind: BenchmarkConfig\nspec:\n{spec}")
    return file


def test_a_sound_server(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(capsys, url=serve())
    assert code == 0
    for name in ("target", "model", "streaming", "usage", "token_counts", "burst", "cores", "open_files", "clock"):
        assert name in found
    assert "streams are received" in found["receiver"][0]["message"]
    assert {f["severity"] for f in found["streaming"] + found["usage"] + found["burst"]} == {"info"}


def test_a_dead_url_is_an_error_with_advice(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(capsys, url=f"http://127.0.0.1:{free()}")
    assert code == 5
    assert "refused" in found["target"][0]["message"]
    assert found["target"][0]["advice"]
    assert "streaming" not in found


def test_a_word_as_key_is_told(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve("--key", "EMPTY")
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    code, found = run(capsys, url=url)
    assert code == 0
    assert [f["severity"] for f in found["api_key"]] == ["info", "warning"]
    assert "EMPTY" not in str(found["api_key"])


def test_a_key_that_the_server_repeats_is_not_shown(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0815")
    for options in (("--key", "abc"), ("--mode", "nostream")):
        code, found = run(capsys, url=serve(*options))
        assert code == 5
        assert "Bearer ***" in str(found)
        assert "0815" not in str(found)


def test_no_streaming_and_no_usage(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(capsys, url=serve("--mode", "nostream"))
    assert code == 5
    assert "stream is not supported" in found["streaming"][0]["message"]
    code, found = run(capsys, url=serve("--mode", "nousage"))
    assert code == 0
    assert {f["severity"] for f in found["usage"]} == {"warning"}


def test_a_configurations_troubleshooting_list_becomes_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(
        tmp_path,
        f"  target: {{existing: {{url: 'http://127.0.0.1:{free()}'}}}}\n"
        "  benchmark_issues: {load_generator_failure: {symptoms: [x], solutions: [Ask the network team]}}\n",
    )
    _, found = run(capsys, config=[file])
    assert "Ask the network team" in found["target"][0]["advice"]


def test_the_open_file_limit_against_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path,
        "  benchmark: {load_generators: [{type: native, config: {concurrency: 2000000000}}]}\n",
    )
    _, found = run(capsys, config=[file])
    assert found["open_files"][0]["severity"] in ("warning", "error")
    assert "2000000128" in found["open_files"][0]["message"]


def test_secrets_that_are_not_there_are_said_beside_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(
        tmp_path,
        "  target: {existing: {url: 'http://127.0.0.1:9', api_key: {env: NOBODY_SET_IT}}}\n"
        "  collectors: {prometheus: {url: 'http://127.0.0.1:9', bearer_token: {env: NOR_THIS}}}\n",
    )
    code, found = run(capsys, config=[file])
    assert code == 5
    assert "cores" in found
    keys = {"target": "target.existing.api_key", "prometheus": "collectors.prometheus.bearer_token"}
    for line, (name, key) in enumerate(keys.items(), 4):
        assert found[name][0]["message"].startswith(f"{file}:{line}: spec.{key}: the environment variable NO")
        assert found[name][0]["advice"].startswith("export NO")


def test_a_mistyped_target(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        doctor(target="locl")


def test_the_table(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(url=serve(), model="tiny") == 0
    out = capsys.readouterr().out
    assert "ok" in out
    assert "errors: 0" in out
