"""The generator as a process: lines to its stdin, lines from its stdout, its stderr in a log file."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from ...config.secrets import to_hide
from ...domain.endpoint import Endpoint
from ...domain.errors import GeneratorError
from ..external.process import MARK, ToolProcess, log_tail, pump
from .messages import HEADERS_ENV, FromGenerator, ToGenerator, decode, encode
from .settings import CommandSettings

LINE_BYTES = 2**26
_WAITING = 64  # messages read ahead; beyond that the generator waits
_EXIT_S = 2.0


class Child:
    """A running generator; an async context that ends it, with all it started."""

    def __init__(self, settings: CommandSettings, endpoint: Endpoint, log_dir: Path) -> None:
        self.settings = settings
        self.log = log_dir / "generator.log"
        self.heard = time.monotonic()
        self._endpoint = endpoint
        self._messages: asyncio.Queue[FromGenerator | GeneratorError | None] = asyncio.Queue(_WAITING)

    async def __aenter__(self) -> Child:
        """Start it.

        Raises:
            GeneratorError: it cannot be started.
        """
        settings, mark = self.settings, secrets.token_hex(8)
        headers = {HEADERS_ENV: json.dumps(self._endpoint.all_headers())}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *settings.command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **settings.env, **headers, MARK: mark},
                cwd=settings.cwd,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                limit=LINE_BYTES,
            )
        except OSError as error:
            raise GeneratorError(
                f"the generator's program {settings.command[0]!r} cannot be started: {error.strerror or error}",
                advice="is it installed, built and executable? Relative paths start at native.cwd",
            ) from None
        assert self._process.stderr is not None
        self._logging = asyncio.create_task(pump(self._process.stderr, self.log, to_hide(self._endpoint)))
        self._reading = asyncio.create_task(self._read())
        self._tool = ToolProcess(self._process, mark, self._logging)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await self._tool.end()

    @property
    def process(self) -> Process:
        return self._process

    def send(self, message: ToGenerator) -> None:
        """Put a message on its way; one to a generator that is gone is lost, which its end of stdout tells."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(encode(message))

    async def drain(self) -> None:
        """Wait until it has read most of what was sent."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            await self._process.stdin.drain()

    async def receive(self, timeout_s: float) -> FromGenerator | None:
        """Its next message; None where none came in time.

        Raises:
            GeneratorError: it broke the protocol or ended.
        """
        try:
            message = await asyncio.wait_for(self._messages.get(), max(0.0, timeout_s))
        except TimeoutError:
            return None
        if isinstance(message, GeneratorError):
            raise message
        if message is None:
            raise await self.failure(f"{self.settings.program} {await self._ended()}")
        return message

    async def failure(self, what: str) -> GeneratorError:
        """An error with the end of its log."""
        await asyncio.wait({self._logging}, timeout=0.2)
        return GeneratorError(f"{what}\n{log_tail(self.log)}", advice=f"its whole log: {self.log}")

    async def exited(self, timeout_s: float) -> bool:
        """Whether it ended by itself within so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout_s)
        return self._process.returncode is not None

    async def cpu_s(self) -> float:
        """CPU seconds that it and its living descendants used so far."""
        return await asyncio.to_thread(_cpu, self._process.pid)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                await self._messages.put(
                    await self.failure(f"{self.settings.program} wrote a line over {LINE_BYTES} B")
                )
                return
            if not line:
                await self._messages.put(None)
                return
            self.heard = time.monotonic()
            try:
                message = decode(line)
            except ValueError as error:
                await self._messages.put(await self.failure(f"{self.settings.program} broke the protocol: {error}"))
                return
            await self._messages.put(message)

    async def _ended(self) -> str:
        if not await self.exited(_EXIT_S):
            return "closed its output before it said done"
        code = self._process.returncode or 0
        if code < 0:
            return f"was ended by signal {signal.Signals(-code).name} before it said done"
        return f"ended with exit code {code} before it said done"


def _cpu(pid: int) -> float:
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                used = process.cpu_times()
                total += used.user + used.system
    return total
