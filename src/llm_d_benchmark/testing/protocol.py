"""What every executable of ``type: command`` must do, as tests: subclass ``ProtocolConformance`` and name the command.

class TestMine(ProtocolConformance):
    @pytest.fixture
    def command(self):
        return ["./my-generator"]

    @pytest.fixture
    def endpoint(self):
        return Endpoint("http://127.0.0.1:8000", "model")   # a server that answers well

The suite of all load generators, and what only the protocol asks for. Needs jsonschema and pytest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from ..domain.schedule import Load, Stage
from ..loadgen.api import LoadGenerator
from ..loadgen.command.generator import CommandLoadGenerator
from ..loadgen.command.messages import HEADERS_ENV, PROTOCOL, SCHEMA
from .jobs import NumberedSessions
from .load_generator import LoadGeneratorConformance
from .server import ExactServer

Line = dict[str, Any]


class ProtocolConformance(LoadGeneratorConformance):
    """Tests of one executable; the fixture ``command`` is its argument list."""

    @pytest.fixture
    def generator(self) -> LoadGenerator:
        return CommandLoadGenerator()

    @pytest.fixture(autouse=True)
    def _native(self, command: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self, "native", {"command": list(command)}, raising=False)

    def test_every_line_is_a_message_of_the_protocol(
        self, generator: LoadGenerator, command: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from jsonschema import Draft202012Validator

        tap = [sys.executable, "-m", "llm_d_benchmark.testing.protocol", str(tmp_path)]
        monkeypatch.setattr(self, "native", {"command": [*tap, *command]})
        with ExactServer() as server:
            server.behaviour = lambda n: "http_500" if n % 4 == 0 else "ok"
            stages = [Stage(0, "a", Load(concurrency=4), duration_s=1.5), Stage(1, "b", Load(rate=50), num_requests=20)]
            ran = self._on(server, generator, tmp_path, stages, NumberedSessions(10_000, "exact"))
        told = {side: _lines(tmp_path / f"{side}.jsonl") for side in ("in", "out")}
        definitions = json.loads(SCHEMA.read_text())["$defs"]
        for side, name in (("in", "ToGenerator"), ("out", "FromGenerator")):
            validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": definitions})
            for line in told[side]:
                validator.validate(line)
        self._check_order(told["out"])
        rows = [row["request_id"] for line in told["out"] if line["type"] == "records" for row in line["rows"]]
        assert sorted(rows) == sorted(ran.records.ints("request_id").tolist())
        self._check_credit(told["in"], told["out"])

    def _check_order(self, lines: Sequence[Line]) -> None:
        kinds = [line["type"] for line in lines]
        assert (kinds[0], kinds[-1]) == ("ready", "done")
        assert [line["stage"] for line in lines if line["type"] == "stage_end"] == [0, 1]
        assert kinds.count("progress") >= 2
        sent: set[int] = set()
        for line in lines:
            if line["type"] == "sent":
                sent.update(line["requests"])
            elif line["type"] == "records":
                assert {row["request_id"] for row in line["rows"]} <= sent

    def _check_credit(self, orders: Sequence[Line], lines: Sequence[Line]) -> None:
        given, handed = Counter[int](), Counter[int]()
        for line in lines:
            if line["type"] == "credit":
                given[line["stage"]] += line["sessions"]
        for order in orders:
            if order["type"] == "schedule":
                handed[order["stage"]] += len(order["sessions"])
        assert handed[1] == 20
        assert all(handed[stage] <= given[stage] for stage in handed)

    def test_it_ends_when_the_tool_is_gone(self, command: Sequence[str]) -> None:
        with _started(command) as process:
            assert _ask(process, _hello())["type"] == "ready"
            assert process.stdin is not None
            process.stdin.close()
            process.wait(5)

    def test_it_says_what_it_is_and_passes_over_what_it_does_not_know(self, command: Sequence[str]) -> None:
        with _started(command) as process:
            hello = {**_hello(), "from_a_later_version": {"x": 1}}
            ready = _ask(process, {"type": "from_a_later_version"}, hello)
            assert ready["type"] == "ready"
            assert ready["protocol"] == PROTOCOL
            assert ready["name"]
            assert ready["capabilities"]
            assert _ask(process, {"type": "quit"}) == {"type": "done"}
            assert process.wait(5) == 0

    def test_it_refuses_a_protocol_it_does_not_speak(self, command: Sequence[str]) -> None:
        with _started(command) as process:
            _write(process, {**_hello(), "protocol": "llm-d-benchmark.loadgen/999"})
            line = process.stdout.readline() if process.stdout else b""
            assert not line or json.loads(line)["type"] == "error"
            process.wait(5)


@contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, HEADERS_ENV: "{}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env) as child:
        watch = threading.Timer(20, child.kill)
        watch.start()
        try:
            yield child
        finally:
            watch.cancel()
            child.kill()


def _hello() -> Line:
    return {
        "type": "hello", "protocol": PROTOCOL, "tool_version": "0",
        "endpoint": {"url": "http://127.0.0.1:9", "model": "m", "headers_env": HEADERS_ENV,
                     "tls": {"verify": True, "ca_file": None}},
        "parameters": {}, "timeouts": {"connect_s": 1.0, "first_token_s": 1.0, "total_s": 1.0},
        "retries": {"max": 0, "on": [], "backoff_s": 0.5}, "shard": {"index": 0, "count": 1}, "config": {},
    }  # fmt: skip


def _write(process: subprocess.Popen[bytes], *messages: Line) -> None:
    assert process.stdin is not None
    process.stdin.writelines(json.dumps(message).encode() + b"\n" for message in messages)
    process.stdin.flush()


def _ask(process: subprocess.Popen[bytes], *messages: Line) -> Line:
    _write(process, *messages)
    assert process.stdout is not None
    answer: Line = json.loads(process.stdout.readline())
    return answer


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _tap(folder: Path, command: Sequence[str]) -> int:
    """Run a command between our stdin and stdout, and keep what is said in ``in.jsonl`` and ``out.jsonl``."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    ours = open(0, "rb", closefd=False)  # noqa: SIM115 - not sys.stdin, whose lock would hold up the end
    inward = threading.Thread(target=_copy, args=(ours, child.stdin, folder / "in.jsonl"), daemon=True)
    inward.start()
    _copy(child.stdout, sys.stdout.buffer, folder / "out.jsonl")
    return child.wait()


def _copy(source: IO[bytes], to: IO[bytes], log: Path) -> None:
    with log.open("ab") as file:
        for line in source:
            file.write(line)
            file.flush()
            to.write(line)
            to.flush()
    to.close()


if __name__ == "__main__":
    sys.exit(_tap(Path(sys.argv[1]), sys.argv[2:]))
