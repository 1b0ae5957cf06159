from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PROGRAM = str(Path(__file__).with_name("server_program.py"))


def command(*more: str) -> list[str]:
    return [sys.executable, PROGRAM, "--port", "{port}", *more]


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gone(pids: list[int], within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(_alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids_of(file: Path, within: float = 10.0) -> list[int]:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text()):
            return list(json.loads(text))
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start the server program with options; gives its URL."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> str:
            port = free()
            process = subprocess.Popen([sys.executable, PROGRAM, "--port", str(port), *options])
            stack.callback(process.wait)
            stack.callback(process.kill)
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            return f"{'https' if '--cert' in options else 'http'}://127.0.0.1:{port}"

        yield start


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
