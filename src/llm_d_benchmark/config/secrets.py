"""Secrets are named, never written: in a configuration stands {env: NAME} or {file: PATH}."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..domain.endpoint import Endpoint, Secret
from ..domain.errors import ConfigError
from ..domain.redaction import redacted
from .paths import Path as KeyPath
from .paths import format_path
from .target import SecretSource, TargetConfig, header_text
from .tree import Node

DEFAULT_KEY = "OPENAI_API_KEY"
SHORTEST_SECRET = 8
_SECRET_NAME = re.compile(
    r"token|bearer|cookie|set-cookie|(?:proxy-)?authorization|"
    r"(?:.*[-_])?(?:api[-_]?keys?|password|passwd|passphrase|secrets?|(?:private|access|secret)[-_]?key|credentials?|"
    r"(?:access|auth|hf|hugging[-_]?face|bearer|refresh|session|hub|github|api)[-_]?token)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"(?<![\w-])(?:sk-|hf_|ghp_|Bearer )[\w.-]{16,}")


def looks_secret(name: str) -> bool:
    """Whether a key or header of this name usually holds a secret (authorization, x-api-key, HF_TOKEN, ...)."""
    return _SECRET_NAME.fullmatch(name) is not None


def refuse_literals(document: Node) -> list[str]:
    """A message for each secret that is written out; the secret itself is in none of them."""
    return list(_literals(document, ()))


def _literals(node: Node, path: KeyPath) -> Iterator[str]:
    if node.is_mapping:
        for key, child in node.value.items():
            if looks_secret(key) and isinstance(child.value, str | int | float) and not isinstance(child.value, bool):
                yield _refusal(child, (*path, key), key)
            else:
                yield from _literals(child, (*path, key))
    elif node.is_list:
        for i, child in enumerate(node.value):
            before = node.value[i - 1].value if i else None
            if isinstance(before, str) and before.startswith("--") and looks_secret(before.lstrip("-")):
                if not re.search(r"\{\w+\}", str(child.value)):
                    yield _refusal(child, (*path, i), before)
            else:
                yield from _literals(child, (*path, i))
    elif isinstance(node.value, str) and _SECRET_VALUE.search(node.value):
        yield _refusal(node, path, "value")


def _refusal(node: Node, path: KeyPath, name: str) -> str:
    return (
        f"{node.origin}: {format_path(path)}: a secret must not stand in the configuration, which every run folder and "
        f"report copies; write {{env: NAME}} or {{file: PATH}} where it is taken"
        + ("" if "api_key" in name or "headers" in path else ", or set it in this command's environment")
    )


def resolve_secret(source: SecretSource, key: str, *, env: Mapping[str, str] | None = None) -> Secret:
    """The secret that a source names.

    Args:
        key: of the configuration, with which its errors begin (see ``LoadedConfig.locating``).
        env: environment to look in; default: the process's own.

    Raises:
        ConfigError: the variable is not set, or the file cannot be read or is empty.
    """
    if source.env is not None:
        value = (os.environ if env is None else env).get(source.env, "").strip()
        if not value:
            raise ConfigError(
                f"{key}: the environment variable {source.env}, which holds a secret, is not set",
                advice=f"export {source.env}=... in the shell that starts the run",
            )
        return Secret(value)
    path = Path(source.file or "")
    try:
        value = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{key}: the secret's file {path} cannot be read: {reason}") from None
    if not value:
        raise ConfigError(f"{key}: the secret's file {path} is empty")
    return Secret(value)


def resolve_variable(name: str | None, key: str) -> Secret | None:
    """The secret in an environment variable; None where none is named.

    Raises:
        ConfigError: see ``resolve_secret``.
    """
    return None if name is None else resolve_secret(SecretSource(env=name), key)


def resolve_api_key(source: SecretSource | None, key: str, *, env: Mapping[str, str] | None = None) -> Secret | None:
    """The key to send: what the source names, else OPENAI_API_KEY where it is set, else none.

    Raises:
        ConfigError: see ``resolve_secret``.
    """
    if source is not None:
        return _sendable(resolve_secret(source, key, env=env), key)
    value = (os.environ if env is None else env).get(DEFAULT_KEY, "").strip()
    return _sendable(Secret(value), DEFAULT_KEY) if value else None


def resolve_headers(
    headers: Mapping[str, str | SecretSource], key: str, *, env: Mapping[str, str] | None = None
) -> dict[str, str | Secret]:
    """Headers with every named secret in its place; ``key``: of them all.

    Raises:
        ConfigError: see ``resolve_secret``.
    """
    found: dict[str, str | Secret] = {}
    for name, value in headers.items():
        its = f"{key}.{format_path([name])}"
        found[name] = value if isinstance(value, str) else _sendable(resolve_secret(value, its, env=env), its)
    return found


def _sendable(secret: Secret, key: str) -> Secret:
    """The secret, where a header can hold it; ConfigError otherwise."""
    try:
        header_text(secret.reveal())
    except ValueError as error:
        raise ConfigError(f"{key}: {error}; this secret is something else", advice="is it the right one?") from None
    return secret


def require_secrets(target: TargetConfig, *, env: Mapping[str, str] | None = None) -> None:
    """Find out now, and not when the target is opened, whether the secrets that it names are there.

    Raises:
        ConfigError: see ``resolve_secret``.
    """
    for key, source in _named(target):
        _sendable(resolve_secret(source, key, env=env), key)


def secrets_of(target: TargetConfig, *, env: Mapping[str, str] | None = None) -> tuple[Secret, ...]:
    """Every secret that a target names and that is there, so that it can be kept out of logs and files."""
    sources = [(DEFAULT_KEY, SecretSource(env=DEFAULT_KEY)), *_named(target)]
    found: list[Secret] = []
    for key, source in sources:
        with suppress(ConfigError):  # the target itself says so, with advice, when it is opened
            found.append(resolve_secret(source, key, env=env))
    return tuple(dict.fromkeys(found))


def hideable(secrets: Iterable[Secret]) -> list[Secret]:
    """Those that can be replaced wherever they stand; the others are words, as a server's placeholder for a key is.

    ``EMPTY``, ``token`` or ``1`` stand in every file for reasons of their own: replacing them would hide nothing and
    destroy the file. So would what the published schema of the configuration says, its keys and allowed values.
    """
    found = [s for s in secrets if len(s) >= SHORTEST_SECRET and len(set(s)) > SHORTEST_SECRET // 2]
    return [s for s in found if s.reveal() not in _published_words()]


def to_hide(endpoint: Endpoint) -> list[str]:
    """The ``hideable`` secrets of an endpoint, in the clear."""
    return [s.reveal() for s in hideable(endpoint.secrets())]


def said_by(endpoint: Endpoint, words: str) -> str:
    """What a server said, fit for a message: servers repeat the key that they refuse."""
    return redacted(words, to_hide(endpoint))


@cache
def _published_words() -> str:
    from .schema import json_schema  # takes 40 ms, which a run without a key need not wait for

    return json.dumps(json_schema(), ensure_ascii=False)


def _named(target: TargetConfig) -> Iterator[tuple[str, SecretSource]]:
    """The secrets of a target by their keys."""
    block, key = getattr(target, target.type, None), f"spec.target.{target.type}"
    if variable := getattr(block, "api_key_env", None):
        yield f"{key}.api_key_env", SecretSource(env=variable)
    headers = getattr(block, "headers", None) or {}
    given = {"api_key": getattr(block, "api_key", None)} | {
        f"headers.{format_path([n])}": v for n, v in headers.items()
    }
    for name, source in given.items():
        if isinstance(source, SecretSource):
            yield f"{key}.{name}", source
