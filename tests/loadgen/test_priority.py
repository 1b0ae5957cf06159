"""The receiver's thread comes before Python's, where the system lets it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from llm_d_benchmark.loadgen.native.compiled import library
from tests.loadgen.compiled import compiled_receiver


def nices() -> list[int]:
    """The nice values of this process's threads."""
    stats = [task.joinpath("stat").read_text() for task in Path("/proc/self/task").iterdir()]
    return [int(stat.rpartition(")")[2].split()[16]) for stat in stats]


def test_only_its_thread_does() -> None:
    mine, may = os.getpriority(os.PRIO_PROCESS, 0), "may not" not in library.check().message
    deadline = time.monotonic() + 10
    with compiled_receiver():
        while may and library.NICE not in nices() and time.monotonic() < deadline:
            time.sleep(0.001)  # its thread has yet to begin
        found = nices()
    assert found.count(library.NICE) == may
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine


def test_doctor_says_where_it_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a system that refuses: the tests may be run by root, whom none refuses."""
    try:
        library.load()
    except library.ReceiverError as error:
        pytest.skip(f"no compiled receiver: {error}")

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    found = library.check()
    assert "may not raise its priority" in found.message
    assert found.advice is not None
    assert "CAP_SYS_NICE" in found.advice
