"""Layers: flags over environment over files over defaults, into one validated configuration that knows its origins."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from ..domain.endpoint import Secret
from ..domain.errors import ConfigError
from ..domain.events import Finding, Severity
from . import assign
from .defaults import fill
from .explain import validate
from .files import folder_of, with_absolute_paths
from .foreign.own import OwnFileOf
from .foreign.read import is_of, own_keys
from .model import BenchmarkConfig
from .paths import Path as KeyPath
from .paths import format_path
from .resolve import resolve_target
from .secrets import hideable, refuse_literals, secrets_of
from .shape import (
    BLOCKS,
    ENVELOPE,
    GENERATORS,
    LOAD_SPELLINGS,
    generator_types,
    generators_for,
    has_generator_list,
    is_generator_config,
    load_keys,
    pick_generator,
    to_document,
)
from .source import read_file, read_text, write_text
from .tree import Node, merge, put, tree_of, without

T = TypeVar("T")
DEFAULT = "default"


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: every default filled in.
        origins: of each value of ``config.to_dict()``, by the path of its key: "file:line", "env NAME", "--set",
            "flag", "default".
        warnings: deprecations and the like, to be shown once.
        digest: sha256 (hex) of the resolved configuration; the same for the same configuration, however it was given.
    """

    config: BenchmarkConfig
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[Finding] = ()
    digest: str = ""

    def to_yaml(self) -> str:
        """The resolved configuration as config.yaml holds it; ``load_resolved`` reads it back."""
        return write_text(self.config.to_dict())

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Errors that begin with a key, raised within, say where that key was given."""
        try:
            yield
        except ConfigError as error:
            raise ConfigError(self.located(error.message), advice=error.advice) from None

    def located(self, message: str) -> str:
        """A message that begins with a key, with where that key was given before it; any other as it is."""
        key = message.partition(": ")[0]
        given = {o for k, o in self.origins.items() if (k == key or k.startswith(f"{key}.")) and o != DEFAULT}
        return f"{min(given)}: {message}" if given else message

    def placed(self, findings: Iterable[Finding]) -> list[Finding]:
        """Findings with ``located`` messages."""
        return [replace(f, message=self.located(f.message)) for f in findings]

    @property
    def variables(self) -> list[str]:
        """Names of the environment variables that gave values; those that hold secrets are not among them."""
        begin = assign.ENV + assign.PREFIX
        return sorted({o.removeprefix(assign.ENV) for o in self.origins.values() if o.startswith(begin)})

    def secrets(self) -> list[Secret]:
        """Secrets that this run uses, to be kept out of whatever is written."""
        return hideable(secrets_of(resolve_target(self.config)))


def _no_own_file(_: str) -> None:
    return None


def load_config(
    files: Sequence[Path],
    *,
    sets: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    load_generator: str | None = None,
    own_file: OwnFileOf = _no_own_file,
) -> LoadedConfig:
    """Load configuration files, later over earlier: mappings merge key by key, lists and values are replaced.

    Args:
        files: YAML files; none for the defaults.
        sets: ``path=value`` assignments.
        env: where LLM_D_BENCHMARK_* variables are looked up; default: the process's environment.
        overrides: nested values of other flags (--url, --model, --target), over everything else.
        load_generator: run only the generators of this type; a file without ``kind`` that is no known block is then
            its configuration. List positions in ``sets`` count the generators that are left.
        own_file: how a generator's own files are read.

    Raises:
        ConfigError: every mistake, with file, line, key and what is allowed.
    """
    findings: list[Finding] = []
    document, own = _read(files, load_generator, own_file, findings)
    if not has_generator_list(document):
        validate(document)  # its errors say more than a step that stumbles over the wrong kind of value
    found: list[Node] = []
    if load_generator is not None:
        keys, found = _translated(own, document, load_generator, own_file, findings)
        document = pick_generator(document, load_generator, keys, findings)
    document, named = _with_config_files(document, own_file, findings)
    found = found or named
    if found and document.get("spec", "target") is None and not _names_target(overrides):
        document = put(document, ("spec", "target", "existing"), _server(found))
    environment = os.environ if env is None else env
    document = assign.assign(document, assign.from_environment(environment, findings))
    document = assign.assign(document, assign.from_flags(sets))
    if overrides:
        document = merge(document, _for_target(document, tree_of(overrides, "flag")))
    return _finish(with_absolute_paths(document), findings)


def load_resolved(text: str, name: str = "config.yaml") -> BenchmarkConfig:
    """The configuration of a run folder, as ``LoadedConfig.to_yaml`` wrote it; environment and flags play no part.

    Raises:
        ConfigError: the text is no valid configuration.
    """
    return _finish(to_document(read_text(text, name), []), []).config


def _read(
    files: Sequence[Path], load_generator: str | None, own_file: OwnFileOf, findings: list[Finding]
) -> tuple[Node, list[Node]]:
    """The merged documents, and the files that are the picked generator's own configuration."""
    trees = _all([lambda f=f: read_file(f) for f in files])  # type: ignore[misc]
    own = [t for t in trees if load_generator is not None and _is_own(load_generator, t, own_file)]
    documents = _all([lambda t=t: to_document(t, findings) for t in trees if t not in own])  # type: ignore[misc]
    document = Node({}, "the configuration")
    for layer in documents:
        document = merge(document, layer)
    return document, own


