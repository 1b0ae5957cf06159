"""A tool as a process: its output streamed into a log without secrets, and everything it started ended with it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from ...domain.errors import GeneratorError

MARK = "LLMD_BENCHMARK_TOOL"
"""Variable that every process of one tool inherits, by which those are found that left its process tree."""
GRACE_S = 5.0
POLL_S = 0.05
PUMP_S = 2.0
TAIL_LINES = 15
TAIL_BYTES = 16384
_CHUNK = 65536


class ToolProcess:
    """One running command of a tool. ``end`` must be called, whatever happened."""

    def __init__(self, process: Process, mark: str, pump: asyncio.Task[None]) -> None:
        self._process = process
        self._mark = mark
        self._pump = pump

    @staticmethod
    async def start(
        argv: Sequence[str], *, env: Mapping[str, str | None], cwd: Path, log: Path, hide: Sequence[str]
    ) -> ToolProcess:
        """Start a command.

        Args:
            env: variables over the inherited ones; None unsets one.
            log: file that stdout and stderr are appended to as they come.
            hide: secrets that are replaced in the log.

        Raises:
            GeneratorError: it cannot be started.
        """
        mark = secrets.token_hex(8)
        merged = {k: v for k, v in {**os.environ, "PYTHONUNBUFFERED": "1", **env, MARK: mark}.items() if v is not None}
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=merged, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
            )
        except OSError as error:
            raise GeneratorError(f"{argv[0]} cannot be started: {error.strerror or error}") from None
        assert process.stdout is not None
        pump = asyncio.create_task(_pump(process.stdout, log, [h.encode() for h in hide if h]))
        return ToolProcess(process, mark, pump)

    async def wait(self, timeout_s: float) -> int | None:
        """The exit code (negative: a signal), or None where it still runs after so many seconds."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), timeout_s)
        return None

    async def end(self) -> None:
        """End it and all it started: SIGTERM, and SIGKILL to what is left after a grace time."""
        await asyncio.shield(self._end())

    async def _end(self) -> None:
        if await self._signal(signal.SIGTERM, GRACE_S):
            await self._signal(signal.SIGKILL, GRACE_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._pump, PUMP_S)

    async def _signal(self, number: signal.Signals, wait_s: float) -> bool:
        """Send a signal to every process of the tool; whether some are left after the wait."""
        loop = asyncio.get_running_loop()
        family = await asyncio.to_thread(self._family)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        deadline = loop.time() + wait_s
        while family and loop.time() < deadline:
            family = [member for member in family if _alive(member)]
            if not family:
                break
            await asyncio.sleep(POLL_S)
        # What a dying process started in its last moments was in no list.
        return bool(await asyncio.to_thread(self._family))

    def _family(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                ours = process.pid == self._process.pid or process.environ().get(MARK) == self._mark
                if ours and _alive(process):
                    found.append(process)
        return found


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _pump(stream: asyncio.StreamReader, log: Path, hide: Sequence[bytes]) -> None:
    """Copy a stream into a file. Where there is something to hide, a line is written when it is whole."""
    rest = b""
    with log.open("ab", buffering=0) as file:
        while chunk := await stream.read(_CHUNK):
            rest += chunk
            cut = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1 if hide and len(rest) < _CHUNK else len(rest)
            file.write(redact(rest[:cut], hide))
            rest = rest[cut:]
        file.write(redact(rest, hide))


def redact(data: bytes, hide: Sequence[bytes]) -> bytes:
    """The data with every secret replaced."""
    for secret in hide:
        data = data.replace(secret, b"***")
    return data


def log_tail(log: Path) -> str:
    """The last lines of a log, indented; says so where there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    except OSError:
        lines = []
    tail = [line[:300] for line in lines if line.strip()][-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in tail) if tail else "    (it wrote nothing)"
