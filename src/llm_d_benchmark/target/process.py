"""A server that is started for the run from a command template and stopped after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ..config.secrets import resolve_api_key
from ..config.target import ProcessTargetConfig
from ..domain.endpoint import Endpoint
from ..domain.errors import ConfigError
from .api import TargetContext
from .attach import attach
from .child import ChildSpec, free_port, running
from .command import placeholders, render

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ProcessTarget:
    """Starts a command, waits until it answers, and stops it with everything it started."""

    type = "process"

    def __init__(self, config: ProcessTargetConfig) -> None:
        self._config = config
        if config.port is None and "port" not in placeholders(config.command):
            raise ConfigError(
                "the command has no {port}, so the port of its server is not known",
                advice="put {port} into spec.target.process.command, or set spec.target.process.port",
            )
        self._command(config.port or 0)

    def plan(self) -> Mapping[str, Any]:
        """Command and address; the port is "(free)" where one will be chosen."""
        port = self._config.port or "(free)"
        return {"command": self._command(port), "url": self._url(port), "ready_timeout": self._config.ready_timeout}

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[Endpoint]:
        """Start, and stop at the end.

        Raises:
            TargetError: it could not be started or did not get ready; the message holds the tail of its log.
        """
        return self._open(context)

    @asynccontextmanager
    async def _open(self, context: TargetContext) -> AsyncIterator[Endpoint]:
        config = self._config
        port = config.port or free_port(config.host)
        command = self._command(port)
        spec = ChildSpec(
            command=command,
            log=context.log_dir / "server.log",
            health_path=config.health_path,
            ready_timeout=config.ready_timeout,
            stop_timeout=config.stop_timeout,
            env=config.env,
            cwd=config.cwd,
        )
        key = resolve_api_key(config.api_key, "spec.target.process.api_key")
        address = Endpoint(url=self._url(port), model=config.model, api_key=key)
        async with running(spec, address) as endpoint:
            yield await attach(endpoint, {"type": self.type, "command": command})

    def _command(self, port: int | str) -> list[str]:
        config = self._config
        return render(config.command, config.args, {"host": config.host, "port": port, "model": config.model})

    def _url(self, port: int | str) -> str:
        host = EVERYWHERE.get(self._config.host, self._config.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
