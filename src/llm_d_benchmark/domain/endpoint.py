"""An OpenAI-compatible server as a client needs to know it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class Secret(str):
    """A string that does not show itself in logs, tracebacks or reprs. ``reveal`` gives the plain value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        return "".join(self)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to verify an https server: the system's roots, or ``ca_file``; ``verify=False`` accepts anything."""

    verify: bool = True
    ca_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """The same for the standard library's clients and servers. Loading the roots takes tens of milliseconds.

        Raises:
            OSError: the file of trusted certificates cannot be read, or holds none.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go.

    Attributes:
        url: base URL without the API's own part: ``http://host:8000`` (a trailing /v1 of the user is cut off).
        model: default model name, None until it was discovered.
        headers: extra headers for every request; values may be Secret.
        pid: process id of the server where it is ours to know.
        info: what the target says of itself for the manifest (type, command, version, ...); no secrets.
    """

    url: str
    model: str | None = None
    api_key: Secret | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls = field(default_factory=Tls)
    pid: int | None = None
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    def secrets(self) -> list[Secret]:
        """What must not be seen in anything that is written."""
        return [s for s in (self.api_key, *self.headers.values()) if s and isinstance(s, Secret)]

    def all_headers(self) -> dict[str, str]:
        """Every header to send, secrets in the clear: for the wire only, never for a log or a file."""
        plain = {k: v.reveal() if isinstance(v, Secret) else v for k, v in self.headers.items()}
        return headers_over(plain, {"Authorization": f"Bearer {self.api_key.reveal()}"} if self.api_key else {})


def headers_over(headers: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """``defaults`` with ``headers`` in their place, whose names may be in another case."""
    given = {name.lower() for name in headers}
    return {k: v for k, v in defaults.items() if k.lower() not in given} | dict(headers)
