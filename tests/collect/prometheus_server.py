"""A real Prometheus server of this machine's package, with its own configuration and data."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import trustme

CONFIG = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: model
    static_configs: [{{targets: ["{target}"], labels: {{namespace: bench}}}}]
"""
USER, PASSWORD = "reader", "let me in"
WEB = "basic_auth_users: {reader: %s}\n"
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
HASH = "$2b$04$abcdefghijklmnopqrstuuTnc8amReAFiMHxaSoW9U22KarbWnkSm"
"""bcrypt of PASSWORD, at its least cost."""


@contextmanager
def prometheus(
    folder: Path,
    target: str | None,
    interval: str = "500ms",
    *,
    guarded: bool = False,
    authority: trustme.CA | None = None,
) -> Iterator[str]:
    """URL of a server that has scraped ``target`` (host:port); skips where Prometheus is not installed.

    Args:
        target: None for a server that scrapes nothing.
        guarded: it wants USER and PASSWORD.
        authority: it speaks https, as localhost, with a certificate of this one.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    config = folder / "prometheus.yml"
    config.write_text("" if target is None else CONFIG.format(target=target, interval=interval))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    web = WEB % HASH if guarded else ""
    if authority is not None:
        web += TLS
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(str(folder / "server.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    if web:
        (folder / "web.yml").write_text(web)
        command.append(f"--web.config.file={folder / 'web.yml'}")
    url = f"http://127.0.0.1:{port}" if authority is None else f"https://localhost:{port}"
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _until_known(url, "up==1" if target else "vector(1)", server, guarded, authority)
            yield url
        finally:
            server.terminate()


def _until_known(
    url: str, value: str, server: subprocess.Popen[bytes], guarded: bool, authority: trustme.CA | None
) -> None:
    limit = time.monotonic() + 30
    trust = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(trust)
    key = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    query = Request(f"{url}/api/v1/query?query={value}", headers={"Authorization": f"Basic {key}"} if guarded else {})
    while time.monotonic() < limit and server.poll() is None:
        try:
            with urlopen(query, timeout=2, context=trust) as answer:
                if json.load(answer)["data"]["result"]:
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError("Prometheus did not start, or scraped nothing")
