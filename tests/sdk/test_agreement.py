"""Every kind of trouble has the same name in the kits' examples as in the native generator, or is documented."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.loadgen.registry import load_generator
from llm_d_benchmark.testing.jobs import NumberedSessions, closed, run
from tests.sdk.build import SDK, built_go, built_rust
from tests.support.openai_server import BEHAVIOURS, OpenAIServer

# A request that meets these is sent once more by every client, which would take the next one's behaviour; one that
# meets drop_late only by the examples, which do not ask when a connection ended.
TWICE = ("refuse", "drop_idle", "leave_idle", "drop_late")
KINDS = [name for name in BEHAVIOURS if name not in TWICE]
DIFFERENT = {"gzip": "truncated", "deflate": "truncated", "multi_line": "protocol", "error_event_plain": "truncated"}


def outcomes(command: list[str], folder: Path) -> dict[str, tuple[object, ...]]:
    """One request of each behaviour, one after another."""
    native = {"native": {"command": command}} if command else {"workers": 1}
    limits = {"timeouts": {"first_token": 0.5, "total": 1.0}}
    with OpenAIServer(ttft=0.005, itl=0.001, behaviour=lambda n: KINDS[n]) as server:
        endpoint, count = Endpoint(server.url, server.model), len(KINDS)
        generator = load_generator("command" if command else "native")
        schedule = NumberedSessions(count, server.model)
        records = run(generator, endpoint, folder, [closed(0, count, 1)], schedule, config={**native, **limits}).records
    numbers = ("output_tokens", "input_tokens", "http_status", "attempts")
    columns = [records.labels(name).to_list() for name in ("status", "error_class", "finish_reason")]
    columns += [records.ints(name).tolist() for name in numbers] + [records.ragged("chunk_times").lengths.tolist()]
    rows = zip(records.ints("request_id").tolist(), *columns, strict=True)
    return {KINDS[row[0]]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    return outcomes([], tmp_path_factory.mktemp("native"))


@pytest.mark.parametrize("kit", ["python", "go", "rust"])
def test_they_agree(kit: str, expected: dict[str, tuple[object, ...]], tmp_path: Path) -> None:
    if kit == "python":
        command = [sys.executable, str(SDK / "python/examples/openai_asyncio.py")]
    else:
        command = [built_go(tmp_path) if kit == "go" else built_rust()]
    found = outcomes(command, tmp_path)
    assert {k: v for k, v in found.items() if k not in DIFFERENT} == {
        k: v for k, v in expected.items() if k not in DIFFERENT
    }
    assert {k: found[k][1] for k in DIFFERENT} == DIFFERENT
