"""The extension point for targets: an async context that gives an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..domain.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What a target may use: ``log_dir`` for the server's logs (created by the target when needed)."""

    log_dir: Path


class Target(Protocol):
    """Brings a server up, or attaches to one, and takes down whatever it brought up.

    A target is built from its block of the configuration (``spec.target.<type>``, a validated model or a mapping).
    """

    type: str

    def plan(self) -> Mapping[str, Any]:
        """What would be started, for ``--dry-run``: command, url, expected memory in bytes. No side effects."""
        ...

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[Endpoint]:
        """Start or attach; ready when the context is entered, and everything started is gone when it is left.

        Raises:
            TargetError: it could not be started or reached; the message says why, with the tail of its log.
        """
        ...
