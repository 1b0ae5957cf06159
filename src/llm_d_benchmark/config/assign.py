"""Single assignments over the files: ``--set PATH=VALUE`` and ``LLM_D_BENCHMARK_*`` variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..domain.errors import ConfigError
from ..domain.events import Finding, Severity
from .paths import Path, parse_path
from .shape import canonical_path
from .source import read_value
from .spelling import nearest
from .tree import Node, put, tree_of

PREFIX = "LLM_D_BENCHMARK_"
NO_KEYS = frozenset({"LLM_D_BENCHMARK_CACHE"})
"""Variables of the prefix that are no configuration keys."""
ROOTS = ("spec", "metadata")
ENV = "env "
"""What an origin begins with that is the name of a variable."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One key, its value, and what gave it: "--set" or "env NAME"; ``label`` is what errors call it."""

    path: Path
    value: Node
    label: str


def from_flags(sets: Iterable[str]) -> Iterator[Assignment]:
    """``spec.benchmark.duration=30m``: a path of keys and a value in YAML.

    Raises:
        ConfigError: not of that form.
    """
    for text in sets:
        key, equals, value = _split(text)
        if not equals:
            raise ConfigError(f"--set {text}: write PATH=VALUE, for example spec.benchmark.duration=30m")
        try:
            path = parse_path(key.strip())
        except ValueError as error:
            raise ConfigError(f"--set {text}: {error}") from None
        if path[0] not in ROOTS:
            raise ConfigError(
                f"--set {key}: a path starts with spec. or metadata.{nearest(str(path[0]), ROOTS)}",
                advice=f"for example --set spec.{key}={value}",
            )
        yield Assignment(canonical_path(path), tree_of(read_value(value, f"--set {key}"), "--set"), f"--set {key}")


def _split(text: str) -> tuple[str, str, str]:
    """At the first "=" that is not inside a quoted key."""
    quoted = False
    for i, char in enumerate(text):
        quoted ^= char == '"'
        if char == "=" and not quoted:
            return text[:i], "=", text[i + 1 :]
    return text, "", ""


def from_environment(env: Mapping[str, str], findings: list[Finding]) -> Iterator[Assignment]:
    """``LLM_D_BENCHMARK_SPEC__BENCHMARK__DURATION=30m``: the path in capitals, ``__`` between keys and list positions.

    A variable that is set but empty counts as not set. Variables of the prefix that name no key are reported.

    Raises:
        ConfigError: the value is not YAML.
    """
    for name in sorted(env):
        if not name.startswith(PREFIX) or name in NO_KEYS or not env[name].strip():
            continue
        parts = name[len(PREFIX) :].lower().split("__")
        if parts[0] not in ROOTS or len(parts) < 2 or not all(parts):
            findings.append(
                Finding(
                    "environment_unknown",
                    Severity.WARNING,
                    f"the environment variable {name} names no configuration key and has no effect",
                    f"write the path of a key in capitals, parts joined by __: {PREFIX}SPEC__BENCHMARK__DURATION=30m",
                )
            )
            continue
        path = canonical_path(tuple(int(p) if p.isdecimal() else p for p in parts))
        yield Assignment(path, tree_of(read_value(env[name], name), ENV + name), ENV + name)


def assign(document: Node, assignments: Iterable[Assignment]) -> Node:
    """The document with each assignment made in turn.

    Raises:
        ConfigError: a path that leads through a scalar, or beyond the end of a list.
    """
    for item in assignments:
        try:
            document = put(document, item.path, item.value)
        except ValueError as error:
            raise ConfigError(f"{item.label}: {error}") from None
    return document
