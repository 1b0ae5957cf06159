"""A real Prometheus server of this machine's package, with its own configuration and data."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

CONFIG = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: model
    static_configs: [{{targets: ["{target}"], labels: {{namespace: bench}}}}]
"""
USER, PASSWORD = "reader", "let me in"
WEB = "basic_auth_users: {reader: %s}\n"
HASH = "$2b$04$abcdefghijklmnopqrstuuTnc8amReAFiMHxaSoW9U22KarbWnkSm"
"""bcrypt of PASSWORD, at its least cost."""


@contextmanager
def prometheus(folder: Path, target: str, interval: str = "500ms", *, guarded: bool = False) -> Iterator[str]:
    """URL of a server that has scraped ``target`` (host:port) a few times; skips where Prometheus is not installed.

    Args:
        guarded: it wants USER and PASSWORD.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(target=target, interval=interval))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    if guarded:
        (folder / "web.yml").write_text(WEB % HASH)
        command.append(f"--web.config.file={folder / 'web.yml'}")
    url = f"http://127.0.0.1:{port}"
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _until_scraped(url, server, guarded)
            yield url
        finally:
            server.terminate()


def _until_scraped(url: str, server: subprocess.Popen[bytes], guarded: bool) -> None:
    limit = time.monotonic() + 30
    key = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    query = Request(f"{url}/api/v1/query?query=up==1", headers={"Authorization": f"Basic {key}"} if guarded else {})
    while time.monotonic() < limit and server.poll() is None:
        try:
            with urlopen(query, timeout=2) as answer:
                if json.load(answer)["data"]["result"]:
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError("Prometheus did not start, or scraped nothing")
