"""Which server was measured: facts that do not depend on where it runs, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OWNERS = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp"}
TRANSPORTS = ("uvicorn", "hypercorn", "granian", "nginx", "envoy", "istio-envoy", "python", "caddy", "cloudflare")
"""Server headers of web servers in front of, or under, an inference server; they do not name it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of /v1/models. ``max_model_len`` is in tokens, per request; None where not told."""

    id: str
    aliases: tuple[str, ...] = ()
    owned_by: str | None = None
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None

    @staticmethod
    def of(item: Mapping[str, Any]) -> Listed:
        meta = item.get("meta")
        length = item.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
        aliases = item.get("aliases")
        return Listed(
            id=str(item["id"]),
            aliases=tuple(str(a) for a in aliases) if isinstance(aliases, list) else (),
            owned_by=_text(item.get("owned_by")),
            root=_text(item.get("root")),
            parent=_text(item.get("parent")),
            max_model_len=length if isinstance(length, int) else None,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """``server`` is name and version where the server tells; ``fingerprint`` is a sha256 in hex."""

    server: str | None
    fingerprint: str
    max_model_len: int | None = None
    root: str | None = None

    def info(self) -> dict[str, object]:
        facts: dict[str, object] = {"fingerprint": self.fingerprint}
        for key in ("server", "max_model_len", "root"):
            if (value := getattr(self, key)) is not None:
                facts[key] = value
        return facts


def describe(model: str | None, listed: Sequence[Listed] | None, version: str | None, header: str | None) -> Identity:
    """The identity behind what a server says.

    Args:
        version: of its /version.
        header: its Server header.
    """
    entry = next((m for m in listed or () if model in (m.id, *m.aliases)), None)
    server = _server(entry.owned_by if entry else None, version, header)
    length, root = (entry.max_model_len, entry.root) if entry else (None, None)
    facts = {"model": model, "root": root, "server": server, "max_model_len": length}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Identity(server, digest, length, root)


def _server(owner: str | None, version: str | None, header: str | None) -> str | None:
    product = header if header and not header.lower().startswith(TRANSPORTS) else None
    name = OWNERS.get((owner or "").lower()) or product
    if name is None:
        return f"version {version}" if version else None
    return f"{name} {version}" if version else name


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
