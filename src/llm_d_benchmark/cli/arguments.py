"""Values of command-line options that need more than typer's parsing."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..domain.errors import ConfigError
from ..domain.quantities import parse_duration
from ..domain.schedule import Shard

if TYPE_CHECKING:
    from ..config.layers import LoadedConfig

FAIL_ON = ("slo", "regression", "invalid")


def load(
    files: Sequence[Path] | None,
    *,
    sets: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    load_generator: str | None = None,
) -> LoadedConfig:
    """The configuration of these files, also of those that are a load generator's own.

    Raises:
        ConfigError: see ``load_config``.
    """
    from ..config.layers import load_config
    from ..loadgen.registry import own_file

    return load_config(
        files or [], sets=sets or [], overrides=overrides, load_generator=load_generator, own_file=own_file
    )


def target_overrides(url: str | None, model: str | None, target: str | None) -> dict[str, Any]:
    """``--url``, ``--model`` and ``--target`` as configuration.

    Raises:
        ConfigError: the options contradict each other.
    """
    if url and target not in (None, "existing"):
        raise ConfigError(f"--url names a server that is already there, --target {target} starts one; give one of them")
    kind = "existing" if url else target
    block: dict[str, Any] = {k: v for k, v in (("url", url), ("model", model)) if v is not None}
    if kind is None and not block:
        return {}
    spec: dict[str, Any] = {"type": kind} if kind else {}
    if block:
        spec[kind or "existing"] = block
    return {"spec": {"target": spec}}


def shard(text: str | None) -> Shard:
    """``I/N`` with I from 0 to N - 1.

    Raises:
        ConfigError: it is not of that form.
    """
    if text is None:
        return Shard()
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 0 <= int(index) < int(count)):
        raise ConfigError(f"--shard '{text}': write I/N with I from 0 to N-1, e.g. 0/3, 1/3 and 2/3 for three machines")
    return Shard(int(index), int(count))


def start_time(text: str | None) -> int | None:
    """Epoch ns of an ISO 8601 time, epoch seconds, or ``+SECONDS``.

    Raises:
        ConfigError: it is none of these, lies in the past, or after the year 2262, where 64 bits end.
    """
    if text is None:
        return None
    relative = text.startswith("+")
    try:
        if relative:
            at = time.time_ns() + int(float(text[1:].rstrip("s")) * 1e9)
        else:
            try:
                at = int(float(text) * 1e9)
            except ValueError:
                moment = datetime.fromisoformat(text)
                at = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9)
        at.to_bytes(8, signed=True)  # what a time in ns can be everywhere else
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--start-at '{text}': write an ISO 8601 time (UTC unless it has a zone), epoch seconds, or +30"
        ) from None
    if at < time.time_ns() and not relative:
        raise ConfigError(f"--start-at '{text}' lies in the past", advice="leave time for every machine to get ready")
    return at


def moment(option: str, text: str | None) -> int | None:
    """Epoch ns of an ISO 8601 date or time, or of ``7d``, ``12h`` ago.

    Raises:
        ConfigError: it is none of these.
    """
    if text is None:
        return None
    try:
        return time.time_ns() - int(parse_duration(text) * 1e9)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} '{text}': write 2026-01-31, an ISO 8601 time (UTC), or 7d, 12h ago") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9)


def labels(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """``KEY=VALUE`` of ``--label``.

    Raises:
        ConfigError: one has no equals sign.
    """
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--label '{text}': write KEY=VALUE, for example --label arm=test")
        pairs.append((key, value))
    return tuple(pairs)


def sources(tools: Sequence[str], paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each path with the tool that wrote it.

    Raises:
        ConfigError: neither one tool for all paths nor one for each.
    """
    if len(tools) > 1 and len(tools) != len(paths):
        raise ConfigError(f"--from is given {len(tools)} times for {len(paths)} paths: give it once, or once for each")
    each = tools if len(tools) == len(paths) else [tools[0] if tools else "auto"] * len(paths)
    return list(zip(each, paths, strict=True))


def fail_on(text: str) -> frozenset[str]:
    """The set of reasons named, ``none`` for no reason.

    Raises:
        ConfigError: an unknown reason.
    """
    names = {n.strip() for n in text.split(",") if n.strip()}
    if unknown := names - {*FAIL_ON, "none"}:
        raise ConfigError(f"--fail-on: unknown '{', '.join(sorted(unknown))}'; allowed: {', '.join(FAIL_ON)} or none")
    if "none" in names and len(names) > 1:
        raise ConfigError("--fail-on: 'none' goes alone")
    return frozenset(names - {"none"})


def command_line(loaded: LoadedConfig | None = None) -> str:
    """This process's command line as one would type it, with the variables that gave the configuration values."""
    given = [f"{name}={shlex.quote(os.environ[name])}" for name in loaded.variables] if loaded else []
    return " ".join([*given, shlex.join(["llm-d-benchmark", *sys.argv[1:]])])
