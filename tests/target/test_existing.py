from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from llm_d_benchmark.config.target import TargetConfig
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.errors import ConfigError, TargetError
from llm_d_benchmark.target.api import TargetContext
from llm_d_benchmark.target.attach import normalise_url
from llm_d_benchmark.target.registry import create_target
from tests.target.conftest import free

Serve = Callable[..., str]


async def attach(**block: object) -> Endpoint:
    target = create_target(TargetConfig.model_validate({"type": "existing", "existing": block}))
    async with target.open(TargetContext(Path("unused"))) as endpoint:
        return endpoint


@pytest.mark.parametrize(
    "url",
    ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions"],
)
def test_the_apis_own_part_of_a_url_is_cut_off(url: str) -> None:
    assert normalise_url(url) == "http://h:1"


def test_a_base_path_is_kept() -> None:
    assert normalise_url("https://h/llm/a/v1/") == "https://h/llm/a"


async def test_it_finds_model_and_identity(serve: Serve) -> None:
    url = serve("--model", "first,second", "--base", "/llm")
    endpoint = await attach(url=url + "/llm/v1/")
    assert endpoint.url == url + "/llm"
    assert endpoint.model == "first"
    assert endpoint.pid is None
    assert endpoint.info["server"] == "vLLM 1.2.3"
    assert endpoint.info["max_model_len"] == 4096
    assert endpoint.info["models"] == ["first", "second"]


async def test_the_fingerprint_depends_on_what_is_served_and_not_on_where(serve: Serve) -> None:
    one = await attach(url=serve("--model", "a,b"))
    two = await attach(url=serve("--model", "a,b"))
    other = await attach(url=two.url, model="b")
    assert one.info["fingerprint"] == two.info["fingerprint"] != other.info["fingerprint"]


async def test_an_unlisted_model_is_named_with_the_nearest_spelling(serve: Serve) -> None:
    with pytest.raises(TargetError, match="no model 'mistrall-7b'; did you mean 'mistral-7b'") as caught:
        await attach(url=serve("--model", "qwen,mistral-7b"), model="mistrall-7b")
    assert "qwen, mistral-7b" in str(caught.value.advice)


async def test_without_a_list_the_model_must_be_given(serve: Serve) -> None:
    url = serve("--mode", "unlisted")
    with pytest.raises(TargetError, match="must be given"):
        await attach(url=url)
    assert (await attach(url=url, model="m")).model == "m"


async def test_a_key_from_a_file_and_a_secret_header(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("key-4711\n")
    monkeypatch.setenv("TENANT", "tenant-0815")
    url = serve("--key", "key-4711", "--header", "tenant-0815")
    endpoint = await attach(url=url, api_key={"file": str(tmp_path / "key")}, headers={"X-Tenant": {"env": "TENANT"}})
    assert endpoint.model == "tiny"
    assert endpoint.info["headers"] == ["X-Tenant"]
    shown = repr(endpoint) + json.dumps(dict(endpoint.info))
    assert "4711" not in shown
    assert "0815" not in shown


async def test_openai_api_key_is_the_default(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve("--key", "abc")
    with pytest.raises(TargetError, match="no API key was sent") as caught:
        await attach(url=url)
    assert "OPENAI_API_KEY" in str(caught.value.advice)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with pytest.raises(TargetError, match="not accepted"):
        await attach(url=url)
    monkeypatch.setenv("OPENAI_API_KEY", "abc")
    assert (await attach(url=url)).model == "tiny"


@pytest.mark.parametrize("options", [("--key", "abc"), ("--mode", "redirect")])
async def test_a_key_that_the_server_repeats_is_not_shown(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", 'geheim-"0815"')
    with pytest.raises(TargetError, match=r"Bearer \*\*\*") as caught:
        await attach(url=serve(*options))
    assert "geheim" not in f"{caught.value.message} {caught.value.advice}"


async def test_a_server_that_compresses_whatever_is_asked_for(serve: Serve) -> None:
    endpoint = await attach(url=serve("--mode", "gzip"))
    assert endpoint.model == "tiny"
    assert endpoint.info["server"] == "vLLM 1.2.3"


async def test_a_header_of_ones_own_replaces_the_key_in_any_case(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("MINE", "Bearer abc")
    endpoint = await attach(url=serve("--key", "abc"), headers={"authorization": {"env": "MINE"}})
    assert endpoint.all_headers() == {"authorization": "Bearer abc"}


@pytest.mark.parametrize(
    "block",
    [{"headers": {"X-Tenant": {"env": "ODD"}}}, {"api_key": {"env": "ODD"}}, {"api_key": {"file": "odd"}}],
)
async def test_a_secret_that_no_header_can_hold_is_said_without_it(
    block: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODD", "geheim→123")
    (tmp_path / "odd").write_text("geheim\n123\n")
    with pytest.raises(ConfigError, match=r"spec.target.existing.\w+.*: a header holds one line") as caught:
        await attach(url="http://127.0.0.1:1", **block)
    assert "geheim" not in f"{caught.value.message} {caught.value.advice}"


async def test_a_secret_that_is_not_there_is_a_mistake_of_configuration() -> None:
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
        await attach(url="http://127.0.0.1:1", api_key={"env": "NOT_SET_ANYWHERE"})


async def test_a_dead_url_fails_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(TargetError, match="refused") as caught:
        await attach(url=f"http://127.0.0.1:{free()}")
    assert time.monotonic() - started < 2
    assert caught.value.advice


async def test_an_unknown_host_is_named() -> None:
    with pytest.raises(TargetError, match=r"no-such-host\.invalid"):
        await attach(url="http://no-such-host.invalid")


@pytest.mark.parametrize(("mode", "match"), [("html", "no list of models"), ("redirect", "redirects to")])
async def test_what_is_no_openai_server_is_said(serve: Serve, mode: str, match: str) -> None:
    with pytest.raises(TargetError, match=match) as caught:
        await attach(url=serve("--mode", mode))
    assert "token=x" not in caught.value.message


async def test_tls(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    url = serve("--cert", str(tmp_path / "server.pem"))
    with pytest.raises(TargetError, match="not trusted") as caught:
        await attach(url=url)
    assert "ca_file" in str(caught.value.advice)
    assert (await attach(url=url, ca_file=str(tmp_path / "ca.pem"))).secure
    monkeypatch.chdir(tmp_path)
    named = (await attach(url=url, ca_file="ca.pem")).tls.ca_file
    assert named == str(tmp_path / "ca.pem"), "a tool that runs elsewhere finds it"
    assert (await attach(url=url, verify_tls=False)).model == "tiny"
    with pytest.raises(TargetError, match=r"cannot be read from .*missing\.pem"):
        await attach(url=url, ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(TargetError):
        await attach(url=url.replace("https", "http"))


async def test_https_to_a_plain_server_is_explained(serve: Serve) -> None:
    with pytest.raises(TargetError, match="TLS") as caught:
        await attach(url=serve().replace("http", "https"))
    assert "https" in str(caught.value.advice)
