"""A server as a child process: started, logged, probed until it is ready, and stopped with everything it started."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.secrets import to_hide
from ..domain.endpoint import Endpoint
from ..domain.errors import TargetError
from .http import ProbeError
from .probe import ServerProbe

POLL_S = 0.1
PROBE_S = 2.0
GRACE_S = 5.0
TAIL_LINES = 15
TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start and how to know that it is ready.

    Attributes:
        env: variables over the tool's own environment.
        health_path: answers 2xx once the server is ready; a server without it is ready when it lists its models.
        ready_timeout, stop_timeout: seconds.
    """

    command: Sequence[str]
    log: Path
    health_path: str = "/health"
    ready_timeout: float = 600.0
    stop_timeout: float = 20.0
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None


@asynccontextmanager
async def running(spec: ChildSpec, endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    """The endpoint with ``pid`` set, once the server answers; the server and its children are gone afterwards.

    Raises:
        TargetError: it could not be started, ended before it was ready, or was not ready in time.
    """
    require_free(endpoint)
    supervisor = await _supervise(spec)
    ended: asyncio.Task[str] | None = None
    try:
        pid = await _started(supervisor, spec, to_hide(endpoint))
        ended = asyncio.create_task(_end(supervisor))
        endpoint = replace(endpoint, pid=pid)
        await _ready(spec, endpoint, ended)
        yield endpoint
    finally:
        await asyncio.shield(_stop(supervisor, spec.stop_timeout))
        if ended is not None:
            ended.cancel()


def free_port(host: str) -> int:
    """A TCP port that nothing listens on at this moment.

    Raises:
        TargetError: the host is not an address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise TargetError(
            f"no port can be opened on {host}: {error.strerror or error}",
            advice="spec.target.process.host is an address of this machine, e.g. 127.0.0.1",
        ) from None


def require_free(endpoint: Endpoint) -> None:
    """Refuse a port at which something answers already: it would be measured in place of the server started here.

    Raises:
        TargetError: the port is taken.
    """
    with suppress(OSError), socket.create_connection((endpoint.host, endpoint.port), timeout=1.0):
        raise TargetError(
            f"port {endpoint.port} of {endpoint.host} is taken by another program",
            advice="leave 'port' out to have a free one chosen, or --url to measure the server that is there",
        )


async def _supervise(spec: ChildSpec) -> Process:
    try:
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "llm_d_benchmark.target.supervise",
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise TargetError(f"no process can be started: {error.strerror or error}") from None


async def _started(supervisor: Process, spec: ChildSpec, hide: Sequence[str]) -> int:
    """Process id of the server, whose log is written without what there is to hide."""
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    request: dict[str, Any] = {
        "command": list(spec.command),
        "env": {**os.environ, **spec.env},
        "cwd": spec.cwd,
        "log": str(spec.log),
        "hide": list(hide),
        "stop_timeout": spec.stop_timeout,
    }
    with suppress(ConnectionError):  # its answer, or that there is none, says what is wrong
        supervisor.stdin.write(json.dumps(request).encode() + b"\n")
        await supervisor.stdin.drain()
    line = await supervisor.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": "its supervisor ended at once"}
    if "error" in answer:
        raise TargetError(
            f"the server's command {spec.command[0]!r} cannot be started: {answer['error']}",
            advice="is it installed and on PATH? Relative paths start at spec.target.process.cwd",
        )
    return int(answer["pid"])


async def _end(supervisor: Process) -> str:
    """How the server ended, as words; waits until it has."""
    assert supervisor.stdout
    line = await supervisor.stdout.readline()
    code = json.loads(line)["exit"] if line else None
    if code is None:
        return "was killed together with its supervisor"
    if code < 0:
        return f"was ended by signal {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def _ready(spec: ChildSpec, endpoint: Endpoint, ended: asyncio.Task[str]) -> None:
    probing = asyncio.create_task(_until_ready(spec, endpoint))
    started = time.monotonic()
    try:
        await asyncio.wait({probing, ended}, timeout=spec.ready_timeout, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise TargetError(
                f"the server {ended.result()} {time.monotonic() - started:.1f} s after its start\n{log_tail(spec.log)}",
                advice=f"its whole log: {spec.log}",
            )
        if not probing.done():
            raise TargetError(
                f"the server was not ready within {spec.ready_timeout:g} s\n{log_tail(spec.log)}",
                advice=f"raise ready_timeout if it was still loading; its whole log: {spec.log}",
            )
        probing.result()
    finally:
        probing.cancel()
        with suppress(asyncio.CancelledError, TargetError):
            await probing


async def _until_ready(spec: ChildSpec, endpoint: Endpoint) -> None:
    async with ServerProbe(endpoint) as probe:
        while not await _answers(probe, spec.health_path):  # noqa: ASYNC110 - another process gives no event
            await asyncio.sleep(POLL_S)


async def _answers(probe: ServerProbe, health_path: str) -> bool:
    try:
        status = await probe.health(health_path, timeout_s=PROBE_S)
        if status not in (404, 405) and not 200 <= status < 300:
            return False
        await probe.models(timeout_s=PROBE_S)
    except ProbeError as error:
        if error.reason in ("auth", "redirect"):
            raise
        return False
    return True


async def _stop(supervisor: Process, timeout_s: float) -> None:
    """Ask the supervisor to stop the server, and make an end of both where it does not."""
    if supervisor.stdin:
        supervisor.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(supervisor.wait(), timeout_s + GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(supervisor.pid, signal.SIGKILL)  # the supervisor leads the group; nothing is left of it normally
    await supervisor.wait()


def log_tail(log: Path) -> str:
    """The last lines of a server's log, indented; says so where there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    tail = [line for line in lines if line.strip()][-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in tail) if tail else "    (it wrote nothing)"
