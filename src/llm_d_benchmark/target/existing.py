"""A server that is already running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from ..config.secrets import resolve_api_key, resolve_headers
from ..config.target import ExistingTargetConfig
from ..domain.endpoint import Endpoint, Tls
from .api import TargetContext
from .attach import attach, normalise_url

KEY = "spec.target.existing"


class ExistingTarget:
    """Attaches to any OpenAI-compatible server and leaves it as it was."""

    type = "existing"

    def __init__(self, config: ExistingTargetConfig) -> None:
        self._config = config

    def plan(self) -> Mapping[str, Any]:
        """The URL and the model, where one is given."""
        return {"url": normalise_url(self._config.url), "model": self._config.model or "the first the server lists"}

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[Endpoint]:
        """Attach.

        Raises:
            TargetError: the server does not answer, refuses the key, or does not have the model.
            ConfigError: a secret that is named is not there.
        """
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Endpoint]:
        config = self._config
        endpoint = Endpoint(
            url=normalise_url(config.url),
            model=config.model,
            api_key=resolve_api_key(config.api_key, f"{KEY}.api_key"),
            headers=resolve_headers(config.headers, f"{KEY}.headers"),
            tls=_tls(config),
        )
        yield await attach(endpoint, {"type": self.type})


def _tls(config: ExistingTargetConfig) -> Tls:
    # By its whole path, as the tools that read it run in folders of their own.
    return Tls(config.verify_tls, None if config.ca_file is None else str(Path(config.ca_file).absolute()))
