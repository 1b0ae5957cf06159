"""A disk that runs full: one clear message, what was written stays, nothing is left running."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_d_benchmark.store.folder import RunFolder
from tests.e2e.command import bench, sets
from tests.support.openai_server import OpenAIServer


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_the_run_with_one_message(small_disk: Path, tmp_path: Path) -> None:
    with OpenAIServer(ttft=0.002, itl=0.0005) as server:
        load = sets(concurrency=16, duration="60s", input_length=16, output_length=16)
        done = bench("run", "--url", server.url, "-o", str(small_disk), "--progress", "none", *load, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert "No space left" in done.stderr
    assert "--output" in done.stderr
    assert "Traceback" not in done.stderr
    (path,) = small_disk.iterdir()
    folder = RunFolder.open(path)
    assert sum(map(len, folder.parts())) > 0
    assert list(path.glob("records/*.partial")) == []
