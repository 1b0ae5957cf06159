"""Secrets taken out of text that others wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable

LONGEST_LINE = 65536


def redacted(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret replaced, also where it stands escaped in JSON."""
    forms = {"".join(secret) for secret in secrets}  # a Secret hides itself from str()
    forms |= {json.dumps(f, ensure_ascii=ascii_)[1:-1] for f in forms for ascii_ in (True, False)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


class LineRedactor:
    """Passes a stream of bytes on without secrets: a line when it is whole, so that no secret is seen in two parts. Of
    one that is too long as much is kept back as could be the beginning of a secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [s for s in secrets if s]
        self._longest = max((len(json.dumps(s).encode()) for s in self._secrets), default=0)
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What of all that came so far can be passed on now."""
        self._rest += data
        whole = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1
        if not self._secrets:
            whole = len(self._rest)
        elif not whole and len(self._rest) > LONGEST_LINE:
            self._rest = self._redacted(self._rest)
            whole = max(0, len(self._rest) - self._longest)
        given, self._rest = self._rest[:whole], self._rest[whole:]
        return self._redacted(given)

    def end(self) -> bytes:
        """The last line, where it has no end."""
        given, self._rest = self._rest, b""
        return self._redacted(given)

    def _redacted(self, data: bytes) -> bytes:
        if not self._secrets:
            return data
        return redacted(data.decode("utf-8", "surrogateescape"), self._secrets).encode("utf-8", "surrogateescape")
