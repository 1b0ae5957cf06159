"""A PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGED = "/usr/lib/postgresql"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server of our own; it refuses to run as root, so root lends it to another user."""
    pytest.importorskip("psycopg", reason="the [postgresql] extra is not installed")
    found = sorted(Path(PACKAGED).glob("*/bin/initdb"))
    programs = found[-1].parent if found else Path(shutil.which("initdb") or "/nowhere").parent
    if not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server is installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = "postgres" if os.geteuid() == 0 else None

    def do(*command: object) -> None:
        done = subprocess.run(
            [str(c) for c in command],
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"

    # not in pytest's own folder, which is closed to other users
    with tempfile.TemporaryDirectory(prefix="llm-d-", ignore_cleanup_errors=True) as folder:
        shutil.chown(folder, user) if user else None
        data = Path(folder) / "data"
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        do(programs / "initdb", "-D", data, "-U", "bench", "-A", "trust")
        do(programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
        finally:
            do(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
