"""A tool as a process: its output streamed into a log without secrets, and everything it started ended with it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ...domain.errors import GeneratorError
from ...domain.redaction import LineRedactor
from .guard import MARK, end_family

GRACE_S = 5.0
_PLAIN: Mapping[str, str | None] = {
    "PYTHONUNBUFFERED": "1", "PYTHONPATH": None, "PYTHONHOME": None, "NO_PROXY": "*", "no_proxy": "*",
}  # fmt: skip
"""What of our own environment must not reach a tool: our modules, and proxies, which would be measured too."""
PUMP_S = 2.0
TAIL_LINES = 15
TAIL_BYTES = 16384
_CHUNK = 65536


class ToolProcess:
    """One running command of a tool. ``end`` must be called, whatever happened."""

    def __init__(self, process: Process, mark: str, pump: asyncio.Task[None], guard: Process | None = None) -> None:
        self._process = process
        self._guard = guard
        self._mark = mark
        self._pump = pump

    @staticmethod
    async def start(
        argv: Sequence[str], *, env: Mapping[str, str | None], cwd: Path, log: Path, hide: Sequence[str]
    ) -> ToolProcess:
        """Start a command, and beside it a guard that ends it should this process die.

        Args:
            env: variables over the inherited ones; None unsets one.
            log: file that stdout and stderr are appended to as they come.
            hide: secrets that are replaced in the log.

        Raises:
            GeneratorError: it cannot be started.
        """
        mark = secrets.token_hex(8)
        merged = {k: v for k, v in {**os.environ, **_PLAIN, **env, MARK: mark}.items() if v is not None}
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=merged, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
            )
        except OSError as error:
            raise GeneratorError(f"{argv[0]} cannot be started: {error.strerror or error}") from None
        assert process.stdout is not None
        pumping = asyncio.create_task(pump(process.stdout, log, hide))
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llm_d_benchmark.loadgen.external.guard"),
            *(str(process.pid), mark, str(GRACE_S)),
            stdin=PIPE,
            start_new_session=True,
        )
        return ToolProcess(process, mark, pumping, guard)

    async def wait(self, timeout_s: float) -> int | None:
        """The exit code (negative: a signal), or None where it still runs after so many seconds."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), timeout_s)
        return None

    async def interrupt(self, timeout_s: float) -> None:
        """Ask it to end, as Ctrl-C would, so that it writes what it has; wait for that, for so many seconds at most."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        await self.wait(timeout_s)

    async def end(self) -> None:
        """End it and all it started: SIGTERM, and SIGKILL to what is left after a grace time."""
        await asyncio.shield(self._end())

    async def _end(self) -> None:
        await asyncio.to_thread(end_family, self._process.pid, self._mark, GRACE_S)
        for wait in (self._process.wait(), self._pump):
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(wait, PUMP_S)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()


async def pump(stream: asyncio.StreamReader, log: Path, hide: Sequence[str]) -> None:
    """Copy a stream into a file. Where there is something to hide, a line is written when it is whole."""
    redactor, full = LineRedactor(hide), False
    with log.open("ab", buffering=0) as file:
        while chunk := await stream.read(_CHUNK):
            full = full or not _written(file, redactor.feed(chunk))
        if not full:
            _written(file, redactor.end())


def _written(file: BinaryIO, data: bytes) -> bool:
    """False where the disk is full: the tool is read on, or it would wait for ever."""
    try:
        file.write(data)
    except OSError:
        return False
    return True


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


__all__ = ["MARK", "ToolProcess", "log_tail", "pump"]