def _is_own(load_generator: str, file: Node, own_file: OwnFileOf) -> bool:
    return is_generator_config(file) or is_of(own_file(load_generator), file, ENVELOPE | BLOCKS)


def _translated(
    own: Sequence[Node], document: Node, tool: str, own_file: OwnFileOf, findings: list[Finding]
) -> tuple[Node | None, list[Node]]:
    """A tool's own files, later over earlier, as common keys and ``native``, and the target that they name."""
    if not own:
        return None, []
    beside = {key for item in generators_for(document, tool) for key in _keys(item.get("config"))}
    keys, target = own_keys(tool, own_file(tool), reduce(merge, own), LOAD_SPELLINGS, findings, beside)
    return keys, [] if target is None else [target]


def _keys(config: Node | None) -> set[str]:
    return set(config.value) if config is not None and config.is_mapping else set()


def _server(named: Sequence[Node]) -> Node:
    """The server that tools' own files name.

    Raises:
        ConfigError: they do not agree.
    """
    found = named[0]
    for other in named[1:]:
        first, second = found.get("url"), other.get("url")
        if first is not None and second is not None and first.value != second.value:
            raise ConfigError(
                f"{second.origin}: the server {second.value} is not the one of {first.origin}, {first.value}",
                advice="the load generators of a run measure the same server: give it as spec.target, or --url URL",
            )
        found = merge(other, found)
    return found


def _names_target(overrides: Mapping[str, Any] | None) -> bool:
    """Whether flags choose a target that is not an existing server."""
    target = ((overrides or {}).get("spec") or {}).get("target") or {}
    return target.get("type") not in (None, "existing")


def _all(steps: Sequence[Callable[[], T]]) -> list[T]:
    """The result of every step; all errors in one."""
    results: list[T] = []
    errors: list[ConfigError] = []
    for step in steps:
        try:
            results.append(step())
        except ConfigError as error:
            errors.append(error)
    if errors:
        advice = dict.fromkeys(e.advice for e in errors if e.advice)
        raise ConfigError("\n".join(e.message for e in errors), advice="\n".join(advice) or None)
    return results


def _with_config_files(document: Node, own_file: OwnFileOf, findings: list[Finding]) -> tuple[Node, list[Node]]:
    """Each generator's keys over those of the file that spec.load_generators.NAME.config_file names, and the targets
    that these files name.
    """
    targets: list[Node] = []
    for i, kind in enumerate(generator_types(document)):
        named = document.get("spec", "load_generators", kind, "config_file")
        if named is None or not isinstance(named.value, str):
            continue
        path = folder_of(named) / Path(named.value).expanduser()
        if not path.exists():
            findings.append(
                Finding(
                    "config_file_missing",
                    Severity.WARNING,
                    f"{named.origin}: {path} does not exist; '{kind}' runs with its keys in spec.benchmark alone",
                )
            )
            continue
        config = document.get(*GENERATORS, i, "config")
        keys, target = own_keys(kind, own_file(kind), read_file(path), LOAD_SPELLINGS, findings, _keys(config))
        targets += [] if target is None else [target]
        base = load_keys(keys)
        document = put(document, (*GENERATORS, i, "config"), base if config is None else merge(base, config))
    return document, targets


def _for_target(document: Node, overrides: Node) -> Node:
    """``--model`` without ``--url`` and ``--target`` is the model of whatever target the files name."""
    block = overrides.get("spec", "target", "existing")
    target = document.get("spec", "target")
    if block is None or overrides.get("spec", "target", "type") is not None or target is None:
        return overrides
    kind = target.get("type") or (target if isinstance(target.value, str) else None)
    blocks = [k for k in target.value if k != "type"] if target.is_mapping else []
    name = str(kind.value) if kind is not None else blocks[0] if len(blocks) == 1 else "existing"
    if name == "existing":
        return overrides
    holder = overrides.get("spec", "target")
    return (
        overrides
        if holder is None
        else put(overrides, ("spec", "target"), Node({**without(holder, "existing").value, name: block}, "flag"))
    )


def _finish(document: Node, findings: list[Finding]) -> LoadedConfig:
    if written_out := refuse_literals(document):
        raise ConfigError("\n".join(written_out), advice="for example  api_key: {env: OPENAI_API_KEY}")
    config = fill(validate(document))
    data = config.to_dict()
    return LoadedConfig(
        config=config,
        origins=_origins(document, data),
        warnings=tuple(findings),
        digest=digest_of(config),
    )


def digest_of(config: BenchmarkConfig) -> str:
    """``LoadedConfig.digest`` of a resolved configuration."""
    text = json.dumps(config.to_dict(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _origins(document: Node, data: Any, path: KeyPath = ()) -> dict[str, str]:
    if isinstance(data, dict) and data:
        items: list[tuple[str | int, Any]] = list(data.items())
    elif isinstance(data, list) and data:
        items = list(enumerate(data))
    else:
        return {format_path(path): _origin(document, path)}
    found: dict[str, str] = {}
    for key, value in items:
        found.update(_origins(document, value, (*path, key)))
    return found


def _origin(document: Node, path: KeyPath) -> str:
    """What gave a value: its own node, or the scalar that stands for the whole (``input_length: 512``)."""
    node = document
    for part in path:
        child = node.get(part)
        if child is None:
            return DEFAULT if node.is_mapping or node.is_list else node.origin
        node = child
    return node.origin
